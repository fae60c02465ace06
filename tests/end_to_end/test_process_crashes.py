"""Promise 1: no crash of any part loses what was answered 202; and `up` leaves nothing running behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
import redis

from tests.support.running_service import Stack, as_tenant, fields, running, suspended, unique, until
from tests.support.service_stores import service_stores
from tests.support.shape_pictures import picture
from visual_memory.schemas.image import State
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.task_queue.task_names import PERIODIC_QUEUE, REMEMBER_QUEUE, SWEEP_IMAGES

EMBEDDED = ("intake-redis", "engine") if service_stores.engine is None else ()
ALSO_KILLED = pytest.mark.faults
"""Of those that other tests kill alone, and this one with all the others."""
CHILDREN = ("redis", *EMBEDDED, "worker", "jobs", "beat", "intake-reader", "api")


def teach(stack: Stack, source: str, pictures: int = 2) -> list[str]:
    return stack.teach(*(picture("disc") for _ in range(pictures)), labels=["disc"], source=source)


def voters(stack: Stack, source: str) -> set[str]:
    answer = stack.http.post(
        "/v1/classify", files=[("files", ("p", picture("disc")))], data={"options": fields(filter={"source": source})}
    )
    return {neighbour["image_id"] for neighbour in answer.json()["decisions"][0]["neighbours"]}


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, 60)


def broker(stack: Stack) -> "redis.Redis":
    return redis.Redis(unix_socket_path=str(stack.data / "run" / "redis.sock"))


@pytest.mark.parametrize(
    "names",
    [
        ("worker",),
        *(pytest.param((name,), marks=ALSO_KILLED) for name in ("redis", *EMBEDDED, "jobs", "beat")),
        CHILDREN,
    ],
    ids=" ".join,
)
def test_kill_9_loses_nothing(victim: Stack, names: tuple[str, ...]) -> None:
    source = unique("killed")
    before = teach(victim, source)
    victim.remembered(before)
    killed = [victim.child(name) for name in names]
    with suspended(victim.child("worker")):
        waiting = teach(victim, source, 8)
        kill(killed)
    # nobody waits for the restart but who needs the API to answer
    if "api" in names:
        victim.until_ready()
    after = teach(victim, source)
    assert voters(victim, source) >= set(before)
    victim.remembered([*before, *waiting, *after])
    assert voters(victim, source) == {*before, *waiting, *after}
    assert {victim.child(name).pid for name in names}.isdisjoint({process.pid for process in killed})


def test_a_lost_message_is_found_by_the_sweeper(victim: Stack) -> None:
    source = unique("lost")
    kill([victim.child("worker")])
    ids = teach(victim, source, 3)
    with broker(victim) as queue:
        assert queue.llen(victim.key_in_redis(REMEMBER_QUEUE))
        assert queue.delete(victim.key_in_redis(REMEMBER_QUEUE)), "the flag of the message that was lost stays"
    assert {image.state for image in victim.held({"source": source}).values()} == {State.WAITING}
    victim.remembered(ids)


def test_beat_enqueues_again_after_it_was_killed(victim: Stack) -> None:
    with suspended(victim.child("worker")), broker(victim) as queue:
        periodic = victim.key_in_redis(PERIODIC_QUEUE)
        kill([victim.child("beat")])
        queue.flushall()
        until(
            lambda: [m for m in queue.lrange(periodic, 0, -1) if json.loads(m)["headers"]["task"] == SWEEP_IMAGES],
            "a sweep",
        )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_decoders_that_fail_lose_nothing(victim: Stack, number: signal.Signals) -> None:
    """Those of the worker, while pictures stream: each fails one picture at most, which is tried again."""
    source = unique("decoders")
    victim.remembered(teach_undecoded(victim, source))
    ids: list[str] = []
    signalled = 0
    for _ in range(4):
        hit = decoders(victim.child("worker"))  # none where the last were killed and not needed since
        ids += teach_undecoded(victim, source, 8)
        for process in hit:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                signalled += 1
    assert signalled
    images = victim.settled(ids)
    rejected = [image for image in images.values() if image.state is State.REJECTED]
    assert all("decoding this picture" in (image.reason or "") and image.attempts == 3 for image in rejected), rejected
    assert len(rejected) <= 2, "each of these was hit three times, with at most eight signals"
    victim.remembered(teach(victim, source))
    if number == signal.SIGSTOP:
        assert "took more than 6 s" in (victim.data / "logs" / "worker.log").read_text()


def teach_undecoded(stack: Stack, source: str, pictures: int = 2) -> list[str]:
    """Teach, and lose what the API has decoded, so that the worker decodes for itself."""
    with suspended(stack.child("worker")):
        ids = teach(stack, source, pictures)
        for pixels in [path for path in (stack.data / "pictures").rglob(".*") if path.is_file()]:
            pixels.unlink()
    return ids


def decoders(process: psutil.Process) -> list[psutil.Process]:
    """Those of a process that can decode by now: they have given up the right to open files."""
    found = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.rlimit(psutil.RLIMIT_NOFILE) == (0, 0):
                found.append(child)
    return found


def test_a_broker_that_hangs_stops_no_acceptance(victim: Stack) -> None:
    source = unique("hanging")
    with suspended(victim.child("redis")):
        answer = victim.http.post(
            "/v1/images",
            files=[("files", ("p", picture("disc")))],
            data={"fields": fields(labels=["disc"], source=source)},
        )
        assert answer.status_code == 202
    victim.remembered([answer.json()["data"][0]["image_id"]])


def test_a_second_up_on_the_same_folder_is_refused(stack: Stack) -> None:
    ended = up(stack.data, {"VISUAL_MEMORY_API__PORT": "1"})
    assert ended.returncode == 1
    assert f"{stack.data} is in use by another 'visual-memory up'" in ended.stderr
    assert stack.http.get("/readyz").status_code == 200


def test_the_first_start_shows_a_key_that_opens_everything_and_later_ones_do_not(short_folder: Path) -> None:
    port = free_port()

    def is_ready(told: str) -> bool:
        if "ready" not in told:
            return False
        key = told.split("export VISUAL_MEMORY_KEY=")[1].split(maxsplit=1)[0]
        with Client(f"http://127.0.0.1:{port}", key) as client:
            assert [line.action for line in client.audit().data] == ["keys.make"]
        return True

    assert told_by_up(short_folder, is_ready, API__PORT=str(port)).count("shown only once") == 1
    assert "VISUAL_MEMORY_KEY" not in told_by_up(short_folder, lambda told: "data and logs are in" in told)


def test_another_service_at_its_port_does_not_make_it_ready(stack: Stack, short_folder: Path) -> None:
    """`up` says that it is ready when its own processes have said so."""
    port = stack.url.rpartition(":")[2]
    told = told_by_up(short_folder, lambda told: "api ended with" in told, API__PORT=port)
    assert "ready" not in told
    assert "address already in use" in (short_folder / "logs" / "api.log").read_text()


def test_a_process_that_cannot_start_ends_with_a_sentence(stack: Stack) -> None:
    """A second worker of a service that runs."""
    environment = {**_environment(), **stack.environment, "VISUAL_MEMORY_ENCODER__DEVICE": "cuda:99"}
    command = [sys.executable, "-m", "visual_memory.services.cli", "worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    log = [json.loads(line) for line in ended.stderr.splitlines()]
    said, *_ = [line["message"] for line in log if line["level"] == "CRITICAL"]
    assert said.startswith("cannot run: encoder.device cuda:99")


def told_by_up(data: Path, enough: Callable[[str], bool], **settings: str) -> str:
    """What `up` says until that is enough; then it is stopped."""
    ours = {"DATA": str(data), "CONFIG": os.devnull, "API__PORT": str(free_port()), **settings}
    environment = {**_environment(), **{f"VISUAL_MEMORY_{name}": value for name, value in ours.items()}}
    command = [sys.executable, "-m", "visual_memory.services.cli", "up"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr
        told = ""
        while not enough(told):
            line = started.stderr.readline()
            assert line, f"it ended: {told}"
            told += line
        started.terminate()
    return told


@pytest.mark.stops_victim
def test_sigterm_stops_every_process_and_the_data_survive(victim: Stack) -> None:
    source = unique("kept")
    remembered = teach(victim, source)
    images = victim.remembered(remembered)
    waiting = teach(victim, source, 8)
    family = victim.supervisor.children(recursive=True)
    assert len(family) >= len(CHILDREN)
    with victim.http.stream("GET", "/v1/events") as heard:
        victim.supervisor.terminate()
        assert victim.supervisor.wait(60) == 0
        assert "retry: 2000" in [*heard.iter_lines()], "the stream ends as it should"
    _, left = psutil.wait_procs(family, 60)
    assert left == []

    with running(victim.data) as started, as_tenant(started, victim.tenant) as again:
        held = again.remembered([*remembered, *waiting])
        assert {image_id: held[image_id] for image_id in remembered} == images
        assert voters(again, source) == {*remembered, *waiting}
        family = again.supervisor.children(recursive=True)
        kill([again.supervisor])
        _, left = psutil.wait_procs(family, 60)
        assert left == [], "children do not outlive a supervisor that was killed"


def up(data: Path, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """A service that is expected to end by itself."""
    environment = {"VISUAL_MEMORY_DATA": str(data), "VISUAL_MEMORY_CONFIG": os.devnull, **settings}
    return subprocess.run(
        [sys.executable, "-m", "visual_memory.services.cli", "up"],
        env={**_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _environment() -> dict[str, str]:
    return {name: value for name, value in psutil.Process().environ().items() if not name.startswith("VISUAL_MEMORY_")}


def test_no_other_user_can_read_what_any_process_makes(stack: Stack) -> None:
    stack.remembered(teach(stack, unique("private")))
    processes = [stack.supervisor, *stack.supervisor.children(recursive=True)]
    masks = {Path(f"/proc/{process.pid}/status").read_text().partition("Umask:")[2].split()[0] for process in processes}
    assert masks == {"0077"}
    for path in (stack.data, *stack.data.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            assert path.lstat().st_mode & 0o077 == 0, path
