"""A page of a list: the one shape of all list answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


@dataclass(frozen=True)
class PageRequest:
    """Which page of a list is asked for.

    Attributes:
        limit: the maximum number of items, 1 to `MAX_LIMIT`.
        cursor: the `next_cursor` of the page before; None: the first page.
        total: whether to count the items of all pages.
    """

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    total: bool = False


FIRST_PAGE = PageRequest()


def is_none(value: Any) -> bool:
    """Whether a field is left out of answers, as ``exclude_if`` asks."""
    return value is None


class Page(BaseModel, Generic[Item]):
    """A page of a list."""

    model_config = ConfigDict(frozen=True)

    data: list[Item] = Field(description="the items of this page")
    next_cursor: str | None = Field(
        description="the `cursor` of the next page; null on the last page", examples=["AYf0lW1bMTcsImNhdCJd"]
    )
    has_more: bool = Field(description="whether there is a next page", examples=[True])
    total: int | None = Field(
        default=None,
        exclude_if=is_none,
        description="the number of items on all pages; only if `total=true` is sent",
        examples=[1234],
    )
    total_is_estimate: bool | None = Field(
        default=None,
        exclude_if=is_none,
        description="whether the total is an estimate; only with a total",
        examples=[False],
    )

    @classmethod
    def of(
        cls,
        items: Iterable[Item],
        next_cursor: str | None,
        total: int | None = None,
        *,
        total_is_estimate: bool = False,
    ) -> "Page[Item]":
        """A page with the cursor of the next one, if there is one, and the total, if it is known."""
        return cls(
            data=list(items),
            next_cursor=next_cursor,
            has_more=next_cursor is not None,
            total=total,
            total_is_estimate=None if total is None else total_is_estimate,
        )

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """The name of the model of such pages, ``ImagePage``, in the OpenAPI document."""
        return f"{params[0].__name__}Page"

    @classmethod
    def whole(cls, items: Iterable[Item]) -> "Page[Item]":
        """A list that is a single page."""
        return cls(data=list(items), next_cursor=None, has_more=False)
