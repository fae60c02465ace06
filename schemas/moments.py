"""Rules for moments: a date and a time with its time zone, stored in UTC; the same in every interface."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)


def _moment_text(value: object) -> object:
    """Refuse numbers, which could be seconds or milliseconds, and dates without a time."""
    if not isinstance(value, datetime) and not (isinstance(value, str) and "T" in value.upper()):
        raise ValueError("a moment is written with its time zone: 2026-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment is within the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_moment_text), AfterValidator(_in_utc)]
