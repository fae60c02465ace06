"""Change the labels and fields of a stored image."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.event import EventType
from visual_memory.schemas.field_types import FieldType, convert_metadata
from visual_memory.schemas.image import ImagePatch, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.intake.execute_put_plan import TRIES, refuse_marked
from visual_memory.services.intake.plan_put import Plan
from visual_memory.services.intake.retention_limits import RetentionLimits, check_expiry
from visual_memory.services.intake.revert_refused_writes import RevertWrites
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.blocklist import Blocklist


@dataclass(frozen=True)
class AmendImage:
    """The use case.

    Attributes:
        metadata: the declared metadata fields.
        retention: limits how long images are stored.
        publish: publishes the event ``amended``.
    """

    memory: Memory
    pictures: PictureStore
    blocks: Blocklist
    metadata: Mapping[str, FieldType]
    retention: RetentionLimits
    publish: Publish = publish_nothing

    def __call__(
        self,
        tenant: str,
        image_id: str,
        patch: ImagePatch,
        etags: Collection[str] | None = None,
        *,
        may_expire: bool = True,
    ) -> StoredImage:
        """Apply a patch; fields that it leaves out keep their values, including those that others change meanwhile.

        Args:
            tenant: the image's tenant.
            image_id: its id.
            patch: the fields that change.
            etags: the image must have one of these ETags; None: any.
            may_expire: whether the caller may make a stored image expire earlier than before.

        Raises:
            Forbidden: the image would expire earlier than before, and the caller may not change that.
            NotFound: there is no such image.
            InvalidRequest: it would expire in the past.
            Blocked: a removal blocks its new subject.
            BeingRemoved: a removal has marked it.
            PreconditionFailed: it has none of the ETags.
            Conflict: others changed it at every try.
        """
        check_expiry(patch.expires_at)
        changes = patch.model_dump(exclude_unset=True)
        if "metadata" in changes:
            changes["metadata"] = convert_metadata(patch.metadata, self.metadata)
        revert = RevertWrites(self.memory, self.pictures, self.blocks)
        for _ in range(TRIES):
            held = self.memory.images.get(tenant, [image_id]).get(image_id)
            if held is None:
                raise NotFound(f"there is no image {image_id!r}")
            refuse_marked([held])
            held.check_etag(etags)
            changed = self.retention.limited(held.changed(changes, now()))
            if not may_expire:
                self.retention.refuse_earlier(held, changed)
            self.blocks.check([changed])
            if amended := self.memory.writes.amend(held, changed):
                revert.refuse_blocked(Plan((), ((held, changed),)), {image_id: amended})
                self.publish(tenant, EventType.AMENDED, [image_id])
                return amended
        raise Conflict(f"image {image_id!r} is being changed by others at this moment: send the change again")
