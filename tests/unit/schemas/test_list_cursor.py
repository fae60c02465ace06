"""Cursors are text that leads back to a position of their own list, and to nothing else."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_memory.schemas.errors import InvalidCursor
from visual_memory.schemas.list_cursor import CursorNumber, CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import Page, PageRequest

COUNTED = ListCursors("counted", tuple[CursorNumber, CursorText])
OTHER = ListCursors("other", tuple[CursorNumber, CursorText])
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


@given(st.integers(-(2**63), 2**63 - 1), TEXTS)
def test_a_cursor_leads_back_to_its_position_and_is_fit_for_a_url(number: int, text: str) -> None:
    cursor = COUNTED.encode((number, text))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", cursor)
    assert COUNTED.decode(cursor) == (number, text)
    with pytest.raises(InvalidCursor):
        OTHER.decode(cursor)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_moment_keeps_its_microseconds(moment: datetime) -> None:
    cursors = ListCursors("at", tuple[Moment])
    assert cursors.decode(cursors.encode((moment,))) == (moment,)


@given(st.text(max_size=60))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        COUNTED.decode(text)


@given(st.integers(0, 40), st.integers(0, 63))
def test_a_changed_character_is_refused(place: int, character: int) -> None:
    cursor = COUNTED.encode((17, "a label"))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place %= len(cursor)
    changed = cursor[:place] + alphabet[character] + cursor[place + 1 :]
    if changed != cursor:
        with pytest.raises(InvalidCursor):
            COUNTED.decode(changed)


@pytest.mark.parametrize(
    "data", [b"[1]", b'["a",1]', b'[1,"\\u0000"]', b'[1,"\\ud800"]', b"[9223372036854775808,1]", b"{"]
)
def test_a_forged_position_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidCursor):
        COUNTED.decode(COUNTED._text(data))


@given(st.lists(st.integers(-50, 50), unique=True, max_size=30).map(sorted), st.integers(1, 7), st.integers(-60, 60))
def test_pages_of_a_list_in_memory_have_each_item_once_whatever_comes_or_goes(
    items: list[int], limit: int, other: int
) -> None:
    cursors = ListCursors("numbers", tuple[int])

    def page(cursor: str | None, now: list[int]) -> Page[str]:
        return cursors.page(
            now, lambda item: (item,), PageRequest(limit, cursor, total=True), lambda some: [*map(str, some)]
        )

    seen, cursor, now = list[str](), None, items
    while True:
        found = page(cursor, now)
        assert found.total == len(now)
        seen += found.data
        now = sorted({*items} ^ {other})  # one item comes or goes after the first page
        cursor = found.next_cursor
        assert found.has_more == (cursor is not None)
        if cursor is None:
            break
    assert [each for each in seen if each != str(other)] == [str(item) for item in items if item != other]
