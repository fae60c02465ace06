"""Revert a write that may not stay: delete new images, and restore the former fields of amended ones."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.plan_put import Plan
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE
from visual_memory.services.removal.blocklist import Blocklist

TRIES = 10


@dataclass(frozen=True)
class RevertWrites:
    """Reverts plans that were written."""

    memory: Memory
    pictures: PictureStore
    blocks: Blocklist

    def refuse_blocked(self, plan: Plan, after: Mapping[str, StoredImage]) -> None:
        """Revert what a removal blocked between the check and the write.

        Args:
            plan: what was written.
            after: the images that are stored since, by image id.

        Raises:
            Blocked: a removal blocks some of them.
        """
        blocked = self.blocks.blocked_among(plan.written)
        if not blocked:
            return
        self.revert(plan, after, {image.image_id for image in blocked})
        self.blocks.check(blocked)

    def revert(self, plan: Plan, after: Mapping[str, StoredImage], ids: Collection[str]) -> None:
        """Revert the write of some images, each only if it still has the picture that it was written with."""
        new = [image for image in plan.new if image.image_id in ids]
        self.memory.writes.delete(new)
        self.pictures.delete(image.picture for image in new)
        for held, changed in plan.amended:
            if held.image_id in ids:
                self._restore_fields(held, changed, after.get(held.image_id))

    def _restore_fields(self, held: StoredImage, changed: StoredImage, there: StoredImage | None) -> None:
        """Restore the former values of the fields that were changed, except those that others changed since."""
        for _ in range(TRIES):
            if there is None or there.picture != held.picture or there.removal is not None:
                return
            ours = {name for name in AMENDABLE if getattr(there, name) == getattr(changed, name)}
            back = {name: value for name in ours if (value := getattr(held, name)) != getattr(there, name)}
            former = held if len(ours) == len(AMENDABLE) else there.changed(back, now())
            if not back or self.memory.writes.amend(there, former):
                return
            there = self.memory.images.get(held.tenant, [held.image_id]).get(held.image_id)
