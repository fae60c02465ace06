"""Load the first items of a list, and say how many more there are."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from visual_memory.schemas.page import Page

Item = TypeVar("Item")
MAX_PAGE = 1000


def first_items(method: "Callable[..., Page[Item]]", limit: int, *args: Any, **kwargs: Any) -> Iterator[Item]:
    """The first items of a list; if it has more, their number is printed on standard error at the end.

    Args:
        method: a method of the client that returns a page of the list.
        limit: the maximum number of items, at least 1.
        args: arguments of the method.
        kwargs: its arguments by name.
    """
    cursor, left = None, limit
    while left:
        page = method(*args, **kwargs, limit=min(left, MAX_PAGE), cursor=cursor)
        yield from page.data
        cursor, left = page.next_cursor, left - len(page.data)
        if cursor is None:
            return
    counted = method(*args, **kwargs, limit=1, total=True)
    if more := max(0, (counted.total or 0) - limit):
        typer.echo(f"... and {'about ' * bool(counted.total_is_estimate)}{more} more", err=True)
