"""What a removal blocked between the check and the write of what was sent is taken back."""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.image import StoredImage, now
from services.forgetting.blocks import Blocks
from services.intake.idempotent_put import Plan
from services.memory.memory import Memory
from services.memory.payload import AMENDABLE
from services.memory.pictures import Pictures

TRIES = 10


@dataclass(frozen=True)
class BlockedMeanwhile:
    """Looks at the blocks once more after a write, with the parts that it needs."""

    memory: Memory
    pictures: Pictures
    blocks: Blocks

    def refuse(self, plan: Plan, after: Mapping[str, StoredImage]) -> None:
        """Undo what is blocked by now: what is new is deleted, amendments are taken back.

        Args:
            plan: what was done.
            after: what is there since, by image id.

        Raises:
            Blocked: some of it is.
        """
        blocked = self.blocks.among(plan.written)
        if not blocked:
            return
        ids = {image.image_id for image in blocked}
        new = [image for image in plan.new if image.image_id in ids]
        self.memory.delete(new)
        self.pictures.delete(image.picture for image in new)
        for held, changed in plan.amended:
            if held.image_id in ids:
                self._take_back(held, changed, after.get(held.image_id))
        self.blocks.check(blocked)

    def _take_back(self, held: StoredImage, changed: StoredImage, there: StoredImage | None) -> None:
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
