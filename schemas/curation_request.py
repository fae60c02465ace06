"""A curation: what is done to remembered images without forgetting them."""

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.text_rules import Labels


class Action(StrEnum):
    """``mute``: they vote no more; ``unmute``: those that were muted vote again; ``relabel``: they get other labels."""

    MUTE = "mute"
    UNMUTE = "unmute"
    RELABEL = "relabel"


class CurationRequest(BaseModel):
    """What to do to which images.

    Attributes:
        filter: those that meet it; never empty, unless `wrong_votes` is given.
        labels: the new labels of all of them, to ``relabel``.
        wrong_votes: only images that gave at least so many wrong votes, as the current judgement has it; to ``mute``.
            A removal unmutes them again, for what was removed may have had a part in these votes.
        dry_run: only count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Action
    filter: Filter = Filter({})
    labels: Labels = Field(default_factory=list)
    wrong_votes: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> "CurationRequest":
        if not self.filter and self.wrong_votes is None:
            raise ValueError("give a filter with at least one condition")
        if (self.action is Action.RELABEL) != bool(self.labels):
            raise ValueError("labels are given to relabel, and only then")
        if self.wrong_votes is not None and self.action is not Action.MUTE:
            raise ValueError("wrong_votes is only for mute")
        return self


class Curated(BaseModel):
    """How many images it changed; with `dry_run`, would change."""

    action: Action
    images: int
