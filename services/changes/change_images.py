"""Relabel, mute, unmute or amend the images of a request, and record it as a change that can be undone.

Both `POST /v1/curations` and `POST /v1/images/bulk` are this use case. It works through the images in batches; each
image is changed only if it is as it was read, so that what others change meanwhile is not overwritten.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from visual_memory.schemas.bulk_request import BulkAction, BulkRequest
from visual_memory.schemas.change import Change
from visual_memory.schemas.curation_request import Action, CurationRequest
from visual_memory.schemas.errors import Conflict, NotJudged
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.judgement import Judgement
from visual_memory.schemas.moments import now
from visual_memory.services.changes.change_records import ChangeRecords
from visual_memory.services.changes.plan_actions import Plan, plan_amend, plan_mute, plan_relabel, plan_unmute
from visual_memory.services.changes.record_and_write import PlannedImage, RecordedChange, recorded_change
from visual_memory.services.changes.refuse_blocked import RefuseBlocked
from visual_memory.services.changes.select_images import Selection, select
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.undo_after_removal import UndoAfterRemoval
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_payload import AMENDABLE

TRIES = 5
"""How often an image is changed that others change at the same time."""
MAY_EXPIRE_EARLIER = {"expires_at", "source"}
"""Fields of a patch that may make an image expire earlier: retention limits depend on the source."""


@dataclass(frozen=True)
class WantedChange:
    """A request: what is done, to which images.

    Attributes:
        plan: what is done.
        selection: the images.
        ids: how many image ids the request names; None: it names none.
        judgement: whose wrong votes are the reason, if any.
        checks_expiry: whether all images are checked first, so that a request that is refused changes nothing.
    """

    plan: Plan
    selection: Selection
    ids: int | None = None
    judgement: Judgement | None = None
    checks_expiry: bool = False


@dataclass(frozen=True)
class ChangeImages:
    """The use case.

    Attributes:
        undo_after_removal: takes back mutes by wrong votes that are not deserved any more.
        publish: publishes what was done.
    """

    memory: Memory
    records: ChangeRecords
    judgements: StoredJudgements
    undo_after_removal: UndoAfterRemoval
    refuse_blocked: RefuseBlocked
    retention: RetentionLimits
    publish: Publish = publish_nothing

    def of_curation(self, tenant: str, request: CurationRequest) -> WantedChange:
        """What a curation wants.

        Raises:
            InvalidFilter: the filter names an unknown field, or a value of the wrong type.
            NotJudged: wrong votes are requested, but the memory has no judgement.
        """
        if request.wrong_votes is None:
            plan = _plan(request.action, request.labels)
            return WantedChange(plan, select(request.filter, self.memory.metadata))
        judgement, least = self.judgements.used(tenant), request.wrong_votes
        if judgement is None:
            raise NotJudged("wrong_votes: no judgement counts at present; start one with POST /v1/judgements")
        named = [image_id for image_id, (wrong, _) in judgement.votes.items() if wrong >= least]
        selection = select(request.filter, self.memory.metadata, named)
        return WantedChange(plan_mute(least), selection, judgement=judgement)

    def of_bulk(self, request: BulkRequest, *, may_expire: bool) -> WantedChange:
        """What a bulk request wants; `may_expire`: whether the caller may make images expire earlier.

        Raises:
            InvalidFilter: the filter names an unknown field, or a value of the wrong type.
            InvalidRequest: the images would expire in the past, or a metadata value is not of the declared type.
        """
        ids, metadata = {*request.image_ids} or None, self.memory.metadata
        selection = select(request.filter or Filter({}), metadata, ids)
        number = None if ids is None else len(ids)
        if request.patch is None:
            return WantedChange(_plan(request.action, request.labels), selection, number)
        plan = plan_amend(request.patch, metadata, self.retention, may_expire=may_expire)
        checks = not may_expire and not MAY_EXPIRE_EARLIER.isdisjoint(request.patch.model_fields_set)
        return WantedChange(plan, selection, number, checks_expiry=checks)

    def __call__(self, tenant: str, wanted: WantedChange, by: str) -> Change:
        """Change the images; votes follow at once.

        Args:
            tenant: whose images.
            wanted: what is done to which.
            by: who does it.

        Raises:
            Blocked: a removal blocks a new subject; images before may be changed, as the record of the change says.
            Conflict: the judgement was voided or replaced meanwhile.
            Forbidden: an image would expire earlier than before, and the caller may not change that.
        """
        plan = wanted.plan
        if wanted.checks_expiry:
            for page in wanted.selection.pages(self.memory, tenant, plan.states):
                for image in page:
                    plan.becomes(image, now())
        with recorded_change(self.memory, self.records, tenant, plan.action, by, publish=self.publish) as running:
            for page in wanted.selection.pages(self.memory, tenant, plan.states):
                running.skipped += self._change(running, plan, page, wanted.selection)
            if wanted.judgement is not None and not self.judgements.is_valid(tenant, wanted.judgement.id):
                self.undo_after_removal.review_pruned(tenant)
                raise Conflict("the judgement was voided or replaced at this moment: send it again")
        return self.records.load(tenant, running.change.id)

    def _change(self, running: RecordedChange, plan: Plan, images: Sequence[StoredImage], selection: Selection) -> int:
        """Change images, again where others change them first; the number of those that never got a turn."""
        left = images
        for _ in range(TRIES):
            moment = now()
            planned = [each for image in left if (each := PlannedImage(image, plan.becomes(image, moment))).differs]
            if not planned:
                return 0
            if plan.fields == AMENDABLE:
                self.refuse_blocked.check([each.becomes for each in planned])
                now_stored = running.write(planned, plan.fields, self.refuse_blocked)
            else:
                now_stored = running.write(planned, plan.fields)
            pictures = {each.read.picture for each in planned}
            left = [each for each in now_stored if each.picture in pictures and selection.covers(each, plan.states)]
        return len(left)


def _plan(action: Action | BulkAction, labels: Sequence[str]) -> Plan:
    match action.value:
        case "mute":
            return plan_mute()
        case "unmute":
            return plan_unmute()
    return plan_relabel(labels)
