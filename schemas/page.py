"""A page of a list: the one shape of all list answers."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")


def _is_none(value: Any) -> bool:
    return value is None


class Page(BaseModel, Generic[Item]):
    """A page of a list."""

    model_config = ConfigDict(frozen=True)

    data: list[Item] = Field(description="the items of this page")
    next_cursor: str | None = Field(description="the cursor of the next page; null on the last page")
    has_more: bool = Field(description="whether there is a next page")
    total: int | None = Field(
        default=None, exclude_if=_is_none, description="the number of items on all pages; only if `total=true` is sent"
    )
    total_is_estimate: bool | None = Field(
        default=None, exclude_if=_is_none, description="whether the total is an estimate; only with a total"
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
