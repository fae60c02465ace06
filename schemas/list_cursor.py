"""Opaque cursors of lists: where the next page begins, as text that clients send back unread.

A cursor has the position of the last item of a page: the values by which its list is ordered. It names no tenant, and
grants nothing. Its text is a version, a check sum and the position as JSON, in base64url.
"""

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, StringConstraints, TypeAdapter

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.page import Page, PageRequest

VERSION = b"\x01"
CHECK_BYTES = 4
MAX_CHARS = 4096

CursorText = Annotated[str, StringConstraints(pattern=r"\A[^\x00]*\z")]
"""Text in a position; PostgreSQL compares none with NUL."""
CursorNumber = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A whole number in a position; databases compare those of 64 bits."""

Position = TypeVar("Position", bound=tuple[Any, ...])
Item = TypeVar("Item")
Shown = TypeVar("Shown")


class ListCursors(Generic[Position]):
    """The cursors of one list in one order.

    Args:
        name: of the list and its order: a cursor of another one is refused.
        position: the type of its positions, a tuple of values that JSON can hold.
    """

    def __init__(self, name: str, position: type[Position]) -> None:
        self._name = name.encode()
        self._positions: TypeAdapter[Position] = TypeAdapter(position)

    def encode(self, position: Position) -> str:
        """The cursor of the page that follows the item at a position."""
        return self._text(self._positions.dump_json(position))

    def decode(self, cursor: str | None) -> Position | None:
        """The position of the last item of the page before; None: there is none.

        Raises:
            InvalidCursor: it is not a cursor of this list and order.
        """
        if cursor is None:
            return None
        if len(cursor) > MAX_CHARS:
            raise InvalidCursor
        try:
            content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            data = content[len(VERSION) + CHECK_BYTES :]
            if self._text(data) != cursor:
                raise InvalidCursor
            return self._positions.validate_json(data)
        except (binascii.Error, ValueError):  # pydantic's ValidationError is a ValueError
            raise InvalidCursor from None

    def page(
        self,
        items: Sequence[Item],
        position_of: Callable[[Item], Position],
        asked: PageRequest,
        shown: Callable[[Sequence[Item]], Sequence[Shown]],
    ) -> Page[Shown]:
        """A page of a list that is in memory.

        Args:
            items: the whole list, in ascending order of its positions, which are unique.
            position_of: the position of an item.
            asked: which page.
            shown: converts the items of the page, and only those.

        Raises:
            InvalidCursor: the cursor is not one of this list and order.
        """
        position = self.decode(asked.cursor)
        start = 0 if position is None else bisect_right(items, position, key=position_of)
        page = items[start : start + asked.limit]
        following = self.encode(position_of(page[-1])) if start + asked.limit < len(items) else None
        return Page.of(shown(page), following, len(items) if asked.total else None)

    def _text(self, data: bytes) -> str:
        check_sum = sha256(self._name + b"\0" + data).digest()[:CHECK_BYTES]
        return base64.urlsafe_b64encode(VERSION + check_sum + data).decode().rstrip("=")
