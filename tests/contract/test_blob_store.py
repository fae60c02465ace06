"""Pictures and records, in a folder and on another filesystem."""

import errno
import os
import threading
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from visual_memory.schemas.errors import NotFound, OutOfSpace, Unavailable
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.picture_store import FileKind, PictureStore, new_keys_of_vectors

HASH = "ab" * 32


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "blobs") if request.param == "folder" else f"memory://{uuid.uuid4()}"


def test_a_picture_comes_back_until_it_is_deleted(url: str) -> None:
    pictures = PictureStore(url)
    pictures.ping()
    keys = [pictures.new_key("default", name, HASH) for name in ("a", "a", "b")]
    assert len(set(keys)) == 3
    assert all(key.startswith("default/") for key in keys)
    for n, key in enumerate(keys):
        pictures.write(key, bytes([n]) * 1000)
    pictures.write(keys[2], b"")
    assert [pictures.read(key) for key in keys] == [b"\0" * 1000, b"\1" * 1000, b""]
    assert pictures.delete(keys[:2]) == 2
    assert pictures.delete(keys) == 1
    assert pictures.delete(keys) == 0
    assert pictures.delete([]) == 0
    with pytest.raises(NotFound):
        pictures.read(keys[0])


def test_a_thumbnail_lies_beside_its_picture_and_goes_with_it(url: str) -> None:
    pictures, jpeg = PictureStore(url), b"\xff\xd8small\xff\xd9"
    first, second, third = (pictures.new_key("default", name, HASH) for name in "abc")
    pictures.write_many({first: b"1", second: b"2", third: b"3"}, {first: jpeg, second: jpeg})
    assert [pictures.thumbnail(key) for key in (first, second, third)] == [jpeg, jpeg, None]
    pictures.store_thumbnail(third, jpeg[:-1])
    assert pictures.thumbnail(third) is None, "a crash cut it"
    pictures.store_thumbnail(third, jpeg)
    assert pictures.thumbnail(third) == jpeg
    assert pictures.all() == sorted([first, second, third])

    pictures.delete_thumbnail(second)
    pictures.delete_thumbnail(second)
    assert pictures.thumbnail(second) is None
    assert pictures.delete([first, second]) == 2
    assert pictures.thumbnail(first) is None

    def files() -> set[tuple[FileKind, str | None]]:
        return {(file.kind, file.key) for file in pictures.files(third.rpartition("/")[0])}

    assert files() == {(FileKind.PICTURE, third), (FileKind.THUMBNAIL, third)}
    [small] = (file for file in pictures.files(third.rpartition("/")[0]) if file.kind is FileKind.THUMBNAIL)
    assert abs(pictures.file_written_at(small) - now()) < timedelta(minutes=1)
    assert pictures.delete_files([small]) == 1
    assert files() == {(FileKind.PICTURE, third)}
    pictures.store_thumbnail(third, jpeg)
    assert pictures.delete([third]) == 1
    assert files() == set()
    with pytest.raises(NotFound, match="it came as a vector"):
        pictures.thumbnail(new_keys_of_vectors(1)[0])


def test_blobs_come_back_and_are_listed(url: str) -> None:
    blobs = BlobStore(url)
    assert blobs.list("a/default/") == []
    assert not blobs.exists("a/default/1")
    with pytest.raises(NotFound):
        blobs.read("a/default/1")
    for key in ("a/default/2", "a/default/1", "a/default/10", "a/other/3", "b/x"):
        blobs.write(key, key.encode())
    blobs.write("a/default/1", b"replaced")
    assert blobs.read("a/default/1") == b"replaced"
    assert blobs.exists("b/x")
    assert not blobs.exists("b")
    assert blobs.list("a/default/") == ["a/default/1", "a/default/10", "a/default/2"]
    assert blobs.list("a/default/1") == ["a/default/1", "a/default/10"]
    assert blobs.delete(["a/default/1"]) == 1
    assert blobs.delete(["a/default/1"]) == 0
    assert BlobStore(url).list("a/") == ["a/default/10", "a/default/2", "a/other/3"]


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a\nb", "a\\b", "é", "a b"])
def test_what_could_leave_the_folder_is_no_key(url: str, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        PictureStore(url).read(key)
    with pytest.raises(ValueError, match="key"):
        BlobStore(url).write(key, b"1")


def test_writing_and_emptying_the_same_folder_at_once(tmp_path: Path) -> None:
    pictures, errors = PictureStore(tmp_path), []

    def work(number: int) -> None:
        try:
            for n in range(40):
                key = f"t/aa/{number}-{n}"
                pictures.write(key, b"x")
                assert pictures.read(key) == b"x"
                assert pictures.delete([key]) == 1
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert pictures.all() == []


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, OutOfSpace), (errno.EIO, Unavailable)])
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, expected: type[Exception]
) -> None:
    pictures = PictureStore(tmp_path)
    pictures.write("t/aa/x", b"old")

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(expected):
            pictures.write("t/aa/x", b"new")
    assert pictures.read("t/aa/x") == b"old"
    assert [path.name for path in (tmp_path / "t" / "aa").iterdir()] == ["x"]


def test_a_picture_is_synced_with_every_folder_that_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[str] = set()
    fsync = os.fsync

    def note(handle: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    PictureStore(tmp_path / "new").write("t/aa/x", b"x")
    folders = [tmp_path, tmp_path / "new", tmp_path / "new/t", tmp_path / "new/t/aa"]
    assert {str(folder) for folder in folders} <= synced


def test_a_folder_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("a file where a folder should be")
    with pytest.raises(Unavailable):
        PictureStore(tmp_path).write("t/aa/x", b"x")
