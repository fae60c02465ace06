"""What is done on a small disk that fills up; each function runs in a child process, see `small_disk`."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tests.faults.small_disk import Ballast
from tests.support.memory_images import METADATA, Owner, image, units
from tests.support.running_service import Stack, fields, running, until
from tests.support.shape_pictures import as_file
from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.image import State, StoredImage, point_id
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.infrastructure.storage.disk_space import MIB
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import marked_by, within
from visual_memory.services.vector_engines.engine_contract import NamedVectors, UpdateVectors
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

FLOOR = 256 * MIB
DIMENSION = 1280
BATCH = 20
SIDE = 280
ROOM = 2**40
"""Bytes; more than there are."""
SETTLING = 300.0
ROUNDS = 500
"""Nothing fills in as many; it bounds the loops."""


def fill_the_engine(disk: Path) -> dict[str, Any]:
    """The engine's disk fills while points come, while they are embedded and while they are compacted."""
    ballast = Ballast(disk)
    with Owner(disk / "o", FLOOR) as owner:
        memory = _opened(owner.ready())
        pid = _pid(owner)
        refused = 0

        ballast.leave(FLOOR + 4 * MIB)
        accepted = _until_full(lambda n: _put(memory, n))
        ballast.leave(FLOOR / 2 + 4 * MIB)
        remembered = _until_full(lambda n: _embed(memory, accepted, n))
        refused += 2
        _check(memory, accepted, set(remembered))

        ballast.leave(FLOOR / 2)
        refused += _refused(memory.compact) + _refused(lambda: memory.writes.put([image("t", "late")]))
        gone = accepted[:BATCH]
        ballast.leave(FLOOR / 4 + MIB)
        memory.marks.mark("t", [], "r")
        ballast.leave(FLOOR / 8 + MIB)
        memory.writes.delete(gone)
        ballast.leave(0)
        refused += _refused(memory.compact) + _refused(lambda: memory.marks.mark("t", [], "s"))
        refused += _refused(lambda: memory.writes.delete(accepted))
        time.sleep(5)  # two flushes would have met the full disk
        kept = accepted[BATCH:]
        _check(memory, kept, set(remembered) - {each.image_id for each in gone})
        assert _pid(owner) == pid, "the owner died on the way"

        assert owner.stop() == 0, "it could not end on a full disk"
        ballast.leave(MIB)  # for the socket's key
        owner.start()
        refused += _refused(memory.ping)
        time.sleep(2)
        assert _pid(owner) != pid
        ballast.leave(ROOM)
        _check(memory, kept, set(remembered) - {each.image_id for each in gone})
        assert memory.images.count("t", [marked_by("r")]) == len(kept)
        memory.compact()
        _check(memory, kept, set(remembered) - {each.image_id for each in gone})
        memory.writes.put([image("t", "late")])
        memory.close()
        return {"points": len(accepted), "embedded": len(remembered), "refused": refused}


def fill_while_compacting(disk: Path) -> dict[str, Any]:
    """The room goes while the copy is written: it is broken off, removed, and done once there is room."""
    slow = "import time; from visual_memory.services.vector_engines.qdrant_edge import shard_copy as c;"
    slow += "p = c.ShardCopy._put;"
    slow += "c.ShardCopy._put = lambda self, records: (time.sleep(0.3), p(self, records))"
    ballast, refused = Ballast(disk), 0
    with Owner(disk / "o", FLOOR, slow) as owner:
        memory = _opened(owner.ready())
        pid = _pid(owner)
        accepted = [each for n in range(100) for each in _put(memory, n)]
        for trial in range(5):
            thread_refused: list[Exception] = []
            thread = threading.Thread(target=_collect, args=(memory.compact, thread_refused))
            thread.start()
            until(lambda: len(list(owner.data.glob("shard-*"))) > 1, "a draft")
            time.sleep(0.2 * trial)
            ballast.leave(FLOOR - MIB)
            thread.join()
            refused += len(thread_refused)
            assert len(list(owner.data.glob("shard-*"))) == 1
            _check(memory, accepted, set())
            ballast.leave(ROOM)
        memory.compact()
        _check(memory, accepted, set())
        assert _pid(owner) == pid, "the owner died on the way"
        memory.close()
        return {"points": len(accepted), "refused": refused}


def fill_while_accepting(disk: Path) -> dict[str, Any]:
    """Eight clients stream pictures into a real service until its disk is full, and again when there is room."""
    ballast = Ballast(disk)
    with running(disk / "d") as stack:
        engine = stack.child("engine").pid
        answers: list[tuple[int, str]] = []

        def stream(client: int) -> None:
            for n in range(ROUNDS):
                name = f"c{client}-{n}"
                sent = {"fields": fields(image_id=name, labels=["x"], source="stream")}
                files = {"files": ("picture", _noise(client * ROUNDS + n))}
                answer = stack.http.post("/v1/images", files=files, data=sent)
                answers.append((answer.status_code, name))
                if answer.status_code != 202:
                    return

        ballast.leave(FLOOR + 12 * MIB)
        with ThreadPoolExecutor(8) as clients:
            list(clients.map(stream, range(8)))
        statuses = {status for status, _ in answers}
        assert statuses <= {202, 507, 503}, statuses
        assert 507 in statuses
        accepted = [name for status, name in answers if status == 202]
        # what was accepted is embedded in the room that is kept for it
        until(lambda: _all_remembered(stack, accepted), "all to be remembered", SETTLING)
        assert len(stack.held({"source": "stream"})) - len(accepted) <= 8  # answered 507 with the point already there

        request = {"filter": {"image_id": accepted[:3]}, "reason": "asked to"}
        removed = stack.client.remove(RemovalRequest.model_validate(request)).id
        until(lambda: stack.client.removal(removed).status is RemovalStatus.DONE, "the removal on a full disk")
        ballast.leave(ROOM)
        more = stack.teach(_noise(10**6), labels=["x"], source="after")
        stack.remembered(more)
        assert stack.held({"image_id": accepted}).keys() == set(accepted[3:])
        assert stack.child("engine").pid == engine, "the engine died on the way"
        return {"accepted": len(accepted), "refused": len(answers) - len(accepted)}


def _all_remembered(stack: Stack, image_ids: list[str]) -> bool:
    held = stack.held({"image_id": image_ids})
    return len(held) == len(image_ids) and {image.state for image in held.values()} == {State.REMEMBERED}


def _opened(owner: Owner) -> Memory:
    memory = Memory(EngineOwnerClient(owner.socket, timeout=30), "e", DIMENSION, METADATA)
    memory.open()
    return memory


def _put(memory: Memory, number: int) -> list[StoredImage]:
    images = [image("t", f"{number}-{n}", metadata={"camera": "x" * 500}) for n in range(BATCH)]
    memory.writes.put(images)
    return images


def _remember(memory: Memory, images: list[StoredImage]) -> list[str]:
    assert memory.embeddings.store(images, units(len(images), dimension=DIMENSION)) == len(images)
    return [each.image_id for each in images]


def _embed(memory: Memory, images: list[StoredImage], number: int) -> list[str]:
    """Remember some of the images; once all are, the engine is given the vectors of the first again and again."""
    some = images[number * BATCH : (number + 1) * BATCH]
    if some:
        return _remember(memory, some)
    ids = [point_id("t", each.image_id) for each in images[:BATCH]]
    memory.points.engine.write([UpdateVectors(ids, NamedVectors("e", units(BATCH, dimension=DIMENSION)), within("t"))])
    return []


def _until_full(act: Callable[[int], list[Any]]) -> list[Any]:
    """Act again and again until the disk is full; all that was acknowledged."""
    done: list[Any] = []
    for number in range(ROUNDS):
        try:
            done += act(number)
        except OutOfSpace:
            return done
    raise AssertionError("the disk did not fill")


def _refused(call: Callable[[], object]) -> int:
    try:
        call()
    except OutOfSpace:
        return 1
    raise AssertionError("it was not refused on a full disk")


def _collect(call: Callable[[], object], errors: list[Exception]) -> None:
    try:
        call()
    except Unavailable as error:
        errors.append(error)


def _check(memory: Memory, images: list[StoredImage], remembered: set[str]) -> None:
    held = memory.images.get("t", [each.image_id for each in images])
    assert held.keys() == {each.image_id for each in images}
    assert {name for name, each in held.items() if each.state is State.REMEMBERED} == remembered


def _pid(owner: Owner) -> int:
    assert owner.process is not None
    assert owner.process.poll() is None, f"the owner ended with {owner.process.returncode}"
    return owner.process.pid


def _noise(seed: int) -> bytes:
    """A picture of some 230 KiB that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return as_file(PIL.Image.fromarray(pixels))
