"""A stored decision: the decision with everything that is needed to make it again."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy
from visual_memory.schemas.decision import Decision


class StoredDecision(BaseModel):
    """A decision that was kept, with what it takes to make it again.

    Attributes:
        asked_at: when its neighbours were searched for, or a moment before.
        asked_by: who asked, as the API knows them.
        query: the vector that was asked with: float32, little-endian, in base64.
        content_hash: SHA-256 of the picture that was asked with; null where it was a vector.
        scrubbed: how many of its neighbours are gone from the memory, and so from here: the votes were counted again
            without them, each as reliable as any, and what else had been made of them (novelty, prediction set,
            re-rank) was dropped.
        options: as they were applied.
        decision: with all its neighbours, however many were shown.
    """

    model_config = ConfigDict(frozen=True)

    asked_at: datetime
    asked_by: str
    query: str
    content_hash: str | None = None
    scrubbed: int = 0
    options: ClassifyOptions
    decision: Decision

    @model_validator(mode="before")
    @classmethod
    def _with_former_words(cls, record: Any) -> Any:
        """Read what was kept when options were the decision's, had a flag ``exact``, and no image shared its vote."""
        if not isinstance(record, dict) or "options" in record:
            return record
        decision = {**record["decision"]}
        options = {"group_by": GroupBy.NONE, **decision.pop("options")}
        if "exact" in options:
            options["search"] = Effort.EXACT if options.pop("exact") else Effort.BALANCED
        return {**record, "options": options, "decision": decision}

    @property
    def id(self) -> str:
        """What it is looked up by."""
        return str(self.decision.id)


class DecisionSummary(BaseModel):
    """A line of the list of stored decisions; the fields are those of `StoredDecision` and its decision."""

    id: str
    asked_at: datetime
    asked_by: str
    label: str | None
    margin: float
    voters: int
    scrubbed: int
