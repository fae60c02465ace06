"""Run background jobs: one of a tenant at a time, with progress, retries and a heartbeat.

A message in the queue says only that a tenant has jobs. Deleting a job stops its worker at the next progress report. If
a worker dies, the heartbeat of its job stops and the sweep enqueues the tenant again. The job then starts from the
beginning, so running it twice must be harmless.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import Unavailable, VisualMemoryError
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, OwnedJob, Stopped

log = logging.getLogger(__name__)
MAX_ATTEMPTS = 3
TOUCH_SECONDS = 1.0
"""How often progress is written at most."""
Progress = Callable[[str, int, int], None]
"""Says how far a job is: the stage, how much of it is done, out of how much. Raises `Stopped` where it was deleted."""
Work = Callable[[OwnedJob, Progress], None]
"""Does a job of a tenant."""


@dataclass(frozen=True)
class RunJobs:
    """The use case: does a tenant's jobs, one after the other, between those of other tenants.

    Attributes:
        lease: how long a job that was touched is left to the worker that touched it.
        kinds: what does a job of each kind.
        enqueue: tells the workers that a tenant has jobs; may fail quietly.
    """

    jobs: Jobs
    lease: timedelta
    kinds: Mapping[JobKind, Work]
    enqueue: Callable[[str], object]

    def __call__(self, tenant: str) -> None:
        """Do one job of a tenant, and enqueue the tenant again where it has more, behind the others that wait.

        While another worker does one of them nothing is done: that worker then goes on with the next.

        Raises:
            Unavailable: a part does not answer; the tenant is enqueued again by the sweep.
        """
        owned = self.jobs.take(tenant, self.lease)
        if owned is None:
            return
        try:
            self._do(owned)
        except Stopped:
            log.info("job stopped: it was deleted, or another worker has begun it", extra={"tenant": tenant})
        if self.jobs.has_open(tenant):
            self.enqueue(tenant)

    def _do(self, owned: OwnedJob) -> None:
        if owned.job.attempts > MAX_ATTEMPTS:
            gave_up = f"gave up after {MAX_ATTEMPTS} attempts, during each of which its worker ended"
            self.jobs.end(owned, JobState.FAILED, gave_up, attempts=MAX_ATTEMPTS)
            return
        try:
            progress = _Progress(self.jobs, owned)
            with progress.kept_touched(self.lease / 4):
                self.kinds[owned.job.kind](owned, progress)
            self.jobs.end(owned, JobState.DONE)
        except Stopped:
            raise
        except Unavailable:
            with suppress(Stopped, Unavailable):
                self.jobs.give_back(owned)
            raise
        except VisualMemoryError as error:
            self.jobs.end(owned, JobState.FAILED, error.message)
        except Exception as error:
            log.exception("job failed", extra={"tenant": owned.tenant})
            self.jobs.end(owned, JobState.FAILED, f"{type(error).__name__}: see the worker's log")


class _Progress:
    """Writes how far a job is, not more often than needed; for many threads."""

    def __init__(self, jobs: Jobs, owned: OwnedJob) -> None:
        self._jobs, self._owned = jobs, owned
        self._told: dict[str, object] = {"stage": owned.job.stage}
        self._told_at = monotonic()
        self._telling = threading.Lock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        with self._telling:  # until it is written, or the toucher would write over it what was before
            same = self._told["stage"] == stage
            self._told = {"stage": stage, "done": done, "total": total}
            if same and monotonic() - self._told_at < TOUCH_SECONDS:
                return
            self._told_at = monotonic()
            self._jobs.tell(self._owned, **self._told)

    @contextmanager
    def kept_touched(self, pause: timedelta) -> Iterator[None]:
        """Say again and again that the job is worked on, for a single step of it may take longer than the lease."""
        ended = threading.Event()

        def touch() -> None:
            while not ended.wait(max(TOUCH_SECONDS, pause.total_seconds())):
                with suppress(Stopped, VisualMemoryError), self._telling:  # the work itself will find out
                    self._jobs.tell(self._owned, **self._told)

        toucher = threading.Thread(target=touch, name="toucher", daemon=True)
        toucher.start()
        try:
            yield
        finally:
            ended.set()
            toucher.join()
