"""Mute, unmute or relabel the images that meet a filter.

Only remembered images are muted, and only muted ones unmuted; the engine tests the state in the operation itself. An
image whose picture is replaced at that moment is waiting, and is not changed. Sending the same picture again leaves its
image muted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from visual_memory.schemas.curation_request import Action, Curated, CurationRequest
from visual_memory.schemas.errors import Conflict, InvalidRequest
from visual_memory.schemas.event import EventType
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.undo_after_removal import UndoAfterRemoval
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import UNMARKED, in_state

PAGE = 1000
IN_STATE = {Action.MUTE: [State.REMEMBERED], Action.UNMUTE: [State.MUTED], Action.RELABEL: [*State]}
"""The states of the images that an action changes."""
EVENTS = {
    Action.MUTE: EventType.MUTED,
    Action.UNMUTE: EventType.UNMUTED,
    Action.RELABEL: EventType.RELABELLED,
}


@dataclass(frozen=True)
class CurateImages:
    """Mutes, unmutes and relabels images.

    Attributes:
        publish: publishes the events ``muted``, ``unmuted`` and ``relabelled``.
    """

    memory: Memory
    judgements: StoredJudgements
    undo: UndoAfterRemoval
    publish: Publish = publish_nothing

    def __call__(self, tenant: str, request: CurationRequest) -> Curated:
        """Change the images; votes follow at once.

        Raises:
            InvalidFilter: the filter names an unknown field, or a value of the wrong type.
            InvalidRequest: wrong votes are requested, but the memory has no judgement.
            Conflict: the judgement was voided or replaced meanwhile.
        """
        clauses = request.filter.clauses(self.memory.metadata)
        if request.wrong_votes is not None:
            return self._mute_by_wrong_votes(tenant, clauses, request.wrong_votes, request.dry_run)
        if request.dry_run:
            return Curated(action=request.action, images=self._count(tenant, clauses, request.action))
        match request.action:
            case Action.MUTE:
                changed = self.memory.mutes.mute(tenant, clauses)
            case Action.UNMUTE:
                changed = self.memory.mutes.unmute(tenant, clauses)
            case Action.RELABEL:
                changed = self._relabel(tenant, clauses, request.labels)
        return self._done(tenant, request.action, changed)

    def _done(self, tenant: str, action: Action, changed: int) -> Curated:
        if changed:
            self.publish(tenant, EVENTS[action], count=changed)
        return Curated(action=action, images=changed)

    def _relabel(self, tenant: str, clauses: Sequence[Clause], labels: Sequence[str]) -> int:
        """Relabel page by page: one engine operation could not be limited to the pictures that were read."""
        return sum(
            self.memory.writes.relabel(page, labels, clauses)
            for page in self.memory.images.pages(tenant, clauses, PAGE)
        )

    def _mute_by_wrong_votes(self, tenant: str, clauses: Sequence[Clause], least: int, dry_run: bool) -> Curated:
        """Mute images with at least so many wrong votes; undone if the judgement was voided meanwhile."""
        judgement = self.judgements.used(tenant)
        if judgement is None:
            raise InvalidRequest("wrong_votes: no judgement counts at present; start one with POST /v1/judgements")
        named = tuple(image_id for image_id, (wrong, _) in judgement.votes.items() if wrong >= least)
        if not named:
            return Curated(action=Action.MUTE, images=0)
        clauses = [*clauses, Clause("image_id", FieldType.KEYWORD, named)]
        if dry_run:
            return Curated(action=Action.MUTE, images=self._count(tenant, clauses, Action.MUTE))
        changed = self.memory.mutes.mute(tenant, clauses, least)
        if not self.judgements.is_valid(tenant, judgement.id):
            self.undo.review_pruned(tenant)
            raise Conflict("the judgement was voided or replaced at this moment: send it again")
        return self._done(tenant, Action.MUTE, changed)

    def _count(self, tenant: str, clauses: Sequence[Clause], action: Action) -> int:
        states = in_state(*IN_STATE[action])
        return self.memory.images.count(tenant, [*clauses, states, UNMARKED])
