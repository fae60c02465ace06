"""The first items of a list, however long its pages are, and how many there are more."""

import pytest

from visual_memory.schemas.list_cursor import ListCursors
from visual_memory.schemas.page import Page, PageRequest
from visual_memory.services.cli.first_items import first_items

CURSORS = ListCursors("numbers", tuple[int])


def numbers(below: int, *, limit: int, cursor: str | None = None, total: bool = False) -> Page[int]:
    """A page of a list of numbers, as a client's method returns it; at most 7 on a page."""
    asked = PageRequest(min(limit, 7), cursor, total)
    return CURSORS.page(range(below), lambda number: (number,), asked, lambda some: some)


@pytest.mark.parametrize(
    ("below", "limit", "says"), [(0, 5, ""), (5, 5, ""), (6, 5, "... and 1 more\n"), (30, 20, "... and 10 more\n")]
)
def test_as_many_as_wanted_and_how_many_more(
    below: int, limit: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [*first_items(numbers, limit, below)] == [*range(min(below, limit))]
    assert capsys.readouterr() == ("", says)
