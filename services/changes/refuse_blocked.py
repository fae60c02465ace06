"""Refuse changes that give an image a subject which a removal has blocked, before they are written and afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from visual_memory.schemas.image import StoredImage
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.plan_put import Plan
from visual_memory.services.intake.revert_refused_writes import RevertWrites
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.blocklist import Blocklist


@dataclass(frozen=True)
class RefuseBlocked:
    """Called after images were written, as `services.changes.record_and_write.Written`."""

    memory: Memory
    pictures: PictureStore
    blocks: Blocklist

    def check(self, images: Iterable[StoredImage]) -> None:
        """Refuse images as they would become.

        Raises:
            Blocked: a removal blocks one of them.
        """
        self.blocks.check(images)

    def blocked_among(self, images: Iterable[StoredImage]) -> set[str]:
        """The ids of images, as they would become, that a removal blocks."""
        return {image.image_id for image in self.blocks.blocked_among(images)}

    def __call__(self, changed: Sequence[tuple[StoredImage, StoredImage]], after: dict[str, StoredImage]) -> None:
        """Revert the images that a removal has blocked since the check.

        Raises:
            Blocked: there were some.
        """
        revert = RevertWrites(self.memory, self.pictures, self.blocks)
        revert.refuse_blocked(Plan((), tuple(changed)), after)
