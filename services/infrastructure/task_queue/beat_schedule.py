"""The beat schedule: what is sent how often, by a clock that nobody sets.

Who gets a message asks stored records whether anything is due: so it is sent often, and a second one is harmless.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from celery.schedules import schedule

from visual_memory.services.infrastructure.task_queue.task_names import (
    EXPIRE,
    QUEUE_OF,
    RESUME_REMOVALS,
    START_JUDGEMENTS,
    SWEEP_IMAGES,
    SWEEP_JOBS,
)
from visual_memory.services.settings import WorkerSettings

LOOK_SECONDS = 60
"""How often it is looked whether something is due that stored records tell of."""
EXPIRES_SECONDS = 60
"""After so long a message that no worker took does nothing: workers that were stopped find no pile of them."""
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
"""Any moment will do."""


def beat_schedule(worker: WorkerSettings, curate_seconds: int) -> dict[str, dict[str, Any]]:
    """Entries for Celery beat.

    Args:
        worker: how often workers sweep, in seconds.
        curate_seconds: how often it is looked whether a memory is to be judged; 0: never.
    """
    sweeps = dict.fromkeys((SWEEP_IMAGES, SWEEP_JOBS, RESUME_REMOVALS), worker.sweep_seconds)
    every = {**sweeps, EXPIRE: LOOK_SECONDS, START_JUDGEMENTS: curate_seconds}
    return {task.rpartition(".")[2]: _entry(task, seconds) for task, seconds in every.items() if seconds}


def _entry(task: str, seconds: int) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": schedule(seconds, nowfun=_uptime),
        "options": {"expires": EXPIRES_SECONDS, "queue": QUEUE_OF[task]},
    }


def _uptime() -> datetime:
    """The monotonic clock as beat wants it: it would wait for a clock that was set back."""
    return ORIGIN + timedelta(seconds=time.monotonic())
