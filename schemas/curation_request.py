"""Curation of remembered images: mute, unmute or relabel, by filter or by wrong votes."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.text_rules import Labels


class Action(StrEnum):
    """``mute``: images stop voting; ``unmute``: muted images vote again; ``relabel``: images get other labels."""

    MUTE = "mute"
    UNMUTE = "unmute"
    RELABEL = "relabel"


class CurationRequest(BaseModel):
    """The action, and the images that it covers.

    Attributes:
        filter: images that meet it; not empty, unless `wrong_votes` is given.
        labels: the new labels, for ``relabel``.
        wrong_votes: only images with at least this number of wrong votes in the current judgement; for ``mute``. A
            removal unmutes them, as removed images may have caused these votes.
        dry_run: only count the images.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    filter: Filter = Filter({})
    labels: Labels = Field(default_factory=list)
    wrong_votes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _check_combination(self) -> "CurationRequest":
        if not self.filter and self.wrong_votes is None:
            raise ValueError("give a filter with at least one condition")
        if (self.action is Action.RELABEL) != bool(self.labels):
            raise ValueError("labels are given to relabel, and only then")
        if self.wrong_votes is not None and self.action is not Action.MUTE:
            raise ValueError("wrong_votes is only for mute")
        return self


class Curated(BaseModel):
    """The number of images that were changed, or with `dry_run` would be."""

    action: Action
    images: int
