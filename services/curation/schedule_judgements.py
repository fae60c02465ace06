"""Start judgements: on request, or when a memory whose judgement is read has changed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import voting_clauses
from visual_memory.services.curation.report_judgement import is_stale
from visual_memory.services.infrastructure.observability.log_and_continue import log_and_continue
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER, is_over
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import in_state

WAITING = in_state(State.WAITING)
SERVICE = "the service"
"""The requester of judgements that are due."""
JUST_NOW = timedelta(minutes=1)
"""While images wait, or were accepted this recently, more of them are expected."""
LONGEST_DELAY = timedelta(hours=1)
"""The longest delay of a judgement because more images are expected."""


@dataclass(frozen=True)
class ScheduleJudgements:
    """Starts jobs that judge memories.

    Attributes:
        enqueue: tells the workers that a tenant has jobs; must not raise.
        max_images: larger memories are not judged automatically.
        always: judge every memory, because every classification prunes by a judgement.
    """

    memory: Memory
    judgements: StoredJudgements
    jobs: Jobs
    enqueue: Callable[[str], object]
    max_images: int
    always: bool = False

    def start(self, tenant: str, requested_by: str, within: Within = nothing_else) -> Job:
        """Start a job that judges a tenant's memory; returns the job, or the unfinished one that exists."""
        job, new = self.jobs.find_or_create(tenant, JobKind.JUDGEMENT, requested_by, within)
        if new:
            self.enqueue(tenant)
        return job

    def start_due(self) -> int:
        """Start a judgement of each memory that needs one; returns their number.

        A memory needs one if its judgement was read and the memory has changed. Images that arrive together are judged
        once, at the end. None is started for `LONGEST_DELAY` after somebody cancelled one.
        """
        uses = self.judgements.uses.all()
        tenants = self.memory.images.tenants() if self.always else sorted(uses)
        started = 0
        for tenant in tenants:
            with log_and_continue("judging", tenant, self.memory.ping):
                if self._is_due(tenant, uses.get(tenant)) and not self._was_cancelled(tenant):
                    self.start(tenant, SERVICE)
                    started += 1
        return started

    def _is_due(self, tenant: str, used_at: datetime | None) -> bool:
        if not 0 < self.memory.images.count_with_vectors(tenant, voting_clauses(now())) <= self.max_images:
            return False
        judgement = self.judgements.current(tenant)
        if judgement is not None and not is_stale(self.memory, tenant, judgement):
            return False
        since = used_at if judgement is None else judgement.made_at
        return not self._expects_more(tenant) or (since is not None and is_over(since, LONGEST_DELAY, now()))

    def _was_cancelled(self, tenant: str) -> bool:
        """Whether the latest judgement was cancelled within `LONGEST_DELAY`."""
        latest = next(iter(self.jobs.all(tenant, JobKind.JUDGEMENT)), None)
        if latest is None or latest.state is not JobState.CANCELLED or latest.touched_at is None:
            return False
        return not is_over(latest.touched_at, LONGEST_DELAY, now())

    def _expects_more(self, tenant: str) -> bool:
        """Whether more images are expected soon."""
        moment = now()
        bounds = {"gt": moment - JUST_NOW, "lte": moment + CLOCKS_DIFFER}
        just_now = Clause("accepted_at", FieldType.DATETIME, bounds=bounds)
        return self.memory.images.count(tenant, [WAITING]) > 0 or self.memory.images.count(tenant, [just_now]) > 0
