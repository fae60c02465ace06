"""What a picture was decoded to lies beside it until it is remembered: it is decoded once, and never outlives it."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import LIMITS, Killed, Parts, Pixels, back_up, sound_sandbox
from visual_memory.schemas.errors import Blocked, InvalidPicture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.infrastructure.storage import blob_store
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles


class Counting(Decoder):
    """Notes how many files it decodes."""

    def __init__(self, sandbox: SandboxPool, parts: Parts, crop: PreprocessingCrop = NO_CROP) -> None:
        super().__init__(sandbox, parts.pool, crop)
        self.decoded = 0

    def _request(self, *asked: object) -> tuple[dict[str, object], bytearray]:
        self.decoded += 1
        return super()._request(*asked)  # type: ignore[arg-type]


@pytest.fixture
def decoder(parts: Parts) -> Counting:
    parts.decoder = made = Counting(sound_sandbox(), parts)
    return made


def accepted(parts: Parts, number: int = 2, **fields: Any) -> list[str]:
    return [each.image_id for each in parts.send(*(picture("disc") for _ in range(number)), **fields)]


def remove(parts: Parts, block: bool = False, **condition: object) -> None:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to", block=block)
    parts.remove(request)


def test_nothing_is_decoded_twice_on_the_way_in(parts: Parts, decoder: Counting) -> None:
    ids = accepted(parts, 5)
    assert (decoder.decoded, len(parts.pixels())) == (5, 5)
    seen: list[bytes] = []
    parts.work(Pixels(before=lambda images: seen.extend(image.tobytes() for image in images)))
    assert decoder.decoded == 5
    assert parts.pixels() == set()
    held = [parts.pictures.read(image.picture) for image in parts.held(*ids)]
    assert sorted(seen) == sorted(decoder.decode_one(parts.tenant, data).tobytes() for data in held)


@pytest.mark.parametrize("fault", ["missing", "cut", "changed", "of another crop"])
def test_where_they_are_not_whole_the_file_is_decoded_again(parts: Parts, decoder: Counting, fault: str) -> None:
    ids = accepted(parts)
    for path in parts.pixels():
        data = path.read_bytes()
        match fault:
            case "missing":
                path.unlink()
            case "cut":
                path.write_bytes(data[:-1])
            case "changed":
                path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if fault == "of another crop":
        parts.decoder = decoder = Counting(sound_sandbox(), parts, PreprocessingCrop(32))
    before = decoder.decoded
    parts.work()
    assert decoder.decoded - before == 2
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}
    assert parts.pixels() == set()


def test_they_go_with_what_is_refused_or_replaced_or_known_already(parts: Parts) -> None:
    with pytest.raises(InvalidPicture):
        parts.send(picture("disc"), b"no picture")
    assert parts.pixels() == set()
    same = picture("bars")
    parts.send(same, same)
    assert len(parts.pixels()) == 1
    parts.send(same)
    assert len(parts.pixels()) == 1
    parts.send(picture("cross"), image_id="one")
    parts.send(picture("cross"), image_id="one")
    assert len(parts.pixels()) == 2


def test_they_go_with_a_rejection(parts: Parts) -> None:
    def refuse(_images: object) -> None:
        raise ValueError("nothing to see")

    ids = accepted(parts)
    parts.work(Pixels(before=refuse))
    assert {image.state for image in parts.held(*ids)} == {State.REJECTED}
    assert parts.pixels() == set()


def test_they_go_with_a_removal_and_do_not_come_back(parts: Parts) -> None:
    """Promise 3, for what still waits; and promise 2, where a removal with a block comes in between."""
    accepted(parts, subject="ann")
    assert len(parts.pixels()) == 2
    remove(parts, block=True, subject="ann")
    assert parts.pixels() | parts.files() == set()
    with pytest.raises(Blocked):
        accepted(parts, subject="ann")
    assert parts.pixels() | parts.files() == set()


def test_a_worker_that_dies_leaves_them_to_the_next(parts: Parts, decoder: Counting) -> None:
    def die(_images: object) -> None:
        raise Killed

    accepted(parts)
    with pytest.raises(Killed):
        parts.work(Pixels(before=die))
    parts.work(lease=timedelta(0))
    assert decoder.decoded == 2
    assert parts.pixels() == set()


def test_what_a_crash_left_goes_after_a_while(parts: Parts) -> None:
    accepted(parts)
    tidy = RemoveOrphanFiles(parts.memory, parts.pictures, PeriodicTaskRuns(parts.database), timedelta(0), timedelta(0))
    assert tidy().deleted >= 2
    assert parts.pixels() == set()
    assert len(parts.files()) == 2


def test_no_backup_holds_them(parts: Parts, tmp_path: Path) -> None:
    accepted(parts)
    pixels = [path.read_bytes()[-64:] for path in parts.pixels()]
    back_up(parts, tmp_path / "b")
    backup = (tmp_path / "b").read_bytes()
    assert pixels
    assert not any(each in backup for each in pixels)


def test_they_are_kept_only_where_there_is_plenty_of_room(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 4 * LIMITS.max_bytes
    parts.pictures = PictureStore(parts.folder / "pictures", LIMITS.max_bytes)
    monkeypatch.setattr(blob_store.os, "statvfs", lambda _folder: SimpleNamespace(f_bavail=free, f_frsize=1))  # type: ignore[attr-defined]
    ids = accepted(parts)
    assert (len(parts.files()), parts.pixels()) == (2, set())
    parts.work()
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


def test_an_object_store_keeps_none(parts: Parts, decoder: Counting) -> None:
    parts.pictures = PictureStore(f"memory://{parts.tenant}")
    accepted(parts)
    parts.work()
    assert decoder.decoded == 4
    assert parts.pixels() == set()
