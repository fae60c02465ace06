"""A stored decision: the decision with everything that is needed to make it again."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy
from visual_memory.schemas.decision import Decision


class StoredDecision(BaseModel):
    """A decision with its query.

    Attributes:
        asked_at: the time of the search for neighbours, or a moment before.
        asked_by: who sent the query, as the API knows them.
        query: the vector: float32, little-endian, in base64.
        content_hash: SHA-256 of the picture; null where a vector was sent.
        scrubbed: the number of its neighbours that were removed. The votes were counted again without them, with
            reliability 1 for all others, and without novelty, prediction set and re-rank.
        options: as they were applied.
        decision: with all its neighbours, whatever `show` was.
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
    def _from_earlier_version(cls, record: Any) -> Any:
        """Read records of earlier versions; see `_from_first_version` and `_from_second_version`."""
        if not isinstance(record, dict):
            return record
        return _from_second_version(record if "options" in record else _from_first_version(record))

    @property
    def id(self) -> str:
        """The decision's id."""
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


def _from_first_version(record: dict[str, Any]) -> dict[str, Any]:
    """Convert a record with the options in the decision, a flag ``exact``, and no shared votes."""
    decision = {**record["decision"]}
    options = {"group_by": GroupBy.NONE, **decision.pop("options")}
    if "exact" in options:
        options["search"] = Effort.EXACT if options.pop("exact") else Effort.BALANCED
    return {**record, "options": options, "decision": decision}


def _from_second_version(record: dict[str, Any]) -> dict[str, Any]:
    """Convert a record whose option `effort` has the name ``search``, and whose shares are percentages."""
    if not isinstance(record["options"], dict) or "search" not in record["options"]:
        return record
    options, decision = {**record["options"]}, {**record["decision"]}
    options["effort"] = options.pop("search")
    if options.get("unknown_above") is not None:
        options["unknown_above"] /= 100
    if novelty := decision.get("novelty"):
        share = novelty["percentile"]
        decision["novelty"] = {"distance": novelty["distance"], "quantile": None if share is None else share / 100}
    return {**record, "options": options, "decision": decision}
