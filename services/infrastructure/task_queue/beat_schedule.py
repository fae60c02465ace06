"""The schedule of Celery beat: how often it sends each periodic task, by the monotonic clock.

A task checks stored records for whether anything is due. So messages are sent often, and a duplicate is harmless.
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
    TRIM_CHANGES,
)
from visual_memory.services.settings import WorkerSettings

LOOK_SECONDS = 60
"""Interval of the tasks that check stored records for what is due."""
TRIM_SECONDS = 600
"""Interval of the task that deletes old changes."""
EXPIRES_SECONDS = 60
"""Seconds after which an unconsumed message expires, so that none pile up while workers are stopped."""
ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
"""An arbitrary moment."""


def beat_schedule(worker: WorkerSettings, curate_seconds: int) -> dict[str, dict[str, Any]]:
    """Build the entries for Celery beat.

    Args:
        worker: holds the interval of sweeps, in seconds.
        curate_seconds: interval of checks for whether a memory is due to be judged; 0: never.
    """
    sweeps = dict.fromkeys((SWEEP_IMAGES, SWEEP_JOBS, RESUME_REMOVALS), worker.sweep_seconds)
    every = {**sweeps, EXPIRE: LOOK_SECONDS, TRIM_CHANGES: TRIM_SECONDS, START_JUDGEMENTS: curate_seconds}
    return {task.rpartition(".")[2]: _entry(task, seconds) for task, seconds in every.items() if seconds}


def _entry(task: str, seconds: int) -> dict[str, Any]:
    return {
        "task": task,
        "schedule": schedule(seconds, nowfun=_uptime),
        "options": {"expires": EXPIRES_SECONDS, "queue": QUEUE_OF[task]},
    }


def _uptime() -> datetime:
    """The monotonic clock as a datetime: beat would wait for a wall clock that was set back."""
    return ORIGIN + timedelta(seconds=time.monotonic())
