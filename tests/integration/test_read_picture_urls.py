"""Pictures that events name are read from real files, stores and hosts, and from nowhere else."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import trustme
from fsspec.implementations.memory import MemoryFileSystem

from tests.support.https_servers import BODY, HOST, Loopback, answering, fetching, serving
from tests.support.running_service import until
from visual_memory.schemas.errors import FetchFailed, FetchUnanswered, InvalidRequest, TooLarge, VisualMemoryError
from visual_memory.services.bootstrap.intake_process import wire_picture_urls
from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefixes
from visual_memory.services.intake.picture_urls.read_picture_urls import READS_OF_ONE, ReadPictureUrls
from visual_memory.services.settings import IntakeSettings, Settings

MOST = 20_000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def reading(authority: trustme.CA, *allowed: str, network: Loopback | None = None, **changes: Any) -> ReadPictureUrls:
    fetch = replace(fetching(authority, network or Loopback()), max_bytes=MOST)
    return ReadPictureUrls(AllowedPrefixes({"shop": allowed}), fetch, MOST, **changes)


def refusal(read: ReadPictureUrls, url: str) -> VisualMemoryError:
    [found] = read("shop", [url])
    assert isinstance(found, VisualMemoryError)
    assert found.message.startswith("dataref: ")
    return found


# --- files of this machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    below = tmp_path / "pictures"
    (below / "cat").mkdir(parents=True)
    (below / "cat" / "1.jpg").write_bytes(b"a cat")
    (tmp_path / "secret").write_bytes(b"a secret")
    return below


def test_files_below_the_folder_are_read(authority: trustme.CA, folder: Path) -> None:
    (folder / "cat" / "my own 100%.jpg").write_bytes(b"")
    read = reading(authority, f"file://{folder}")
    urls = [f"file://{folder}/cat/{name}" for name in ("1.jpg", "my%20own 100%25.jpg", "1.jpg")]
    assert read("shop", urls) == [b"a cat", b"", b"a cat"]


def test_the_operator_s_folder_may_be_a_link(authority: trustme.CA, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    read = reading(authority, f"file://{tmp_path}/link/")
    assert read("shop", [f"file://{tmp_path}/link/cat/1.jpg"]) == [b"a cat"]


def test_no_link_leads_out_of_it(authority: trustme.CA, folder: Path, tmp_path: Path) -> None:
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "up").symlink_to("..")
    read = reading(authority, f"file://{folder}")
    for path in ("file", "folder/secret", "up/secret", "cat/../../secret", "folder"):
        assert type(refusal(read, f"file://{folder}/{path}")) in {FetchFailed, InvalidRequest}
    assert isinstance(refusal(read, f"file://{tmp_path}/secret"), InvalidRequest)


def test_what_is_no_file_is_not_waited_for(authority: trustme.CA, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    read = reading(authority, f"file://{folder}", "file:///dev/")
    for url in (f"file://{folder}/pipe", f"file://{folder}/cat", "file:///dev/zero"):
        assert refusal(read, url).message == "dataref: it is no file"
    for url in (f"file://{folder}/dog/1.jpg", f"file://{folder}/cat/2.jpg"):
        assert refusal(read, url).message == "dataref: it does not exist"


def test_a_large_file_is_not_read_to_its_end(authority: trustme.CA, folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(2**40)
    (folder / "largest").write_bytes(bytes(MOST))
    read = reading(authority, f"file://{folder}")
    assert isinstance(refusal(read, f"file://{folder}/large"), TooLarge)
    assert read("shop", [f"file://{folder}/largest"]) == [bytes(MOST)]


# --- stores


@pytest.fixture
def store() -> Iterator[MemoryFileSystem]:
    files = fsspec.filesystem("memory")
    files.pipe({"/bucket/shop/cat/1.jpg": b"a cat", "/bucket/secret": b"a secret", "/bucket/shop/b": bytes(MOST + 1)})
    yield files
    files.rm("/bucket", recursive=True)


def test_objects_of_a_store_are_read(authority: trustme.CA, store: MemoryFileSystem) -> None:
    read = reading(authority, "memory://bucket/shop")
    assert read("shop", ["memory://bucket/shop/cat/1.jpg"]) == [b"a cat"]
    assert refusal(read, "memory://bucket/shop/cat/2.jpg").message == "dataref: it does not exist"
    assert isinstance(refusal(read, "memory://bucket/shop/b"), TooLarge)
    assert isinstance(refusal(read, "memory://bucket/secret"), InvalidRequest)
    assert isinstance(read("zoo", ["memory://bucket/shop/cat/1.jpg"])[0], InvalidRequest)


def test_one_that_cannot_be_had_costs_the_others_nothing(authority: trustme.CA, store: MemoryFileSystem) -> None:
    read = reading(authority, "memory://bucket/shop")
    found = read("shop", [f"memory://bucket/{path}" for path in ("shop/x", "secret", "shop/cat/1.jpg", "shop/b")])
    assert [type(each) for each in found] == [FetchFailed, InvalidRequest, bytes, TooLarge]


def test_a_store_that_fails_may_be_asked_again(
    authority: trustme.CA, store: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> bytes:
        raise ConnectionResetError("a secret")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)
    error = refusal(reading(authority, "memory://bucket/"), "memory://bucket/shop/b")
    assert (type(error), error.message) == (
        FetchUnanswered,
        "dataref: the store does not answer: ConnectionResetError",
    )


def test_a_store_that_hangs_holds_up_nothing_for_longer_than_its_time(
    authority: trustme.CA, store: MemoryFileSystem, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, asked = threading.Event(), []

    def hang(*_arguments: object, **_named: object) -> bytes:
        asked.append(1)
        answers.wait(60)
        return b"late"

    monkeypatch.setattr(MemoryFileSystem, "cat_file", hang)
    read = reading(authority, "memory://bucket/", seconds=0.2)
    found = read("shop", ["memory://bucket/a"] * (READS_OF_ONE + 3))
    assert {type(each) for each in found} == {FetchUnanswered}
    until(lambda: len(asked) == READS_OF_ONE, "as many to be asked as one may")
    answers.set()
    assert reading(authority, f"file://{folder}")("shop", [f"file://{folder}/cat/1.jpg"]) == [b"a cat"]
    assert len(asked) == READS_OF_ONE, "what waits for its turn is given up, and not begun later"


def test_a_store_whose_library_is_missing_is_said_at_the_start(authority: trustme.CA) -> None:
    with pytest.raises(InvalidRequest, match=r"names hdfs:// URLs|names smb:// URLs"):
        reading(authority, "smb://host/share/")


# --- hosts


def test_a_picture_is_fetched_from_a_host_below_its_folder(authority: trustme.CA) -> None:
    with serving(authority) as server:
        read = reading(authority, f"https://{HOST}/shop/", network=Loopback(server.port))
        assert read("shop", [f"https://{HOST}/shop/1.jpg?v=2"]) == [BODY]
        assert isinstance(refusal(read, f"https://{HOST}/secret"), InvalidRequest)
        assert [request.split(b"\r\n")[0] for request in server.asked] == [b"GET /shop/1.jpg?v=2 HTTP/1.1"]


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (answering(b"", "404 No"), FetchFailed),
        (answering(b"", "302 Found", Location="http://127.0.0.1/"), FetchFailed),
        (answering(b"", "503 Later"), FetchUnanswered),
        (answering(b"", "429 Slowly"), FetchUnanswered),
        (answering(bytes(MOST + 1)), TooLarge),
        (b"", FetchUnanswered),
    ],
)
def test_what_a_host_says_instead(authority: trustme.CA, says: bytes, kind: type[VisualMemoryError]) -> None:
    with serving(authority, lambda: [says] if says else [b"SSH-2.0\r\n\r\n"]) as server:
        read = reading(authority, f"https://{HOST}/", network=Loopback(server.port))
        assert type(refusal(read, f"https://{HOST}/1.jpg")) is kind


def test_a_host_of_a_local_network_is_not_asked(authority: trustme.CA) -> None:
    network = Loopback()
    fetch = fetching(authority, network, resolve=lambda *_: ["10.0.0.1"])
    read = ReadPictureUrls(AllowedPrefixes({"*": [f"https://{HOST}/"]}), fetch, MOST)
    assert "not public" in refusal(read, f"https://{HOST}/1.jpg").message
    assert network.asked == []


def test_the_settings_say_what_is_allowed(tmp_path: Path, folder: Path) -> None:
    intake = IntakeSettings(references={"shop": [f"file://{folder}"]})
    read = wire_picture_urls(Settings(data=tmp_path, intake=intake))
    assert read("shop", [f"file://{folder}/cat/1.jpg"]) == [b"a cat"]
    with pytest.raises(InvalidRequest, match="no prefix of URLs"):
        wire_picture_urls(Settings(data=tmp_path, intake=IntakeSettings(references={"*": ["http://a/"]})))
