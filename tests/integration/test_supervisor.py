"""The supervisor's children: ready by their own word, and started again after pauses that grow."""

import socket
import sys
from pathlib import Path

import pytest

from tests.support.running_service import until
from visual_memory.services.infrastructure.processes import supervisor
from visual_memory.services.infrastructure.processes.ready_message import ADDRESS, ReadyMessages, ready_messages
from visual_memory.services.infrastructure.processes.supervisor import Child, stop

SAY_READY = "from visual_memory.services.infrastructure.processes.ready_message import send_ready; send_ready()"


def child(folder: Path, code: str) -> Child:
    environment = {ADDRESS: str(folder / "ready")}
    return Child("one", [sys.executable, "-c", code], folder / "one.log", environment=environment)


def look(one: Child, messages: ReadyMessages) -> Child:
    one.look(set(messages.receive()))
    return one


def pauses(told: str) -> list[float]:
    return [float(line.split("restarted in ")[1].split()[0]) for line in told.splitlines()]


def test_what_dies_is_started_again_after_pauses_that_grow(
    short_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = child(short_folder, "raise SystemExit(3)")
    with ready_messages(short_folder / "ready") as messages:
        one.start()
        until(lambda: look(one, messages).failures == 4, "it to fail four times")
        one.failures = 1000
        until(lambda: look(one, messages).failures == 1001, "it to fail once more")
    told = capsys.readouterr().err
    assert told.count("one ended with 3") == 5
    assert pauses(told) == [0.5, 1, 2, 4, supervisor.LONGEST_PAUSE]


def test_what_ran_well_is_started_again_soon(
    short_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RUNS_WELL", 0.0)
    one = child(short_folder, f"{SAY_READY}; import time; time.sleep(60)")
    one.failures = 7
    with ready_messages(short_folder / "ready") as messages:
        one.start()
        until(lambda: look(one, messages).ready_at, "it to be ready")
        stop([one])
        until(lambda: look(one, messages).retry_at, "its end to be seen")
    assert one.failures == 0
    assert pauses(capsys.readouterr().err) == [supervisor.FIRST_PAUSE]


def test_only_a_process_says_that_it_is_ready(short_folder: Path) -> None:
    with ready_messages(short_folder / "ready") as messages, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        for said in (
            b"",
            b"READY=1",
            b"MAINPID=7",
            b"READY=1\nMAINPID=x",
            b"\xff\n=\n",
            b"MAINPID=8\nREADY=1\nSTATUS=x",
        ):
            link.sendto(said, str(short_folder / "ready"))
        assert list(messages.receive()) == [8]
        assert list(messages.receive()) == []
