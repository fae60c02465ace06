"""Record on images that their neighbours vote for other labels; withdraw that when neighbours are removed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State, StoredImage
from visual_memory.services.memory.muted_images import NOT_DOUBTED
from visual_memory.services.memory.points.point_filters import UNMARKED, doubted, in_state, same_pictures, within
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.vector_engines.engine_contract import Payload, SetPayload

LABEL_DOUBTS = doubted(Doubt.HELD, Doubt.WARNED)


@dataclass(frozen=True)
class LabelConflict:
    """The neighbours of an image vote for a label that it does not carry.

    Attributes:
        doubt: the consequence: ``warned`` or ``held``.
        reason: a sentence.
        voters: ids of the images that voted; the conflict counts only while all of them vote.
    """

    doubt: Doubt
    reason: str
    voters: Sequence[str]

    @property
    def state(self) -> State:
        """The state of an image with this conflict."""
        return State.MUTED if self.doubt is Doubt.HELD else State.REMEMBERED

    def unconfirmed(self) -> Payload:
        """The payload to set before it is known that all voters still vote."""
        return {"doubt": self.doubt.value, "objectors": list(self.voters)}


class LabelConflicts:
    """Replaces and withdraws the label conflicts of images that have vectors.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def withdraw(self, images: Sequence[StoredImage]) -> None:
        """Clear the label conflicts of images of one tenant: held images vote, the others stay as they are.

        Args:
            images: as they were read; those decided about since, or marked by a removal, are left alone.
        """
        if images:
            conflicting = [LABEL_DOUBTS, UNMARKED]
            vote = {**NOT_DOUBTED, "state": State.REMEMBERED.value}
            muted = same_pictures(images, [in_state(State.MUTED), *conflicting])
            self._points.write([SetPayload(vote, muted)], urgent=True)
            self._points.write([SetPayload({**NOT_DOUBTED}, same_pictures(images, conflicting))], urgent=True)

    def replace(self, images: Sequence[StoredImage], conflicts: Mapping[str, LabelConflict]) -> None:
        """Replace the label conflicts of images.

        Args:
            images: of one tenant, held or warned of, as they were read; those decided about since, or marked by a
                removal, are left alone.
            conflicts: of some of them, by image id; the conflicts of the others are withdrawn.
        """
        self.withdraw([image for image in images if image.image_id not in conflicts])
        for image in images:
            if (conflict := conflicts.get(image.image_id)) is not None:
                confirmed = {**conflict.unconfirmed(), "reason": conflict.reason, "state": conflict.state.value}
                where = same_pictures([image], [in_state(image.state), LABEL_DOUBTS, UNMARKED])
                self._points.write([SetPayload(confirmed, where)], urgent=True)
                if not self._all_vote(image.tenant, conflict):
                    self.withdraw([image])

    def _all_vote(self, tenant: str, conflict: LabelConflict) -> bool:
        voters = Clause("image_id", FieldType.KEYWORD, tuple(conflict.voters))
        where = within(tenant, [voters, in_state(State.REMEMBERED), UNMARKED])
        return self._points.engine.count(where) == len(conflict.voters)
