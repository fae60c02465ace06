"""Promise 1: what was answered 202 survives its workers, whatever they die of."""

import os
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest

from tests.faults.conftest import Report
from tests.faults.crashing_worker import sitecustomize as hook
from tests.faults.service_kills import kill_workers, stop_and_kill_a_worker
from tests.faults.streaming_clients import further_workers, supervised
from tests.support.running_service import Stack, new_folder, running
from tests.support.shape_pictures import as_file, picture
from visual_memory.schemas.image import State

AS_SHIPPED = {"WORKER__SWEEP_SECONDS": "5", "WORKER__LEASE_SECONDS": "20", "ENCODER__THREADS": "1"}
RECOVERY_SECONDS = 60.0
DEATHS_SECONDS = 300.0
"""In which a worker may die six times, each time load its encoder, and wait for leases."""


@pytest.fixture(scope="module")
def shipped() -> Iterator[Stack]:
    """A service that sweeps as the default settings say; its workers share two cores, so one thread is each one's."""
    with new_folder() as folder, running(folder, **AS_SHIPPED) as service:
        yield service


def test_workers_killed_at_random_moments_lose_nothing(shipped: Stack, report: Report) -> None:
    trials = 30
    with further_workers(shipped, 1) as others:
        print("recovered within", kill_workers(shipped, [supervised(shipped), *others], trials))
    report(1, "worker kill -9 at a random moment, eight clients streaming", trials, 0, 0)


def test_a_worker_stopped_and_killed_with_messages_in_its_hands_loses_none(shipped: Stack, report: Report) -> None:
    seconds = [stop_and_kill_a_worker(shipped) for _ in range(5)]
    print("recovered within", seconds)
    assert max(seconds) < RECOVERY_SECONDS
    report(1, "worker SIGSTOP, messages published, then killed", len(seconds), 0, 0)


def test_a_picture_that_kills_its_worker_is_rejected_and_no_other(
    monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(hook.__file__).parent), prepend=os.pathsep)
    with new_folder() as folder, running(folder) as stack:
        worker = supervised(stack)
        lives = worker.begun()
        killers = [as_file(PIL.Image.new("RGB", (33, 33), colour)) for colour in ("red", "blue")]
        sent = [*(picture("disc") for _ in range(7)), killers[0], *(picture("bars") for _ in range(7)), killers[1]]
        ids = stack.teach(*sent, labels=["any"])
        images = stack.settled(ids, DEATHS_SECONDS)
        rejected = {image_id: image for image_id, image in images.items() if image.state is State.REJECTED}
        assert rejected.keys() == {ids[7], ids[15]}
        assert {image.reason for image in rejected.values()} == {"gave up after 3 attempts that did not end"}
        assert {image.state for image in images.values()} == {State.REMEMBERED, State.REJECTED}
        deaths = worker.begun() - lives
        assert 3 <= deaths <= 3 * len(killers)
    report(1, "a picture that kills its worker, among others", len(killers), 0, 0)
