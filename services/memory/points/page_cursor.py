"""Encode where the next page of a listing starts as its cursor, and decode it."""

import base64
import binascii
import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import get_args

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.image_search import ImageSort
from visual_memory.services.vector_engines.engine_contract import Position

_SORTS: tuple[ImageSort, ...] = get_args(ImageSort)
_POSITION = struct.Struct(">Bq16s")
"""Number of the order, microseconds since 1970 in UTC, id of the point."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NO_MOMENT = -(2**63)


def to_cursor(point: str | None) -> str | None:
    """The cursor of the page that starts with a point; None at the end."""
    return None if point is None else _encode(uuid.UUID(point).bytes)


def point_of(cursor: str | None) -> str | None:
    """The point at which the page of a cursor starts; None at the beginning.

    Raises:
        InvalidCursor: it is not a cursor that `to_cursor` made.
    """
    if cursor is None:
        return None
    try:
        return str(uuid.UUID(bytes=_decode(cursor)))
    except ValueError:
        raise InvalidCursor from None


def random_cursor() -> str:
    """A cursor at a random position, from which every image is equally likely to come first."""
    return to_cursor(str(uuid.uuid4())) or ""


def to_sorted_cursor(sort: ImageSort, position: Position) -> str:
    """The cursor of the page that starts at a position of an order."""
    moment = _NO_MOMENT if position.moment is None else (position.moment - _EPOCH) // _MICROSECOND
    return _encode(_POSITION.pack(_SORTS.index(sort), moment, uuid.UUID(position.id).bytes))


def position_of(sort: ImageSort, cursor: str | None) -> Position | None:
    """The position at which the page of a cursor starts; None at the beginning.

    Raises:
        InvalidCursor: it is not a cursor that `to_sorted_cursor` made for this order.
    """
    if cursor is None:
        return None
    try:
        number, moment, point = _POSITION.unpack(_decode(cursor))
        at = None if moment == _NO_MOMENT else _EPOCH + moment * _MICROSECOND
    except (struct.error, ValueError, OverflowError):
        raise InvalidCursor from None
    if number != _SORTS.index(sort):
        raise InvalidCursor
    return Position(at, str(uuid.UUID(bytes=point)))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(cursor: str) -> bytes:
    """The bytes of a cursor.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
