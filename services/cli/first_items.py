"""Load the first items of a list, and say how many more there are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from visual_memory.schemas.page import Page

Item = TypeVar("Item")
MAX_PAGE = 1000


def first_items(method: "Callable[..., Page[Item]]", limit: int, *args: Any) -> list[Item]:
    """The first items of a list; if it has more, their number is printed on standard error.

    Args:
        method: a method of the client that returns a page of the list.
        limit: the maximum number of items.
        args: arguments of the method.
    """
    items: list[Item] = []
    cursor = None
    while len(items) < limit:
        page = method(*args, limit=min(limit - len(items), MAX_PAGE), cursor=cursor)
        items += page.data
        cursor = page.next_cursor
        if cursor is None:
            return items
    counted = method(*args, limit=1, total=True)
    if more := max(0, (counted.total or 0) - len(items)):
        typer.echo(f"... and {'about ' * bool(counted.total_is_estimate)}{more} more", err=True)
    return items
