"""Curation of images: mute, unmute or relabel, by filter or by wrong votes."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.compatibility import OpenEnum
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.text_rules import Labels

NewLabels = Annotated[
    Labels,
    Field(description="the new labels, for `relabel` and only for it", examples=[["animal/cat"]]),
]


class Action(OpenEnum):
    """``mute``: images stop voting; ``unmute``: muted images vote again; ``relabel``: images get other labels."""

    MUTE = "mute"
    UNMUTE = "unmute"
    RELABEL = "relabel"


class CurationRequest(BaseModel):
    """The action, and the images that it covers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action = Field(description="what is done to the images", examples=["mute"])
    filter: Filter = Field(
        default=Filter({}),
        description="the images; at least one condition, unless `wrong_votes` is given",
        examples=[{"source": "camera-1"}],
    )
    labels: NewLabels = Field(default_factory=list)
    wrong_votes: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description=(
            "only images with at least this number of wrong votes in the current judgement; for `mute`. A removal"
            " unmutes them where removed images caused these votes"
        ),
        examples=[16],
    )

    @model_validator(mode="after")
    def _check_combination(self) -> "CurationRequest":
        if not self.filter and self.wrong_votes is None:
            raise ValueError("give a filter with at least one condition")
        if (self.action is Action.RELABEL) != bool(self.labels):
            raise ValueError("labels are given to relabel, and only then")
        if self.wrong_votes is not None and self.action is not Action.MUTE:
            raise ValueError("wrong_votes is only for mute")
        return self
