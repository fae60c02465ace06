"""Labels of an image: paths, earlier labels, and the rules for new ones."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.text_rules import MAX_LABELS


def label_paths(labels: list[str]) -> list[str]:
    """Every prefix of every label path: ``animal/cat`` gives ``animal`` and ``animal/cat``; sorted, each once."""
    return sorted(
        {"/".join(parts[: n + 1]) for parts in (label.split("/") for label in labels) for n in range(len(parts))}
    )


class LabelCheck(StrEnum):
    """How to treat new images whose neighbours vote for another label: not at all, with a warning, or by muting."""

    OFF = "off"
    WARN = "warn"
    HOLD = "hold"


class LabelRule(StrEnum):
    """Which labels an existing image has after it was sent again with other labels.

    ``replace``: the sent ones; ``keep``: its own; ``add``: both.
    """

    REPLACE = "replace"
    KEEP = "keep"
    ADD = "add"

    def applied(self, current: Sequence[str], sent: Sequence[str]) -> list[str]:
        """The labels after the rule was applied.

        Raises:
            InvalidRequest: there would be more than `MAX_LABELS`.
        """
        if self is LabelRule.KEEP:
            return [*current]
        if self is LabelRule.REPLACE:
            return [*sent]
        both = list(dict.fromkeys([*current, *sent]))
        if len(both) > MAX_LABELS:
            raise InvalidRequest(f"labels: an image has at most {MAX_LABELS}, and with those it would have {len(both)}")
        return both


class FormerLabels(BaseModel):
    """Labels that an image had until a moment."""

    model_config = ConfigDict(frozen=True)

    labels: list[str] = Field(description="the labels", examples=[["cat"]])
    until: datetime = Field(description="until when it had them", examples=["2026-01-31T12:00:00Z"])


def labels_at(labels: Sequence[str], history: Sequence[FormerLabels], moment: datetime) -> Sequence[str]:
    """The labels that an image had at a moment; a change at this very moment counts."""
    return next((former.labels for former in history if moment < former.until), labels)


class LabelCount(BaseModel):
    """The number of images with a label; and figures of the label, where the memory was judged."""

    label: str = Field(description="the label", examples=["cat"])
    images: int = Field(description="the number of images with the label", examples=[12])
    accuracy: float | None = Field(
        default=None,
        description="the fraction of its remembered images for which the other images vote right, 0 to 1",
        examples=[0.93],
    )
    confused_with: dict[str, int] | None = Field(
        default=None,
        description="labels that won instead, and how often; the most frequent first, at most 5",
        examples=[{"dog": 3}],
    )
    thin: bool | None = Field(
        default=None,
        description=(
            "whether it has fewer remembered images than neighbours vote, so that any other label can outvote it"
        ),
        examples=[False],
    )
