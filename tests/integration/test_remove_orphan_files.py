"""Promise 2: a picture that a crash left without a point does not outlive it for long; no other picture is touched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from tests.support.memory_images import ENCODER, METADATA, image, quick_folder
from tests.support.wired_service import Hooked, close_databases, database_in, failures
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

HOUR = timedelta(hours=1)


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as quick:
        yield quick
        close_databases()


def tidy_of(folder: Path, memory: Memory, pictures: PictureStore) -> RemoveOrphanFiles:
    database = database_in(folder)
    return RemoveOrphanFiles(memory, pictures, PeriodicTaskRuns(database), timedelta(hours=1))


def test_only_old_pictures_without_a_point_go(folder: Path) -> None:
    memory = Memory(EdgeEngine(folder / "engine"), ENCODER, 8, METADATA)
    memory.open()
    pictures = PictureStore(folder / "pictures")
    keys = {
        name: pictures.new_key(tenant, name, "0" * 64) for name, tenant in (("kept", "a"), ("old", "b"), ("young", "a"))
    }
    for key in keys.values():
        pictures.write(key, b"picture")
    an_hour_ago = time.time() - 3700
    for name in ("kept", "old"):
        os.utime(folder / "pictures" / keys[name], (an_hour_ago, an_hour_ago))
    memory.writes.put([image("a", "kept", picture=keys["kept"])])

    assert tidy_of(folder, memory, pictures)().deleted == 1
    assert pictures.all() == sorted([keys["kept"], keys["young"]])
    assert pictures.written_at(keys["young"]) > now() - timedelta(minutes=5)
    memory.close()


WRITE = """
import os, signal, sys
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
PictureStore(sys.argv[1]).write("t/aa/x", b"marker-picture")
"""


@pytest.mark.parametrize("written", [-3700, 3700, 10**8], ids=["an hour ago", "in an hour", "in three years"])
def test_what_a_kill_left_half_written_goes_after_a_while(folder: Path, written: int) -> None:
    """Promise 3: a draft of a picture holds the picture."""
    memory = Memory(EdgeEngine(folder / "engine"), ENCODER, 8, METADATA)
    memory.open()
    pictures = PictureStore(folder / "pictures")
    tidy = tidy_of(folder, memory, pictures)
    command = [sys.executable, "-c", WRITE, str(folder / "pictures")]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    [draft] = (folder / "pictures").rglob(".*")
    assert b"marker" in draft.read_bytes()
    assert pictures.all() == []
    assert tidy().deleted == 0
    moment = time.time() + written
    os.utime(draft, (moment, moment))
    (folder / "pictures" / "t" / "aa" / ".keep").touch()
    os.utime(folder / "pictures" / "t" / "aa" / ".keep", (moment, moment))
    assert tidy().deleted == 1
    assert not draft.exists()
    assert (folder / "pictures" / "t" / "aa" / ".keep").exists()
    memory.close()


@pytest.fixture
def memory(folder: Path) -> Iterator[Memory]:
    opened = Memory(EdgeEngine(folder / "engine"), ENCODER, 8, METADATA)
    opened.open()
    yield opened
    opened.close()


class Place:
    """Pictures and records, and what tidies them; `looks` counts how often the points are looked at."""

    def __init__(self, folder: Path, memory: Memory) -> None:
        self.folder = folder
        self.pictures = PictureStore(folder / "pictures")
        self.looks: list[str] = []
        self.tidy = tidy_of(folder, cast(Memory, Hooked(memory, self._look)), self.pictures)

    def _look(self, name: str) -> None:
        if name == "page":
            self.looks.append(name)

    def file(self, key: str) -> Path:
        return self.folder / "pictures" / key

    def orphan(self, tenant: str = "a", hour: str | None = None) -> str:
        key = self.pictures.new_key(tenant, "x", "0" * 64)
        key = key if hour is None else "/".join((tenant, hour, key.rpartition("/")[2]))
        self.pictures.write(key, b"picture")
        return key


@pytest.fixture
def place(folder: Path, memory: Memory) -> Place:
    return Place(folder, memory)


def test_it_is_due_an_hour_after_the_last_time_whatever_process_asks(
    place: Place, folder: Path, memory: Memory
) -> None:
    start = now()
    assert place.tidy.if_due(start) == 0
    key = place.orphan()
    assert place.tidy.if_due(start + HOUR) == 0, "it is younger than an hour by the clock of its disk"
    again = Place(folder, memory)
    assert again.tidy.if_due(start + 1.9 * HOUR) == 0
    assert again.pictures.all() == [key]
    assert again.tidy.if_due(start + 2.1 * HOUR) == 1
    assert again.pictures.all() == []


def test_what_came_since_is_looked_at_and_nothing_else(place: Place) -> None:
    old = [place.orphan(hour=hour) for hour in ("2020010100", "7f")]
    start = now() + 2 * HOUR
    assert place.tidy.if_due(start) == 2, "the first time it is everything"
    assert not set(old) & set(place.pictures.all())

    spared, place.looks[:] = place.orphan(hour="2020010100"), []
    place.orphan()
    assert place.tidy.if_due(start + HOUR) == 1
    assert len(place.looks) == 1
    assert place.tidy.if_due(start + 5 * HOUR) == 0
    assert len(place.looks) == 1
    assert place.pictures.all() == [spared]
    assert replace(place.tidy, grace=timedelta(0))().deleted == 1, "before a compaction it is everything"


def test_a_run_that_did_not_come_to_its_end_is_made_up_for(place: Place, memory: Memory) -> None:
    start = now() + 2 * HOUR
    place.tidy.if_due(start)
    place.orphan()

    def fail(name: str) -> None:
        if name in {"page", "ping"}:
            raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        replace(place.tidy, memory=cast(Memory, Hooked(memory, fail))).if_due(start + HOUR)
    assert place.tidy.if_due(start + 1.5 * HOUR) == 0
    assert place.tidy.if_due(start + 20 * HOUR) == 1


def test_a_clock_that_was_set_back_holds_it_up_no_longer(place: Place) -> None:
    place.tidy.if_due(now() + 300 * 24 * HOUR)
    key = place.orphan()
    os.utime(place.file(key), (time.time() + 10**7,) * 2)
    assert place.tidy.if_due() == 1
    assert place.tidy.if_due() == 0


def test_one_tenant_that_fails_holds_no_other_up(place: Place, memory: Memory) -> None:
    for tenant in "abc":
        place.orphan(tenant)
    before = failures("tidy")

    class Failing(Hooked):
        def page(self, tenant: str, *arguments: object) -> object:
            if tenant == "b":
                raise RuntimeError("as a test")
            return memory.images.page(tenant, *arguments)  # type: ignore[arg-type]

    failing = Hooked(memory)
    failing.images = Failing(memory.images)  # type: ignore[attr-defined]
    assert replace(place.tidy, memory=cast(Memory, failing), grace=timedelta(0))().deleted == 2
    assert failures("tidy") == before + 1


def test_the_folders_of_hours_long_past_go_when_they_are_empty(place: Place, folder: Path) -> None:
    kept, other = place.orphan(hour="2020010100"), "a/2020010101"
    for name in (other, "a/7f"):
        (folder / "pictures" / name).mkdir()
    young = place.orphan()
    place.pictures.delete([young])
    place.tidy.pictures.delete_empty_folders(now() - HOUR)
    left = {str(path.relative_to(folder / "pictures")) for path in (folder / "pictures").glob("*/*")}
    assert left == {kept.rpartition("/")[0], "a/7f", young.rpartition("/")[0]}
