"""The beat schedule: what runs how often."""

from typing import Any

from services.infrastructure.task_queue.task_names import COMPACT, CURATE, SWEEP, TIDY
from services.settings import WorkerSettings

LOOK_SECONDS = 60
"""How often it is looked whether something is due that stored records tell of."""


def beat_schedule(worker: WorkerSettings, curate_seconds: int) -> dict[str, dict[str, Any]]:
    """Entries for Celery beat.

    Args:
        worker: how often workers sweep, in seconds.
        curate_seconds: how often it is looked whether a memory is to be judged; 0: never.
    """
    every = {SWEEP: worker.sweep_seconds, TIDY: LOOK_SECONDS, COMPACT: LOOK_SECONDS, CURATE: curate_seconds}
    return {task.rpartition(".")[2]: _entry(task, seconds) for task, seconds in every.items() if seconds}


def _entry(task: str, seconds: int) -> dict[str, Any]:
    """A message that no worker took before the next one is due does nothing."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}
