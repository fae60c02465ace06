"""Where a listing goes on: the id of a point, as callers are given it."""

import base64
import binascii
import uuid

from visual_memory.schemas.errors import InvalidRequest


def to_cursor(point: str | None) -> str | None:
    """The cursor that a listing goes on from with this point; None at the end."""
    return None if point is None else base64.urlsafe_b64encode(uuid.UUID(point).bytes).decode().rstrip("=")


def point_of(cursor: str | None) -> str | None:
    """The point of a cursor; None at the beginning.

    Raises:
        InvalidRequest: the cursor is not one of ours.
    """
    if cursor is None:
        return None
    try:
        return str(uuid.UUID(bytes=base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)))
    except (binascii.Error, ValueError):
        raise InvalidRequest("cursor: not one that a page of this listing ended with; begin without") from None


def random_cursor() -> str:
    """A cursor from which on the following images are as likely as any others."""
    return to_cursor(str(uuid.uuid4())) or ""
