"""Change the labels and fields of a stored image."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from visual_memory.schemas.change import ChangeAction
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.image import ImagePatch, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.changes.change_records import ChangeRecords
from visual_memory.services.changes.plan_actions import Plan, plan_amend
from visual_memory.services.changes.record_and_write import PlannedImage, recorded_change
from visual_memory.services.changes.refuse_blocked import RefuseBlocked
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.intake.execute_put_plan import TRIES, refuse_marked
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE


@dataclass(frozen=True)
class Amended:
    """An image as it is after an amendment.

    Attributes:
        change: the id of the recorded change; None: the patch says what the image had already.
        publish: publishes what was done.
    """

    image: StoredImage
    change: str | None


@dataclass(frozen=True)
class AmendImage:
    """The use case.

    Attributes:
        metadata: the declared metadata fields.
        retention: limits how long images are stored.
    """

    memory: Memory
    records: ChangeRecords
    refuse_blocked: RefuseBlocked
    metadata: Mapping[str, FieldType]
    retention: RetentionLimits
    publish: Publish = publish_nothing

    def __call__(
        self,
        tenant: str,
        image_id: str,
        patch: ImagePatch,
        by: str,
        etags: Collection[str] | None = None,
        *,
        may_expire: bool = True,
    ) -> Amended:
        """Apply a patch; fields that it leaves out keep their values, including those that others change meanwhile.

        Args:
            tenant: the image's tenant.
            image_id: its id.
            patch: the fields that change.
            by: who changes them.
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
        plan = plan_amend(patch, self.metadata, self.retention, may_expire=may_expire)
        planned = self._planned(tenant, image_id, plan, etags)
        if not planned.differs:
            return Amended(planned.read, None)
        with recorded_change(
            self.memory, self.records, tenant, ChangeAction.AMEND, by, publish=self.publish
        ) as running:
            for _ in range(TRIES):
                running.write([planned], AMENDABLE, self.refuse_blocked)
                if running.written:
                    break
                planned = self._planned(tenant, image_id, plan, etags)
            else:
                raise Conflict(f"image {image_id!r} is being changed by others at this moment: send the change again")
        return Amended(running.after[image_id], running.change.id)

    def _planned(self, tenant: str, image_id: str, plan: Plan, etags: Collection[str] | None) -> PlannedImage:
        held = self.memory.images.get(tenant, [image_id]).get(image_id)
        if held is None:
            raise NotFound(f"there is no image {image_id!r}")
        refuse_marked([held])
        held.check_etag(etags)
        changed = plan.becomes(held, now())
        self.refuse_blocked.check([changed])
        return PlannedImage(held, changed)
