"""Labels of an image: paths, earlier labels, and the rules for new ones."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.text_rules import MAX_LABELS


def label_paths(labels: list[str]) -> list[str]:
    """Every prefix of every label path: ``animal/cat`` gives ``animal`` and ``animal/cat``; sorted, each once."""
    return sorted(
        {"/".join(parts[: n + 1]) for parts in (label.split("/") for label in labels) for n in range(len(parts))}
    )


class LabelCheck(StrEnum):
    """What an objection does: nothing, for none is looked for; a reason on the image, which votes; or it is muted."""

    OFF = "off"
    WARN = "warn"
    HOLD = "hold"


class LabelRule(StrEnum):
    """What becomes of the labels of an image that is there when it is sent with others.

    ``replace``: it gets those; ``keep``: it keeps its own; ``add``: it gets those beside its own.
    """

    REPLACE = "replace"
    KEEP = "keep"
    ADD = "add"

    def applied(self, held: Sequence[str], sent: Sequence[str]) -> list[str]:
        """The labels of an image that has some and is sent with others.

        Raises:
            InvalidRequest: these would be too many.
        """
        if self is LabelRule.KEEP:
            return [*held]
        if self is LabelRule.REPLACE:
            return [*sent]
        both = list(dict.fromkeys([*held, *sent]))
        if len(both) > MAX_LABELS:
            raise InvalidRequest(f"labels: an image has at most {MAX_LABELS}, and with those it would have {len(both)}")
        return both


class FormerLabels(BaseModel):
    """Labels that an image had until a moment, at which it got others."""

    model_config = ConfigDict(frozen=True)

    labels: list[str]
    until: datetime


def labels_at(labels: Sequence[str], history: Sequence[FormerLabels], moment: datetime) -> Sequence[str]:
    """The labels that an image had at a moment; what changed at that very moment had changed."""
    return next((former.labels for former in history if moment < former.until), labels)


class LabelCount(BaseModel):
    """How many images carry a label; and how it does, where the memory was judged.

    Attributes:
        accuracy: the part of its remembered images for which the others vote right, 0 to 1.
        confused_with: other labels that they were taken for, and how often; the most frequent first, at most 5.
        thin: whether it has fewer remembered images than neighbours vote, and so can be outvoted by any other.
    """

    label: str
    images: int
    accuracy: float | None = None
    confused_with: dict[str, int] | None = None
    thin: bool | None = None
