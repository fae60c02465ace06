"""Run background jobs: one of a tenant at a time, with progress, retries and a heartbeat.

A message in the queue says only that a tenant has jobs. Deleting or cancelling a job stops its worker at the next
progress report. If a worker dies, the heartbeat of its job stops and the sweep enqueues the tenant again. The job then
starts from the beginning, so running it twice must be harmless.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.schemas.event import EventType
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, OwnedJob, Stopped

MAX_ATTEMPTS = 3
HEARTBEAT_SECONDS = 1.0
"""Shortest interval between two writes of progress."""

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Reports progress: the stage, how much of it is done, out of how much. Raises `Stopped` if the job is gone."""
Work = Callable[[OwnedJob, Progress], None]
"""Runs a job of a tenant."""


@dataclass(frozen=True)
class RunJobs:
    """The use case: runs the jobs of a tenant one by one, alternating with other tenants.

    Attributes:
        lease: how long after its last heartbeat a job is left to its worker.
        kinds: the function that runs jobs of each kind.
        enqueue: tells the workers that a tenant has jobs; a failure is not reported.
        publish: publishes the event ``job`` for each state and for the progress that is written.
    """

    jobs: Jobs
    lease: timedelta
    kinds: Mapping[JobKind, Work]
    enqueue: Callable[[str], object]
    publish: Publish = publish_nothing

    def __call__(self, tenant: str) -> None:
        """Run one job of a tenant; if it has more, enqueue it again behind the other tenants.

        Does nothing while another worker runs a job of the tenant: that worker will enqueue the tenant.

        Raises:
            Unavailable: a component does not answer; the sweep will enqueue the tenant.
        """
        owned = self.jobs.begin_next(tenant, self.lease)
        if owned is None:
            return
        try:
            self._do(owned)
        except Stopped:
            log.info(
                "job stopped: it was deleted or cancelled, or another worker has begun it", extra={"tenant": tenant}
            )
        if self.jobs.has_open(tenant):
            self.enqueue(tenant)

    def _do(self, owned: OwnedJob) -> None:
        if owned.job.attempts > MAX_ATTEMPTS:
            gave_up = f"gave up after {MAX_ATTEMPTS} attempts, during each of which its worker ended"
            self._end(owned, JobState.FAILED, gave_up, attempts=MAX_ATTEMPTS)
            return
        try:
            progress = _ProgressWriter(self.jobs, owned, self._tell)
            self._tell(owned, JobState.RUNNING)
            with progress.heartbeat(self.lease / 4):
                self.kinds[owned.job.kind](owned, progress)
            self._end(owned, JobState.DONE)
        except Stopped:
            raise
        except Unavailable:
            with suppress(Stopped, Unavailable):
                self.jobs.undo_attempt(owned)
            raise
        except VisualMemoryError as error:
            self._end(owned, JobState.FAILED, error.message)
        except Exception as error:
            log.exception("job failed", extra={"tenant": owned.tenant})
            self._end(owned, JobState.FAILED, f"{type(error).__name__}: see the worker's log")

    def _end(self, owned: OwnedJob, state: JobState, error: str | None = None, **further: object) -> None:
        self.jobs.end(owned, state, error, **further)
        self._tell(owned, state)

    def _tell(self, owned: OwnedJob, state: JobState, **progress: Any) -> None:
        job = owned.job
        self.publish(owned.tenant, EventType.JOB, job_id=job.id, job_kind=job.kind, job_state=state, **progress)


class _ProgressWriter:
    """Writes the progress of a job, at most every `HEARTBEAT_SECONDS`; thread-safe."""

    def __init__(self, jobs: Jobs, owned: OwnedJob, tell: Callable[..., object]) -> None:
        self._jobs, self._owned, self._tell = jobs, owned, tell
        self._progress: dict[str, str | int] = {"stage": owned.job.stage}
        self._written_at = monotonic()
        self._writing = threading.Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        with self._writing:  # until it is written, or the heartbeat would overwrite it with older progress
            same = self._progress["stage"] == stage
            self._progress = {"stage": stage, "done": done, "total": total}
            if same and monotonic() - self._written_at < HEARTBEAT_SECONDS:
                return
            self._written_at = monotonic()
            self._jobs.write_progress(self._owned, **self._progress)
            self._tell(self._owned, JobState.RUNNING, **self._progress)

    @contextmanager
    def heartbeat(self, interval: timedelta) -> Iterator[None]:
        """Write the progress at intervals while the block runs: a single step may take longer than the lease."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(max(HEARTBEAT_SECONDS, interval.total_seconds())):
                with suppress(Stopped, VisualMemoryError), self._writing:  # the job itself will meet the error
                    self._jobs.write_progress(self._owned, **self._progress)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@dataclass(frozen=True)
class SweepJobs:
    """Enqueue tenants again whose jobs are overdue: the message was lost, or the worker died.

    Attributes:
        lease: as in `RunJobs`.
        enqueue_again: enqueues those tenants that have no message in the queue; a failure is not reported.
    """

    jobs: Jobs
    lease: timedelta
    enqueue_again: Callable[[Iterable[str]], object]

    def __call__(self) -> None:
        """Enqueue the tenants that have jobs which no worker runs."""
        self.enqueue_again(sorted(self.jobs.overdue(self.lease)))
