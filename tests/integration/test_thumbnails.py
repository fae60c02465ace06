"""A thumbnail lies beside its picture from its acceptance on, or from the first look at it, and never outlives it."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.integration.test_stored_pixels import Counting
from tests.support.shape_pictures import picture
from tests.support.wired_service import LIMITS, Hooked, Killed, Once, Parts, back_up, sound_sandbox
from visual_memory.schemas.errors import InvalidPicture, NotFound, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.decoding.pillow_decode import thumbnail
from visual_memory.services.infrastructure.storage import blob_store
from visual_memory.services.infrastructure.storage.picture_store import PictureStore


@pytest.fixture
def decoder(parts: Parts) -> Counting:
    parts.decoder = made = Counting(sound_sandbox(), parts)
    return made


def remove(parts: Parts, **condition: object) -> None:
    parts.remove(RemovalRequest(filter=Filter.model_validate(condition), reason="asked to"))


def forget_thumbnails(parts: Parts) -> None:
    """As an earlier version left its pictures."""
    for path in parts.thumbnails():
        path.unlink()


def test_it_is_made_while_the_picture_is_checked_and_looking_at_it_decodes_nothing(
    parts: Parts, decoder: Counting
) -> None:
    data, other = picture("disc"), picture("bars")
    parts.send(data, other)
    [again] = parts.send(data, image_id="again")
    assert (decoder.decoded, len(parts.thumbnails())) == (3, 3)
    assert parts.look(again.image_id) == thumbnail(data, 256, LIMITS)
    assert decoder.decoded == 3


def test_of_an_earlier_version_it_is_made_once(parts: Parts, decoder: Counting) -> None:
    data = picture("disc")
    [image_id] = parts.teach(data)
    forget_thumbnails(parts)
    before = decoder.decoded
    assert parts.look(image_id) == parts.look(image_id) == thumbnail(data, 256, LIMITS)
    assert decoder.decoded == before + 1
    [path] = parts.thumbnails()
    path.write_bytes(path.read_bytes()[:100])
    assert parts.look(image_id) == thumbnail(data, 256, LIMITS), "a crash cut it"
    assert path.read_bytes() == thumbnail(data, 256, LIMITS)


def test_it_goes_with_what_is_refused_or_replaced_or_removed(parts: Parts) -> None:
    with pytest.raises(InvalidPicture):
        parts.send(picture("disc"), b"no picture")
    parts.send(picture("disc"), picture("bars"), image_id="one", subject="ann")
    before = parts.thumbnails()
    parts.send(picture("cross"), image_id="one")
    assert len(before) == len(parts.thumbnails()) == 1
    assert before != parts.thumbnails()
    parts.send(picture("cross"), subject="bob")
    remove(parts, subject="ann")
    assert len(parts.thumbnails()) == len(parts.files()) == 1
    remove(parts, subject="bob")
    assert parts.thumbnails() | parts.files() == set()


def removed_meanwhile(parts: Parts) -> None:
    remove(parts, subject="ann")
    parts.compact()()


def replaced_meanwhile(parts: Parts) -> None:
    parts.send(picture("bars"), image_id="one")


@pytest.mark.parametrize("step", ["read", "store_thumbnail"])
@pytest.mark.parametrize("change", [removed_meanwhile, replaced_meanwhile])
def test_one_that_is_made_while_its_image_goes_goes_too(
    parts: Parts, step: str, change: Callable[[Parts], None]
) -> None:
    """Promises 2 and 3: whoever looks stands still while a removal comes to its end, and is erased."""
    parts.teach(picture("disc"), image_id="one", subject="ann")
    forget_thumbnails(parts)
    with pytest.raises(NotFound, match="there is no image 'one'"):
        parts.look("one", pictures=Hooked(parts.pictures, after=Once(step, lambda: change(parts))))
    assert len(parts.thumbnails()) == len(parts.files()) == len(parts.held("one") if parts.files() else [])
    assert parts.verify()().faults == []


def test_one_of_which_nobody_knows_whether_its_image_is_there_is_not_kept(parts: Parts) -> None:
    def fail(name: str) -> None:
        if name == "get":
            raise Unavailable("the store does not answer")

    [image_id] = parts.teach(picture("disc"))
    forget_thumbnails(parts)
    with pytest.raises(Unavailable):
        parts.look(image_id, memory=Hooked(parts.memory, fail))
    assert parts.thumbnails() == set()


def test_what_a_kill_left_is_found_and_goes(parts: Parts) -> None:
    """A process that is killed after it wrote a thumbnail, and before it saw that the image is removed."""

    def die(name: str) -> None:
        if name == "store_thumbnail":
            remove(parts, subject="ann")
            parts.pictures.store_thumbnail(key, b"\xff\xd8small\xff\xd9")
        if name in {"store_thumbnail", "delete_thumbnail"}:
            raise Killed

    parts.teach(picture("disc"), image_id="one", subject="ann")
    key = parts.held("one")[0].picture
    forget_thumbnails(parts)
    with pytest.raises(Killed):
        parts.look("one", pictures=Hooked(parts.pictures, die))
    [path] = parts.thumbnails()
    [fault] = parts.verify()().faults
    assert (
        fault
        == f"the file {path.relative_to(parts.folder / 'pictures')} (thumbnail) is there, but a removal covered it"
    )

    removals = parts.compact(grace=timedelta(hours=1))
    assert removals.remove_orphans().young.keys() == {parts.tenant}, "no receipt says meanwhile that all is erased"
    parts.compact()()
    assert parts.thumbnails() == set()

    parts.pictures.store_thumbnail(key, b"\xff\xd8small\xff\xd9")
    verify = parts.verify()
    verify.remove_again(verify())
    assert parts.thumbnails() == set()


def test_no_backup_holds_it(parts: Parts, tmp_path: Path) -> None:
    data = picture("disc")
    [image_id] = parts.teach(data)
    small = parts.look(image_id)
    back_up(parts, tmp_path / "b")
    assert small not in (tmp_path / "b").read_bytes()


def test_it_is_kept_only_where_there_is_plenty_of_room(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 4 * LIMITS.max_bytes
    parts.pictures = PictureStore(parts.folder / "pictures", LIMITS.max_bytes)
    monkeypatch.setattr(blob_store.os, "statvfs", lambda _folder: SimpleNamespace(f_bavail=free, f_frsize=1))  # type: ignore[attr-defined]
    data = picture("disc")
    [image_id] = parts.teach(data)
    assert parts.look(image_id) == thumbnail(data, 256, LIMITS)
    assert (len(parts.files()), parts.thumbnails()) == (1, set())


def test_an_object_store_keeps_it_too(parts: Parts, decoder: Counting) -> None:
    parts.pictures = PictureStore(f"memory://{parts.tenant}")
    data = picture("disc")
    [image_id] = parts.teach(data, subject="ann")
    [key] = parts.pictures.all()
    decoded = decoder.decoded
    assert parts.look(image_id) == parts.pictures.thumbnail(key) == thumbnail(data, 256, LIMITS)
    assert decoder.decoded == decoded
    remove(parts, subject="ann")
    assert parts.pictures.thumbnail(key) is None
    parts.pictures.store_thumbnail(key, b"\xff\xd8small\xff\xd9")
    assert parts.compact().remove_orphans().deleted == 1
    assert parts.pictures.thumbnail(key) is None
