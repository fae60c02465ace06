"""What was written and may not stay is taken back: new images are deleted, amended ones get their former fields."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from visual_memory.schemas.image import StoredImage, now
from visual_memory.services.infrastructure.storage.picture_store import Pictures
from visual_memory.services.intake.idempotent_put import Plan
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE
from visual_memory.services.removal.blocklist import Blocklist

TRIES = 10


@dataclass(frozen=True)
class TakeBack:
    """Undoes a write, with the parts that it needs."""

    memory: Memory
    pictures: Pictures
    blocks: Blocklist

    def refuse_blocked(self, plan: Plan, after: Mapping[str, StoredImage]) -> None:
        """Undo what a removal blocked between the check and the write.

        Args:
            plan: what was done.
            after: what is there since, by image id.

        Raises:
            Blocked: some of it is.
        """
        blocked = self.blocks.among(plan.written)
        if not blocked:
            return
        self.take_back(plan, after, {image.image_id for image in blocked})
        self.blocks.check(blocked)

    def take_back(self, plan: Plan, after: Mapping[str, StoredImage], ids: Collection[str]) -> None:
        """Undo the write of some images: of each only where it has the picture still that it was written with."""
        new = [image for image in plan.new if image.image_id in ids]
        self.memory.delete(new)
        self.pictures.delete(image.picture for image in new)
        for held, changed in plan.amended:
            if held.image_id in ids:
                self._give_back(held, changed, after.get(held.image_id))

    def _give_back(self, held: StoredImage, changed: StoredImage, there: StoredImage | None) -> None:
        """Give the fields that were changed their former values; those that others changed since stay."""
        for _ in range(TRIES):
            if there is None or there.picture != held.picture or there.removal is not None:
                return
            ours = {name for name in AMENDABLE if getattr(there, name) == getattr(changed, name)}
            back = {name: value for name in ours if (value := getattr(held, name)) != getattr(there, name)}
            former = held if len(ours) == len(AMENDABLE) else there.changed(back, now())
            if not back or self.memory.amend(there, former):
                return
            there = self.memory.get(held.tenant, [held.image_id]).get(held.image_id)
