"""A search for images: a filter, an order, or the images most similar to one."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Image
from visual_memory.schemas.text_rules import ImageId

ImageSort = Literal["accepted_at", "-accepted_at", "captured_at", "-captured_at"]
"""The order of images by a moment, the earliest first; with ``-`` the latest first. Images without it come last."""
LATEST_FIRST: ImageSort = "-accepted_at"
SORT_DESCRIPTION = (
    "the order: `accepted_at` or `captured_at`, the earliest first; with `-` the latest first. Images with the same "
    "moment come in a fixed order, images without one last"
)
MAX_NUMBERS = 8_192
"""Of a vector; no encoder has as many."""
PAGED = frozenset({"sort", "cursor", "total"})


class SimilarTo(BaseModel):
    """What images are compared with: an image of the memory, or a vector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_id: ImageId | None = Field(
        default=None, description="the id of an image of the memory; it is not in the answer", examples=["tom-1"]
    )
    vector: Annotated[list[FiniteFloat], Field(min_length=1, max_length=MAX_NUMBERS, fail_fast=True)] | None = Field(
        default=None,
        description="a vector of the active encoder, of any length but zero",
        examples=[[0.12, -0.4, 0.91]],
    )

    @model_validator(mode="after")
    def _names_one(self) -> "SimilarTo":
        if (self.image_id is None) == (self.vector is None):
            raise ValueError("takes either image_id or vector")
        return self


class ImageSearch(BaseModel):
    """A search for images, for filters that are too long for a URL, and for the images most similar to one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: Filter = Field(
        default=Filter({}),
        description="the conditions that the images meet; without it, all images",
        examples=[{"labels": "animal", "source": ["camera-1", "camera-2"]}],
    )
    similar_to: SimilarTo | None = Field(
        default=None,
        description="find the images that are most similar to this, the most similar first, on a single page of at "
        "most `limit`; `sort`, `cursor` and `total` are not sent with it",
        examples=[{"image_id": "tom-1"}],
    )
    sort: ImageSort = Field(default=LATEST_FIRST, description=SORT_DESCRIPTION, examples=["captured_at"])
    limit: int = Field(
        default=100, ge=1, le=1000, description="the maximum number of images of the page", examples=[50]
    )
    cursor: str | None = Field(
        default=None,
        description="the `next_cursor` of the page before, sent with the same other fields; without it, the first page "
        "is returned",
        examples=["AAAGTqF0mTsAAQbVz6sPWlBj"],
    )
    total: bool = Field(default=False, description="whether to count the images of all pages", examples=[True])

    @model_validator(mode="after")
    def _is_paged_or_similar(self) -> "ImageSearch":
        if self.similar_to is not None and (extra := sorted(PAGED & self.model_fields_set)):
            raise ValueError(f"{extra[0]} is not sent with similar_to: the most similar images are a single page")
        return self


def _is_none(value: Any) -> bool:
    return value is None


class FoundImage(Image):
    """An image that a search found."""

    similarity: float | None = Field(
        default=None,
        exclude_if=_is_none,
        description="the cosine similarity to what was searched for, -1 to 1; only with `similar_to`",
        examples=[0.87],
    )
