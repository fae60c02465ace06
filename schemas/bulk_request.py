"""A change of many images at once, by filter or by image ids."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.curation_request import NewLabels
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImagePatch
from visual_memory.schemas.text_rules import ImageId

MAX_IDS = 10_000


class BulkAction(OpenEnum):
    """As `Action`, and ``amend``: labels and fields of images change as one patch says."""

    RELABEL = "relabel"
    MUTE = "mute"
    UNMUTE = "unmute"
    AMEND = "amend"


class BulkRequest(BaseModel):
    """The action, and the images that it covers: by filter or by image ids."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "anyOf": [
                {"required": ["image_ids"], "properties": {"image_ids": {"minItems": 1}}},
                {"required": ["filter"], "properties": {"filter": {"minProperties": 1}}},
            ]
        },
    )

    action: BulkAction = Field(description="what is done to the images", examples=["amend"])
    filter: Filter | None = Field(
        default=None,
        description="the images that meet it, with at least one condition; instead of `image_ids`",
        examples=[{"source": "camera-1"}],
    )
    image_ids: Annotated[list[ImageId], Field(max_length=MAX_IDS)] = Field(
        default_factory=list,
        description="the ids of the images, at most 10,000; those without an image are left out",
        examples=[["cat-1", "cat-2"]],
    )
    labels: NewLabels = Field(default_factory=list)
    patch: ImagePatch | None = Field(
        default=None,
        description="for `amend` and only for it: fields that it leaves out stay, and null clears a field",
        examples=[{"source": "camera-2"}],
    )

    @model_validator(mode="after")
    def _check_combination(self) -> "BulkRequest":
        if bool(self.image_ids) == bool(self.filter):
            raise ValueError("name the images by image_ids, or by a filter with at least one condition: one of the two")
        if (self.action is BulkAction.RELABEL) != bool(self.labels):
            raise ValueError("labels are given to relabel, and only then")
        if (self.action is BulkAction.AMEND) != (self.patch is not None):
            raise ValueError("a patch is given to amend, and only then")
        if self.patch is not None and not self.patch.model_fields_set:
            raise ValueError("the patch changes nothing: give at least one field")
        return self
