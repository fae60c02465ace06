"""Encode where the next page of a listing starts as its cursor, and decode it."""

import base64
import binascii
import uuid
from typing import get_args

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.image_search import ImageSort
from visual_memory.schemas.list_cursor import ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.services.vector_engines.engine_contract import Position

_SORTED = {sort: ListCursors(f"images {sort}", tuple[Moment | None, uuid.UUID]) for sort in get_args(ImageSort)}
"""The cursors of each order: the moment and the id of a point."""


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
    return _SORTED[sort].encode((position.moment, uuid.UUID(position.id)))


def position_of(sort: ImageSort, cursor: str | None) -> Position | None:
    """The position at which the page of a cursor starts; None at the beginning.

    Raises:
        InvalidCursor: it is not a cursor that `to_sorted_cursor` made for this order.
    """
    position = _SORTED[sort].decode(cursor)
    return None if position is None else Position(position[0], str(position[1]))


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
