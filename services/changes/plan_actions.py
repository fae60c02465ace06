"""What each action makes of an image: pure functions from an image as it was read to what it becomes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from visual_memory.schemas.change import ChangeAction
from visual_memory.schemas.field_types import FieldType, convert_metadata
from visual_memory.schemas.image import Doubt, ImagePatch, State, StoredImage
from visual_memory.services.intake.retention_limits import RetentionLimits, check_expiry
from visual_memory.services.memory.points.point_payload import AMENDABLE, STANDING

NO_DOUBT: Mapping[str, Any] = {"doubt": None, "reason": None, "objectors": [], "pruned_from": None}


@dataclass(frozen=True)
class Plan:
    """An action on images.

    Attributes:
        action: its name.
        becomes: what an image becomes at a moment; the same where nothing changes. One moment for many images lets
            them share a write.
        fields: what is written.
        states: the states of the images that the action may change; others stay as they are.
    """

    action: ChangeAction
    becomes: Callable[[StoredImage, datetime], StoredImage]
    fields: Sequence[str]
    states: Sequence[State] = (*State,)


def plan_mute(wrong_votes: int | None = None) -> Plan:
    """Mute remembered images.

    Args:
        wrong_votes: the number of wrong votes that is the reason: a removal that leaves an image fewer unmutes it.
            None: a person's decision; images that the service muted stay muted then until they are unmuted.
    """
    if wrong_votes is None:
        return Plan(ChangeAction.MUTE, _mute, STANDING, (State.REMEMBERED, State.MUTED))
    pruned = {**NO_DOUBT, "state": State.MUTED, "doubt": Doubt.PRUNED, "pruned_from": wrong_votes}
    return Plan(ChangeAction.MUTE, lambda image, _: image.model_copy(update=pruned), STANDING, (State.REMEMBERED,))


def plan_unmute() -> Plan:
    """Let muted images vote again."""
    return Plan(ChangeAction.UNMUTE, _unmute, STANDING, (State.MUTED,))


def plan_relabel(labels: Sequence[str]) -> Plan:
    """Give images other labels."""
    return Plan(ChangeAction.RELABEL, lambda image, moment: image.changed({"labels": [*labels]}, moment), ("labels",))


def plan_amend(
    patch: ImagePatch, metadata: Mapping[str, FieldType], retention: RetentionLimits, *, may_expire: bool
) -> Plan:
    """Change labels and fields of images.

    Args:
        patch: the changes; what it leaves out stays.
        metadata: the declared metadata fields.
        retention: limits how long images are stored.
        may_expire: whether images may expire earlier than before; else `Plan.becomes` raises `Forbidden` for such one.

    Raises:
        InvalidRequest: the images would expire in the past, or a value is not of the declared type.
    """
    check_expiry(patch.expires_at)
    changes = patch.model_dump(exclude_unset=True)
    if "metadata" in changes:
        changes["metadata"] = convert_metadata(patch.metadata, metadata)

    def becomes(image: StoredImage, moment: datetime) -> StoredImage:
        changed = retention.limited(image.changed(changes, moment))
        if not may_expire:
            retention.refuse_earlier(image, changed)
        return changed

    return Plan(ChangeAction.AMEND, becomes, AMENDABLE)


def _mute(image: StoredImage, _moment: datetime) -> StoredImage:
    return image.model_copy(update={**NO_DOUBT, "state": State.MUTED})


def _unmute(image: StoredImage, _moment: datetime) -> StoredImage:
    return image.model_copy(update={**NO_DOUBT, "state": State.REMEMBERED})
