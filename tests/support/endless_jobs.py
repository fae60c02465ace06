"""A worker of jobs whose jobs never end: the command of the service, in a process of its own, without store or records.

Each job that is begun, and each turn of a duty, leaves a file in the data folder.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from visual_memory.services.bootstrap import job_process
from visual_memory.services.bootstrap.job_process import JobProcess
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_job_queue
from visual_memory.services.cli.commands import processes
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs
from visual_memory.services.settings import Settings

SECONDS = 0.2


def begun(data: Path, what: str) -> int:
    """How often something was begun."""
    return len([*data.glob(f"begun-{what}-*")])


def _begin(data: Path, what: str) -> None:
    (data / f"begun-{what}-{uuid.uuid4()}").touch()


def _begin_and_never_end(data: Path, tenant: str) -> None:
    _begin(data, tenant)
    threading.Event().wait()


@contextmanager
def _busy(settings: Settings) -> Iterator[ActiveUseCases[JobProcess]]:
    with ExitStack() as opened:
        jobs = cast(RunJobs, partial(_begin_and_never_end, settings.data))
        duties = {duty: partial(_begin, settings.data, duty) for duty in job_process.EVERY}
        made = JobProcess(wire_job_queue(settings, opened), jobs, duties)
        encoder: Any = SimpleNamespace(name="none")
        yield ActiveUseCases(lambda: encoder, lambda _encoder: made)


if __name__ == "__main__":
    every = dict.fromkeys(job_process.EVERY, SECONDS)
    with mock.patch.multiple(job_process, job_process=_busy, EVERY=every):
        processes.jobs()
