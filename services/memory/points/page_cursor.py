"""Encode the id of the next point as the cursor of a listing, and decode it."""

import base64
import binascii
import uuid

from visual_memory.schemas.errors import InvalidCursor


def to_cursor(point: str | None) -> str | None:
    """The cursor of the page that starts with a point; None at the end."""
    return None if point is None else base64.urlsafe_b64encode(uuid.UUID(point).bytes).decode().rstrip("=")


def point_of(cursor: str | None) -> str | None:
    """The point at which the page of a cursor starts; None at the beginning.

    Raises:
        InvalidCursor: it is not a cursor that `to_cursor` made.
    """
    if cursor is None:
        return None
    try:
        return str(uuid.UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)))
    except (binascii.Error, ValueError):
        raise InvalidCursor from None


def random_cursor() -> str:
    """A cursor at a random position, from which every image is equally likely to come first."""
    return to_cursor(str(uuid.uuid4())) or ""
