"""Promise 3: erasure keeps its time, whatever the jobs do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from tests.support import endless_jobs
from tests.support.broker_redis import Broker, broker
from tests.support.memory_images import quick_folder
from tests.support.running_service import until
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.job_process import ERASE, REMOVE_ORPHANS
from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_job_queue
from visual_memory.services.cli.commands.processes import JOBS_AT_ONCE
from visual_memory.services.settings import Settings
from visual_memory.workers.maintenance_threads import maintenance_threads


@pytest.fixture
def data() -> Iterator[Path]:
    with quick_folder() as folder:
        folder.chmod(0o700)
        yield folder


@pytest.fixture
def redis(data: Path) -> Iterator[Broker]:
    with broker(data) as started:
        yield started


def test_jobs_that_hold_all_threads_delay_no_duty_nor_does_a_broker_that_is_gone(data: Path, redis: Broker) -> None:
    settings = Settings(data=data)
    load_secret(settings)
    with ExitStack() as opened:
        queue = wire_job_queue(settings, opened)
        environment = {**os.environ, "VISUAL_MEMORY_DATA": str(data)}
        process = subprocess.Popen([sys.executable, "-m", endless_jobs.__name__], env=environment)
        opened.callback(process.wait)
        opened.callback(process.kill)
        tenants = [f"t{number}" for number in range(JOBS_AT_ONCE + 2)]
        assert all(queue.enqueue(each) for each in tenants)
        until(lambda: sum(endless_jobs.begun(data, each) for each in tenants) == JOBS_AT_ONCE, "all threads to be held")
        for duty in (ERASE, REMOVE_ORPHANS):
            before = endless_jobs.begun(data, duty)
            until(lambda duty=duty, before=before: endless_jobs.begun(data, duty) >= before + 3, duty)  # type: ignore[misc]
        redis.stop()
        before = endless_jobs.begun(data, ERASE)
        until(lambda: endless_jobs.begun(data, ERASE) >= before + 3, "a turn without a broker")
        assert sum(endless_jobs.begun(data, each) for each in tenants) == JOBS_AT_ONCE, "they were held all the time"
        assert process.poll() is None


def test_a_duty_that_fails_or_takes_long_delays_no_other_and_is_ended() -> None:
    turns, begun, go_on, ended = {"fails": 0, "quick": 0}, Event(), Event(), Event()

    def do(duty: str) -> None:
        if duty == "slow":
            begun.set()
            assert go_on.wait(60)
            ended.set()
            return
        turns[duty] += 1
        if min(turns.values()) >= 3:
            go_on.set()
        if duty == "fails":
            raise ValueError("a fault")

    with maintenance_threads({"slow": 0, "fails": 0, "quick": 0}, do):
        assert begun.wait(60)
        assert go_on.wait(60), "the others go on"
    assert ended.is_set()
