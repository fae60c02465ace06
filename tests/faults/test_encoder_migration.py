"""Promises 1, 2 and 8: another encoder is added, filled, switched to and dropped, and all is killed meanwhile."""

import json
import random
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from benchmarks.tiny_encoder import tiny_encoder
from tests.faults.conftest import Report
from tests.faults.streaming_clients import Streams
from tests.support.encoder_commands import Check, Commands
from tests.support.running_service import Stack, new_folder, running, unique, until
from tests.support.shape_pictures import KINDS, picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus

KILLED = ("engine", "worker", "api")
AS_SHIPPED = {"WORKER__SWEEP_SECONDS": "2", "ENCODER__THREADS": "1", "API__MAX_IMAGES": "200"}
TAUGHT = 150
ROUNDS = 4
COMMAND_SECONDS = 6.0
"""How long a command may live until it is killed."""
MOST_KILLS = 4
"""So often a command is killed until it is let live."""
FILL_SECONDS = 240.0


def kill(process: psutil.Process) -> None:
    process.kill()
    psutil.wait_procs([process], 10)


def run_to_the_end(commands: Commands, done: Callable[[], bool], *words: str) -> int:
    """Run a command that is killed at random moments, until what it is for is done; how often it was killed."""
    kills = 0
    while not done():
        process = commands.start("encoder", *words)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=random.uniform(0.3, COMMAND_SECONDS) if kills < MOST_KILLS else None)
        if process.poll() is None:
            process.kill()
            process.communicate()
            kills += 1
    return kills


def left_of(commands: Commands, name: str) -> int:
    done = commands.run("encoder", "status", name, "--json")
    return -1 if done.returncode else int(json.loads(done.stdout)["counts"]["left"])


def wait_for_the_fill(commands: Commands, name: str) -> None:
    until(lambda: left_of(commands, name) == 0, f"{name} to be filled", FILL_SECONDS)


def teach(stack: Stack, number: int, **fields: object) -> list[str]:
    made = [picture(KINDS[each % len(KINDS)]) for each in range(number)]
    return [image_id for start in range(0, number, 50) for image_id in stack.teach(*made[start : start + 50], **fields)]


def fill_under_fire(stack: Stack, commands: Commands, name: str, kills: int) -> None:
    """Kill the engine, the worker and the API while an encoder is filled and pictures come."""
    with Streams(stack) as streams:
        for number in range(kills):
            time.sleep(random.uniform(0.5, 3.0))
            kill(stack.child(KILLED[number % len(KILLED)]))
            stack.until_ready()
    streams.check()
    wait_for_the_fill(commands, name)


@pytest.mark.timeout(3600)
def test_another_encoder_is_added_filled_and_switched_to_under_fire(report: Report) -> None:
    kills = 0
    with new_folder() as folder, running(folder / "data", **AS_SHIPPED) as stack:
        commands, check = Commands(stack.data), Check(Commands(stack.data))
        taught = teach(stack, TAUGHT, labels=["any"])
        stack.remembered(taught)
        for number in range(ROUNDS):
            model = str(tiny_encoder(folder / f"tiny-{number}", dimension=64 + 16 * number))
            before = commands.active
            kills += run_to_the_end(commands, lambda: len(commands.known()) > 1, "add", model)
            [new] = commands.known().keys() - {before}
            fill_under_fire(stack, commands, new, 2 * len(KILLED))
            kills += 2 * len(KILLED)
            found = check()
            assert found[new] == found[before] == found[""], "an image lacks a vector"
            assert set(taught) <= found[new], "lost"
            kills += run_to_the_end(commands, lambda name=new: commands.active == name, "switch", new)  # type: ignore[misc]
            until(lambda name=new: decides(stack) == name, "the switch to be seen")  # type: ignore[misc]
            kills += run_to_the_end(
                commands,
                lambda name=before: name not in commands.known(),  # type: ignore[misc]
                "drop",
                before,
                "--yes",
            )
            found = check()
            assert found.keys() == {"", new}
            assert found[new] == found[""]
    fault = "engine, worker, API and commands killed while an encoder is added, filled, switched to, dropped"
    report(1, fault, kills, 0, 0)
    report(8, fault, kills, 0, 0)


def decides(stack: Stack) -> str:
    return stack.client.classify([picture("disc")]).decisions[0].encoder


@pytest.mark.timeout(1800)
def test_a_removal_in_the_middle_of_a_fill_covers_both_vectors(report: Report, tmp_path: Path) -> None:
    trials = 8
    with new_folder() as folder, running(folder / "data", **AS_SHIPPED) as stack:
        commands, check = Commands(stack.data), Check(Commands(stack.data))
        model = str(tiny_encoder(folder / "tiny"))
        kept = teach(stack, 30, labels=["stays"])
        returned = 0
        for _ in range(trials):
            subject = unique("goes")
            goes = teach(stack, 30, labels=["goes"], subject=subject)
            stack.remembered([*kept, *goes])
            name = commands.encoder("add", model)["spec"]["name"]
            time.sleep(random.uniform(0, 3.0))
            request = RemovalRequest(filter=Filter({"subject": subject}), reason="asked to")
            removal = stack.client.remove(request, wait_seconds=0)
            time.sleep(random.uniform(0, 0.3))
            kill(stack.child(random.choice(("worker", "engine"))))
            receipt = until(lambda each=removal: _done(stack, each.id), "a receipt")  # type: ignore[misc]
            assert receipt == len(goes)
            wait_for_the_fill(commands, name)
            found = check()
            returned += len(found[""] & set(goes))
            assert found[name] == found[""] == set(kept)
            commands.encoder("cancel", name, "--yes")
        verified = commands.run("verify-removals", "--json")
        assert (verified.returncode, json.loads(verified.stdout)["faults"]) == (0, [])
        assert {image.state for image in stack.held({}).values()} == {State.REMEMBERED}
    report(2, "a removal in the middle of a fill, worker or engine killed", trials, 0, returned)


def _done(stack: Stack, removal_id: str) -> int | None:
    removal = stack.client.removal(removal_id)
    return removal.images if removal.status is RemovalStatus.DONE else None
