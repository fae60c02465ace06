"""The review queue: images, suspects and stored decisions that are worth a look; marks and claims of them."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visual_memory.schemas.compatibility import OpenEnum

CLAIM_SECONDS = 60
"""How long a claim holds items."""
MAX_CLAIMED = 100
"""The maximum number of items of one claim."""
CLOSE_MARGIN = 0.2
"""Stored decisions with a smaller margin are close."""
UNKNOWN_SCORE, HELD_SCORE, WARNED_SCORE = 0.9, 1.0, 0.9


class ReviewKind(OpenEnum):
    """What an item is: an image that the label check doubts, a suspect of the judgement, or a stored decision."""

    IMAGE = "image"
    SUSPECT = "suspect"
    DECISION = "decision"


KIND = "`image`: the label check doubts it; `suspect`: of the current judgement; `decision`: a stored decision"
ItemId = Annotated[str, Field(min_length=1, max_length=300)]


class ItemName(BaseModel):
    """Names an item of the review queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ReviewKind = Field(description=KIND, examples=["image"])
    id: ItemId = Field(
        description="the id of the image or of the decision; of a suspect, its suspicion and the image's id, joined by"
        " a colon",
        examples=["cat-17"],
    )


class ReviewItem(ItemName):
    """An item of the review queue."""

    image_id: str | None = Field(
        default=None, description="the id of the image; null for a decision", examples=["cat-17"]
    )
    decision_id: str | None = Field(
        default=None,
        description="the id of the stored decision; else null",
        examples=["20260131T120000000000-5b0e2a1c"],
    )
    reason: str = Field(
        description="why it is worth a look, a sentence",
        examples=["its 10 nearest neighbours vote for dog, with 94% of the vote"],
    )
    score: float = Field(
        description="how much it is worth a look, 0 to 1; the queue is sorted by it. An image that the label check"
        f" holds has {HELD_SCORE:g}, one that it warns of {WARNED_SCORE:g}, a decision without a label"
        f" {UNKNOWN_SCORE:g}, a close decision 1 less its margin, a likely label error the score of the suspicion, and"
        " a duplicate or an outlier half of that",
        examples=[0.93],
    )
    suggestion: str | None = Field(
        default=None,
        description="of a suspect: the label that its neighbours vote for, or the image that it duplicates; of a close"
        " decision: its label; else null",
        examples=["dog"],
    )
    reviewed_at: datetime | None = Field(
        default=None,
        description="when it was marked as looked at; null: it is not, or the image's picture or labels, or what the"
        " label check did to it, changed since",
        examples=["2026-01-31T12:00:00Z"],
    )
    reviewed_by: str | None = Field(default=None, description="by whom", examples=["steward (key 9f86d081884c)"])
    claimed_by: str | None = Field(
        default=None, description="who holds it at present; null: nobody", examples=["steward (key 9f86d081884c)"]
    )
    claimed_until: datetime | None = Field(
        default=None, description="until when they hold it", examples=["2026-01-31T12:01:00Z"]
    )


class ReviewMark(ItemName):
    """An item that was looked at."""

    reviewed_at: datetime = Field(description="when it was marked last", examples=["2026-01-31T12:00:00Z"])
    reviewed_by: str = Field(description="by whom", examples=["steward (key 9f86d081884c)"])


class ReviewClaim(BaseModel):
    """Which items a key asks to hold: the next ones, or named ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=MAX_CLAIMED)] | None = Field(
        default=None,
        description="hold so many of the next items that nobody else holds; those that the key holds already count, and"
        " are held anew",
        examples=[10],
    )
    kind: ReviewKind | None = Field(
        default=None, description="with `limit`: only items of this kind", examples=["decision"]
    )
    items: Annotated[list[ItemName], Field(min_length=1, max_length=MAX_CLAIMED)] | None = Field(
        default=None, description="hold these items", examples=[[{"kind": "image", "id": "cat-17"}]]
    )

    @model_validator(mode="after")
    def _names_one(self) -> "ReviewClaim":
        if (self.limit is None) == (self.items is None):
            raise ValueError("takes either limit or items")
        if self.items is not None and self.kind is not None:
            raise ValueError("takes kind only with limit")
        return self
