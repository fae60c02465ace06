"""Dead letters of the intake, as callers see them."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class ShownDeadLetter(BaseModel):
    """What was sent to the intake and could not be accepted.

    Attributes:
        id: of the dead letter.
        at: when it died.
        entry: the id that Redis gave to the entry.
        event_id: the producer's own id of the event; null where it could not be read.
        status: ``rejected``, if it was an event and was refused; ``dead``, if it was none or could not be handled.
        reason: why.
        deliveries: how often it was tried.
        inbox: what it was sent to: ``intake`` or ``removals``.
        bytes: of the original.
        event: the original, as text.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    at: datetime
    entry: str
    event_id: str | None = None
    status: str
    reason: str
    deliveries: int
    inbox: str
    bytes: int
    event: str


class DeadLetterPage(BaseModel):
    """One page of dead letters, the oldest first; ``cursor`` asks for the next and is null on the last."""

    letters: list[ShownDeadLetter]
    cursor: str | None = None
