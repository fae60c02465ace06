"""Judging: when a memory is judged, and what its judgement says today."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from visual_memory.schemas.background_job import Job, JobKind
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage, now
from visual_memory.schemas.judgement import (
    ClassReport,
    Judgement,
    JudgementStatus,
    JudgementSummary,
    Suspect,
    Suspicion,
)
from visual_memory.schemas.labels import LabelCount
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import voting_clauses
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER, is_over
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.memory.memory import Memory

WAITING = Clause("state", FieldType.KEYWORD, (State.WAITING.value,))
SETTLED = Clause("state", FieldType.KEYWORD, (State.REMEMBERED.value, State.MUTED.value))
SERVICE = "the service"
"""Who asks for a judgement that is due."""
SUSPECTS_AT_ONCE = 200
JUST_NOW = timedelta(minutes=1)
"""While images wait, or were accepted within this time, more of them are expected."""
LONGEST_DELAY = timedelta(hours=1)
"""So long it is waited for their end."""


@dataclass(frozen=True)
class Judging:
    """The use case, with the parts that it needs.

    Attributes:
        enqueue: tells the workers that a tenant has jobs; may fail quietly.
        max_images: a memory of more is not judged.
        always: whether every classification is pruned by a judgement, so that each memory needs one.
    """

    memory: Memory
    judgements: StoredJudgements
    jobs: Jobs
    enqueue: Callable[[str], object]
    max_images: int
    always: bool = False

    def start(self, tenant: str, requested_by: str, within: Within = nothing_else) -> Job:
        """Let the workers judge a tenant's memory; the job, or the one that is not done yet."""
        job, new = self.jobs.find_or_create(tenant, JobKind.JUDGEMENT, requested_by, within)
        if new:
            self.enqueue(tenant)
        return job

    def start_due(self) -> int:
        """Start a judgement of each memory that needs one; returns how many these are.

        Needed is one that somebody asked for since the last, where the memory was changed since; what comes in one go
        is judged once, at the end.
        """
        uses = self.judgements.uses()
        tenants = self.memory.images.tenants() if self.always else sorted(uses)
        started = 0
        for tenant in tenants:
            with log_and_continue("judging", tenant, self.memory.ping):
                if self._is_due(tenant, uses.get(tenant)):
                    self.start(tenant, SERVICE)
                    started += 1
        return started

    def status(self, tenant: str) -> JudgementStatus:
        """The judgement that counts, and how far the next one is."""
        judgement = self.judgements.current(tenant)
        job = next(iter(self.jobs.all(tenant, JobKind.JUDGEMENT)), None)
        if judgement is None:
            return JudgementStatus(job=job)
        kinds = Counter(suspect.suspicion for suspect in judgement.suspects)
        named = judgement.model_dump(include={"id", "made_at", "encoder", "k", "images", "classes"})
        summary = JudgementSummary(**named, suspects={kind: kinds[kind] for kind in Suspicion})
        return JudgementStatus(current=summary, stale=self._is_stale(tenant, judgement), job=job)

    def suspects(self, tenant: str, kind: Suspicion | None, limit: int) -> list[Suspect]:
        """The strongest suspicions, by kind: of images that still vote, with the labels that they were judged by."""
        judgement = self.judgements.used(tenant)
        if judgement is None:
            return []
        named = [each for each in judgement.suspects if kind in (None, each.suspicion)]
        return list(islice(self._still(tenant, named), limit))

    def with_judgement(self, tenant: str, counts: list[LabelCount]) -> list[LabelCount]:
        """How each class does, beside how many images carry its label."""
        judgement = self.judgements.used(tenant)
        if judgement is None:
            return counts
        classes = {each.label: each for each in judgement.classes}
        return [_with_report(count, classes.get(count.label), judgement.k) for count in counts]

    def _is_due(self, tenant: str, used_at: datetime | None) -> bool:
        if not 0 < self.memory.images.count_with_vectors(tenant, voting_clauses(now())) <= self.max_images:
            return False
        judgement = self.judgements.current(tenant)
        if judgement is not None and not self._is_stale(tenant, judgement):
            return False
        since = used_at if judgement is None else judgement.made_at
        return not self._is_filling(tenant) or (since is not None and is_over(since, LONGEST_DELAY, now()))

    def _is_stale(self, tenant: str, judgement: Judgement) -> bool:
        """Whether a memory was changed since it was judged; that counts until the next judgement all the same.

        By a clock that was set back since it cannot be told, so it counts as changed.
        """
        set_back = judgement.made_at - now() > CLOCKS_DIFFER
        if set_back or self.memory.images.count_with_vectors(tenant, voting_clauses(now())) != judgement.images:
            return True
        since = Clause("changed_at", FieldType.DATETIME, bounds={"gt": judgement.made_at})
        return self.memory.images.count(tenant, [SETTLED, since]) > 0

    def _is_filling(self, tenant: str) -> bool:
        """Whether more images are expected at this moment."""
        moment = now()
        bounds = {"gt": moment - JUST_NOW, "lte": moment + CLOCKS_DIFFER}
        just_now = Clause("accepted_at", FieldType.DATETIME, bounds=bounds)
        return self.memory.images.count(tenant, [WAITING]) > 0 or self.memory.images.count(tenant, [just_now]) > 0

    def _still(self, tenant: str, named: list[Suspect]) -> Iterator[Suspect]:
        for start in range(0, len(named), SUSPECTS_AT_ONCE):
            part = named[start : start + SUSPECTS_AT_ONCE]
            others = {each.suggestion for each in part if each.suspicion is Suspicion.DUPLICATE}
            held = self.memory.images.get(tenant, {each.image_id for each in part} | others)
            voters = {image_id: image for image_id, image in held.items() if image.votes_at(now())}
            yield from (each for each in part if _stands(each, voters))


def _with_report(count: LabelCount, found: ClassReport | None, k: int) -> LabelCount:
    if found is None:
        return count
    told = {"accuracy": found.accuracy, "confused_with": found.confused_with, "thin": found.images < k}
    return count.model_copy(update=told)


def _stands(suspect: Suspect, voters: dict[str, StoredImage]) -> bool:
    image = voters.get(suspect.image_id)
    alone = suspect.suspicion is Suspicion.DUPLICATE and suspect.suggestion not in voters
    return image is not None and image.labels == suspect.labels and not alone
