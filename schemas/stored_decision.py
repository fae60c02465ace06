"""A stored decision: the decision with everything that is needed to make it again."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy
from visual_memory.schemas.decision import Decision


class StoredDecision(BaseModel):
    """A decision with its query."""

    model_config = ConfigDict(frozen=True)

    asked_at: datetime = Field(
        description="the time of the search for neighbours, or a moment before", examples=["2026-01-31T12:00:00Z"]
    )
    asked_by: str = Field(
        description="who sent the query, as the API knows them", examples=["camera (key 9f86d081884c)"]
    )
    query: str = Field(description="the vector: float32, little-endian, in base64", examples=["AAAAAA=="])
    content_hash: str | None = Field(
        default=None,
        description="SHA-256 of the picture; null where a vector was sent",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    scrubbed: int = Field(
        default=0,
        description=(
            "the number of its neighbours that were removed. The votes were counted again without them, with "
            "reliability 1 for all others, and without novelty, prediction set and re-rank."
        ),
        examples=[0],
    )
    options: ClassifyOptions = Field(description="as they were applied")
    decision: Decision = Field(description="with all its neighbours, whatever `show` was")

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

    id: str = Field(description="the decision's id", examples=["4f1c0a7b9d2e"])
    asked_at: datetime = Field(description="when it was made", examples=["2026-01-31T12:00:00Z"])
    asked_by: str = Field(description="who sent the query", examples=["camera (key 9f86d081884c)"])
    label: str | None = Field(description="its label; null: none", examples=["cat"])
    margin: float = Field(description="the share of the winner less that of the second, 0 to 1", examples=[0.42])
    voters: int = Field(description="the number of neighbours that voted", examples=[50])
    scrubbed: int = Field(description="the number of its neighbours that were removed since", examples=[0])


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
