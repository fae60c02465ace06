"""A data folder of an earlier version is served with its old vectors, and moves to today's without a pause."""

import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.encoder_commands import Check, Commands
from tests.support.running_service import Stack, new_folder, running, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions, Effort
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State, point_id
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.memory.points.collection_schema import vector_name

SOURCE = Path(__file__).parents[1] / "fixtures" / "data_folder_1"
OLD = "efficientnet-lite0"
pytestmark = [pytest.mark.one_machine, pytest.mark.timeout(300)]


@contextmanager
def opened(**settings: str) -> Iterator[Stack]:
    """A service over the earlier folder, once what was under way is done."""
    with new_folder() as folder:
        with tarfile.open(SOURCE / "data.tar.xz") as packed:
            packed.extractall(folder, filter="data")
        expected = json.loads((SOURCE / "expected.json").read_text())
        with running(folder / "data", **settings) as stack:
            stack.remembered(expected["waiting"])
            for removal in (expected["asked"], expected["marked"]):
                until(lambda each=removal: stack.client.removal(each).receipt, "a receipt")  # type: ignore[misc]
            yield stack


def encoder_of(stack: Stack, kind: str) -> tuple[str, str | None]:
    """The encoder that decides on a new picture of a kind, and its label."""
    [decision] = stack.client.classify([picture(kind)], ClassifyOptions(k=3)).decisions
    return decision.encoder, decision.label


def votes(stack: Stack) -> set[str]:
    """The ids of all images that vote."""
    [decision] = stack.client.classify([picture("disc")], ClassifyOptions(k=1000, effort=Effort.EXACT)).decisions
    return {each.image_id for each in decision.neighbours}


def settled(status: dict[str, Any]) -> bool:
    return bool(status["counts"]["left"] == 0)


def test_it_is_served_filled_compared_switched_back_and_forth_and_dropped() -> None:
    with opened() as stack:
        encoders, check = Commands(stack.data), Check(Commands(stack.data))
        assert encoder_of(stack, "disc") == (OLD, "shape/disc")
        assert encoders.active == OLD
        old = encoders.known()[OLD]
        assert (old.preprocessing, old.dimension) == (1, 1280)
        assert "active already" not in encoders.refused("switch", "nobody")

        [damaged] = stack.remembered(stack.teach(picture("cross"), labels=["shape/cross"]))
        [file] = [path for path in stack.picture_files() if point_id("default", damaged) in path.name]
        file.write_bytes(b"no picture any more")

        said = encoders.encoder("add", OLD, "--wait")
        new = said["spec"]["name"]
        assert (said["spec"]["preprocessing"], said["counts"]["left"]) == (2, 0)
        assert "added already" in encoders.refused("add", OLD)
        assert said["counts"]["vectors_only"] > 0, "the folder holds images that came as vectors"
        assert said["counts"]["failed"] == 1
        stack.client.remove(RemovalRequest(filter=Filter({"image_id": damaged}), reason="it is damaged"))
        until(lambda: damaged not in check.commands.ids(), "it to be gone")
        assert len(check()[new]) == said["counts"]["filled"]

        [image_id] = stack.teach(picture("bars"), labels=["shape/bars"])
        stack.remembered([image_id])
        check_filled(encoders, check, image_id, new)

        check_compared(encoders, new)
        before = votes(stack)
        switched = encoders.encoder("switch", new)
        assert switched["not_voting"] == said["counts"]["vectors_only"]
        until(lambda: encoder_of(stack, "disc")[0] == new, "the switch to be seen")
        assert encoder_of(stack, "bars") == (new, "shape/bars")
        missing = encoders.run("encoder", "missing", new, "--json").stdout.splitlines()
        ours = {each["image_id"] for each in map(json.loads, missing) if each["tenant"] == "default"}
        assert before - votes(stack) <= ours

        encoders.encoder("switch", "--back")
        until(lambda: encoder_of(stack, "disc")[0] == OLD, "the way back to be seen")
        assert votes(stack) == before
        encoders.encoder("switch", new)
        until(lambda: encoder_of(stack, "disc")[0] == new, "the switch to be seen")
        alone = (
            point.vectors[vector_name(OLD)] for point in encoders.points() if [*point.vectors] == [vector_name(OLD)]
        )
        numbers = np.array(next(alone), "<f4").tobytes()[:64]
        assert any(numbers in path.read_bytes() for path in files(stack.data))
        unsure = encoders.run("encoder", "drop", OLD)
        assert (unsure.returncode, "came as vectors of other encoders" in unsure.stdout) == (1, True)
        dropped = encoders.encoder("drop", OLD, "--yes")
        assert dropped["erased"]
        assert encoders.known().keys() == {new}
        assert encoder_of(stack, "checks") == (new, "shape/checks")
        assert check().keys() == {"", new}
        assert "was dropped" in encoders.refused("switch", "--back")
        verified = encoders.run("verify-removals", "--json")
        assert (verified.returncode, json.loads(verified.stdout)["faults"]) == (0, [])
        assert not any(numbers in path.read_bytes() for path in files(stack.data))


def check_filled(encoders: Commands, check: Check, image_id: str, new: str) -> None:
    """A new image gets the vectors of both encoders."""
    both = {vector_name(OLD), vector_name(new)}
    until(lambda: both in [{*point.vectors} for point in encoders.points_of(image_id)], "both vectors")
    assert {OLD, new} == {each for each, ids in check().items() if image_id in ids and each}


def check_compared(encoders: Commands, new: str) -> None:
    compared = encoders.encoder("compare", "--tenant", "default")
    assert (compared["a"], compared["b"], compared["lacking"][OLD]) == (OLD, new, 0)
    assert compared["itself"]["b"]["accuracy"]["value"] > 0.5


def files(data: Path) -> list[Path]:
    """Of the engine."""
    return [path for path in (data / "engine").rglob("*") if path.is_file()]


def test_it_moves_by_itself_where_it_is_asked_to() -> None:
    with opened(ENCODER__UPGRADE="auto") as stack:
        encoders = Commands(stack.data)
        until(lambda: encoders.active != OLD, "the upgrade", 120)
        new = encoders.active
        until(lambda: encoder_of(stack, "disc") == (new, "shape/disc"), "the switch to be seen")
        assert encoders.known()[new].preprocessing == 2
        Check(encoders)()
        encoders.encoder("switch", "--back")
        until(lambda: encoder_of(stack, "disc")[0] == OLD, "the way back to be seen")
        [image_id] = stack.teach(picture("bars"), labels=["shape/bars"])
        assert stack.remembered([image_id])[image_id].state is State.REMEMBERED
        assert encoders.active == OLD, "who switches back has decided otherwise"
