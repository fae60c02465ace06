"""A memory without a service, and a service on the same data folder afterwards."""

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.intake_events import image_data, image_event
from tests.support.running_service import SETTINGS, new_folder, running
from tests.support.shape_pictures import picture
from visual_memory import (
    ClassifyOptions,
    Decision,
    EvaluationRequest,
    Filter,
    ImageFields,
    LabelRule,
    RemovalRequest,
    State,
    Suspicion,
)
from visual_memory.local import Memory
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.errors import Blocked, InvalidPicture, InvalidRequest, NotFound, Unavailable
from visual_memory.services.bootstrap.wiring.wire_intake import intake_redis, private_intake
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.settings import Settings

pytestmark = pytest.mark.one_machine
KINDS = ("disc", "bars", "checks")
NUMBER = 4


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the tests' services."""
    for name, value in {**SETTINGS, "CONFIG": os.devnull}.items():
        monkeypatch.setenv(f"VISUAL_MEMORY_{name}", value)


@contextmanager
def taught() -> Iterator[tuple[Memory, Path]]:
    """A memory of three classes, and its folder."""
    with new_folder() as folder, Memory(folder) as memory:
        sent = [
            (picture(kind), ImageFields(labels=[kind], subject=kind, image_id=f"{kind}-{number}"))
            for kind in KINDS
            for number in range(NUMBER)
        ]
        assert {each.state for each in memory.add(sent)} == {State.REMEMBERED}
        yield memory, folder


def votes(decisions: Sequence[Decision]) -> list[list[tuple[str, float, float]]]:
    """Who voted in each decision, how near and for how much."""
    return [[(each.image_id, each.similarity, each.weight) for each in found.neighbours] for found in decisions]


def test_a_service_answers_the_same_on_the_folder() -> None:
    asked, options = [picture(kind) for kind in KINDS], ClassifyOptions(k=5)
    removed, more = RemovalRequest(filter=Filter({"subject": "checks"}), reason="a test", block=True), picture("disc")
    with taught() as (memory, folder):
        done = memory.remove(removed)
        with pytest.raises(NotFound, match="checks-0"):
            memory.thumbnail("checks-0")
        small = memory.thumbnail("disc-0")
        before = memory.classify(asked, options).decisions
        assert (done.images, before[0].label) == (NUMBER, "disc")
        memory.close()
        with running(folder) as stack:
            assert votes(stack.client.classify(asked, options).decisions) == votes(before)
            assert stack.client.removal(done.id).receipt == done.receipt
            assert stack.client.thumbnail("disc-0") == small
            with pytest.raises(Blocked):
                stack.client.add([(picture("checks"), ImageFields(labels=["checks"], subject="checks"))])
            with pytest.raises(Unavailable, match="in use by another 'visual-memory up'"):
                Memory(folder)
            stack.remembered(stack.teach(more, labels=["disc"], image_id="later"))
        with Memory(folder) as again:
            [decision] = again.classify([more], options).decisions
            assert decision.neighbours[0].image_id == "later"
            assert _queued_removal(again, folder) == 1


def _queued_removal(memory: Memory, folder: Path) -> int:
    """How many entries a removal takes from the intake, where one waits that it covers."""
    settings = Settings(data=folder)
    event = image_event(data=image_data(picture("disc"), subject="disc"))
    with private_intake(settings), intake_redis(settings) as server:
        stream = StreamKeys(settings.intake.prefix).intake(memory.tenant)
        server.xadd(stream, {"event": event})
    removal = memory.remove(RemovalRequest(filter=Filter({"subject": "disc"}), reason="a test"))
    assert removal.receipt is not None
    return removal.queued


def test_only_one_process_may_have_the_folder() -> None:
    with taught() as (_, folder):
        with pytest.raises(Unavailable, match=rf"in use by a Memory \(process {os.getpid()}\)"):
            Memory(folder)
        command = [sys.executable, "-m", "visual_memory.services.cli", "up"]
        environment = {**os.environ, "VISUAL_MEMORY_DATA": str(folder)}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1
        assert f"in use by a Memory (process {os.getpid()})" in ended.stderr


def test_it_is_judged_evaluated_and_removed() -> None:
    with taught() as (memory, _):
        wrong = (picture("disc"), ImageFields(labels=["bars"], image_id="wrong"))
        memory.add([wrong])
        assert "wrong" in {each.image_id for each in memory.suspects(Suspicion.LABEL).data}
        itself = memory.evaluate(EvaluationRequest(itself=True, k=3))
        assert itself.summary is not None
        assert itself.summary.queries == len(KINDS) * NUMBER + 1
        by_pictures = memory.evaluate(
            EvaluationRequest(k=3), [(picture(kind), ImageFields(labels=[kind])) for kind in KINDS]
        )
        assert by_pictures.state is JobState.DONE
        assert by_pictures.summary is not None
        assert by_pictures.summary.queries == len(KINDS)
        with zipfile.ZipFile(io.BytesIO(memory.report(by_pictures.id))) as report:
            assert "report.html" in report.namelist()
        [stored] = memory.classify([picture("disc")], ClassifyOptions(k=3, store=True)).decisions
        assert stored.label == "disc"
        request = RemovalRequest(filter=Filter({"image_id": "wrong"}), reason="a test", erase_now=True)
        removal = memory.remove(request)
        assert removal.requested_by == "local"
        assert removal.erasure is not None
        assert removal.erasure.erased
        assert memory.suspects(Suspicion.LABEL).data == []


def test_what_is_refused_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with taught() as (memory, folder):
        with pytest.raises(InvalidPicture):
            memory.add(
                [
                    (picture("disc"), ImageFields(labels=["disc"], image_id="new")),
                    (picture("disc")[:200], ImageFields(labels=["disc"])),
                ]
            )
        with pytest.raises(InvalidRequest, match="re-ranking needs a service"):
            memory.classify([picture("disc")], ClassifyOptions(rerank=True))
        assert memory._process is not None
        assert memory._process.memory.images.count(memory.tenant, []) == len(KINDS) * NUMBER
        memory.close()
        with pytest.raises(Unavailable, match="closed"):
            memory.classify([picture("disc")])
        monkeypatch.setenv("VISUAL_MEMORY_RECORDS__URL", "postgresql://user:password@127.0.0.1/records")
        with pytest.raises(InvalidRequest, match="RECORDS__URL"):
            Memory(folder)


def test_what_a_crash_left_is_remembered_with_the_next_images() -> None:
    with taught() as (memory, _):
        process = memory._process
        assert process is not None
        process.accept(
            memory.tenant, [Upload(picture("disc"), ImageFields(labels=["disc"], image_id="left"))], LabelRule.KEEP
        )
        process.memory.leases.begin(list(process.memory.images.get(memory.tenant, ["left"]).values()))
        memory.add([(picture("disc"), ImageFields(labels=["disc"], image_id="next"))])
        states = process.memory.images.get(memory.tenant, ["left", "next"])
        assert {each.state for each in states.values()} == {State.REMEMBERED}
        assert "accept" in {each.action for each in process.audit.latest(memory.tenant).data}
