"""A watched folder: each picture once, whole, with its label, as an entry on a real Redis stream."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.intake_redis import IntakeServer, intake_server
from tests.support.running_service import unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.errors import Conflict, InvalidRequest, TooLarge
from visual_memory.schemas.intake_event import MAX_PICTURE
from visual_memory.schemas.parse_intake_event import EventImage, parse_event
from visual_memory.services.cli.commands.watch import WatchReport, _references
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.infrastructure.redis_streams.stream_users import Role, StreamUsers
from visual_memory.services.settings import IntakeSettings, Settings
from visual_memory.services.watched_folder import sent_files
from visual_memory.services.watched_folder.file_to_event import PictureReferences
from visual_memory.services.watched_folder.network_disk import is_remote
from visual_memory.services.watched_folder.new_files import WatchedFolder
from visual_memory.services.watched_folder.sent_files import SentFile, Stamp, open_sent_files
from visual_memory.services.watched_folder.stream_sender import StreamSender
from visual_memory.services.watched_folder.watch_and_send import FolderSender

SETTLE = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server(port=free_port()) as started:
        yield started


class Folder:
    """A folder that is watched by a user who may only send, with a clock that stands still."""

    def __init__(self, server: IntakeServer, top: Path, opened: ExitStack) -> None:
        self.server, self.top = server, top / "pictures"
        self.state = top / "state.sqlite"
        self.top.mkdir()
        self.now = 0.0
        self.told: list[str] = []
        self.stopped = threading.Event()
        tenant = unique("watched")
        self.stream = server.keys.intake(tenant)
        user = StreamUsers(server.client, server.keys).add(tenant, tenant, Role.SEND)
        client = redis.Redis(port=server.settings.port or 0, username=tenant, password=user.password)
        self.sender = StreamSender(opened.enter_context(closing(client)), self.stream, self.told.append, self.stopped)
        self.references = PictureReferences(None, lambda _: False, "use the API")

    def put(self, name: str, data: bytes) -> Path:
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def start(self, opened: ExitStack) -> "Callable[..., WatchReport]":
        """Begin to watch; what to call with paths that changed, once for each time that it is looked at them."""
        sent, report = opened.enter_context(open_sent_files(self.state)), WatchReport(as_json=True)
        files = WatchedFolder(self.top, sent, SETTLE, lambda: self.now)
        folder_sender = FolderSender(
            self.top, None, files, sent, self.references, self.sender, report, self.stopped, lambda: self.now
        )

        def look(*changed: Path) -> WatchReport:
            folder_sender.run([changed])
            self.now += SETTLE
            folder_sender.run([[]])
            return report

        return look

    def watch_once(self) -> WatchReport:
        """Start, send what is there, and stop."""
        with ExitStack() as opened:
            return self.start(opened)()

    def entries(self) -> list[EventImage]:
        found: Any = self.server.client.xrange(self.stream)
        return [image for _, entry in found for image in parse_event(entry[b"event"]).images]

    def labels(self) -> list[str]:
        return [image.fields.labels[0] for image in self.entries()]


@pytest.fixture
def folder(server: IntakeServer, tmp_path: Path) -> Iterator[Folder]:
    with ExitStack() as opened:
        yield Folder(server, tmp_path, opened)


def test_pictures_are_sent_with_their_folders_as_labels(folder: Folder) -> None:
    data = picture("disc")
    folder.put("animal/cat/1.png", data)
    folder.put("animal/cat/.hidden.png", data)
    folder.put("animal/cat/2.png.part", data)
    folder.put("animal/cat/notes.txt", b"no picture")
    folder.put("unlabelled.png", data)
    report = folder.watch_once()
    [image] = folder.entries()
    assert (image.fields.labels, image.fields.file_name, image.picture) == (["animal/cat"], "1.png", data)
    assert image.fields.model_fields_set == {"labels", "file_name"}
    assert (report.sent, report.skipped) == (1, 1)


def test_it_goes_on_where_it_was_and_sends_again_only_when_told(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.put("cat/1.png", picture("disc"))
    assert folder.watch_once().sent == 1
    folder.put("cat/2.png", picture("disc"))
    assert folder.watch_once().sent == 1
    assert folder.watch_once().sent == 0
    assert len(folder.entries()) == 2
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["id"] != second["id"]
    with open_sent_files(folder.state) as sent:
        sent.clear()
    assert folder.watch_once().sent == 2
    assert {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()} == {first["id"], second["id"]}


def test_a_file_is_sent_once_it_has_stayed_the_same_and_nobody_writes_to_it(folder: Folder) -> None:
    data = picture("disc")
    with ExitStack() as opened:
        look = folder.start(opened)
        with folder.put("cat/1.png", data[:10]).open("ab") as written:
            assert look(Path(written.name)).sent == 0, "somebody has it open"
            written.write(data[10:])
            written.flush()
            folder.now += SETTLE
            assert look().sent == 0
        growing = folder.put("cat/2.png", data[:10])
        assert look(growing).sent == 2
        folder.put("cat/empty.png", b"")
        assert look(folder.top).sent == 2
        growing.write_bytes(data + b"\0")
        assert look(growing).sent == 3, "one that was taken too early comes again"
    assert [image.picture for image in folder.entries()] == [data, data[:10], data + b"\0"]


def test_a_file_that_changes_while_it_waits_waits_anew(folder: Folder) -> None:
    with ExitStack() as opened:
        sent = opened.enter_context(open_sent_files(folder.state))
        files = WatchedFolder(folder.top, sent, SETTLE, lambda: folder.now)
        path = folder.put("cat/1.png", b"1")
        files.scan([path])
        for length in (2, 3):
            folder.now += SETTLE
            path.write_bytes(b"1" * length)
            assert [*files.complete_files()] == []
        folder.now += SETTLE / 2
        assert [*files.complete_files()] == []
        folder.now += SETTLE / 2
        assert [found for found, _ in files.complete_files()] == [path]
        assert not files


def test_moves_within_the_folder_are_sent_where_they_change_the_label(folder: Folder) -> None:
    path = folder.put("cat/1.png", picture("disc"))
    with ExitStack() as opened:
        look = folder.start(opened)
        assert look().sent == 1
        renamed = path.rename(folder.top / "cat" / "2.png")
        assert look(path, renamed).sent == 1, "its picture and label are as they were"
        moved = (folder.top / "cat").rename(folder.top / "dog")
        assert look(moved).sent == 2
        assert look((moved / "2.png").rename(folder.put("cat/x.txt", b"").with_name("2.png"))).sent == 3
        os.utime(folder.top / "cat" / "2.png", (1, 1))
        assert look(folder.top / "cat" / "2.png").sent == 3, "it was touched, no more"
    assert folder.labels() == ["cat", "dog", "cat"]
    assert folder.watch_once().sent == 0


def test_larger_pictures_are_named_by_a_url_where_the_service_allows_it(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    large = picture("disc") + bytes(MAX_PICTURE)
    path = folder.put("cat/a b#1.png", large)
    assert folder.watch_once().skipped == 1
    assert json.loads(capsys.readouterr().out)["left_out"].endswith("an event takes 262,144: use the API")
    folder.references = PictureReferences("file:///srv/pictures", lambda url: url.startswith("file:///srv/"), "")
    report = folder.watch_once()
    [image] = folder.entries()
    assert (image.dataref, image.picture, report.sent) == ("file:///srv/pictures/cat/a%20b%231.png", None, 1)
    os.utime(path, (1, 1))
    assert folder.watch_once().sent == 0, "it is known by its content"


def test_a_full_server_is_waited_for_and_said_once(folder: Folder) -> None:
    folder.put("cat/1.png", picture("disc"))
    folder.server.client.config_set("maxmemory", 1)
    try:
        folder_sender = threading.Thread(target=folder.watch_once)
        folder_sender.start()
        until(lambda: folder.told, "it to say that the server is full")
        assert folder.entries() == []
    finally:
        folder.server.client.config_set("maxmemory", folder.server.settings.max_bytes)
    folder_sender.join(60)
    assert folder.labels() == ["cat"]
    assert len(folder.told) == 1


def test_whoever_may_not_send_there_is_told_so(folder: Folder) -> None:
    folder.put("cat/1.png", picture("disc"))
    folder.sender = StreamSender(folder.sender._server, folder.stream + "x", folder.told.append, folder.stopped)
    with pytest.raises(InvalidRequest, match="does not let this user send"):
        folder.watch_once()
    with closing(redis.Redis(port=folder.server.settings.port or 0, username="x", password="wrong")) as client:
        folder.sender = StreamSender(client, folder.stream, folder.told.append, folder.stopped)
        with pytest.raises(InvalidRequest, match="does not let this user send"):
            folder.watch_once()
    assert folder.told == []


def test_two_processes_do_not_share_a_state(tmp_path: Path) -> None:
    with open_sent_files(tmp_path / "state"), pytest.raises(Conflict), open_sent_files(tmp_path / "state"):
        pass
    (tmp_path / "other").write_bytes(b"something else entirely" * 100)
    with pytest.raises(Conflict), open_sent_files(tmp_path / "other"):
        pass


def test_files_that_are_gone_for_long_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").touch()
    with open_sent_files(tmp_path / "state") as sent:
        for path in (b"there", b"gone"):
            sent.record(SentFile(path, Stamp(1, 1), sha256(path).hexdigest(), "cat"))
        sent.prune_deleted(tmp_path)
        assert sent.stamp(b"gone")
        monkeypatch.setattr(sent_files, "PRUNE_SECONDS", -1.0)
        sent.prune_deleted(tmp_path)
        assert [sent.stamp(path) for path in (b"there", b"gone")] == [Stamp(1, 1), None]


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("9p", True), ("ext4", False), ("fuseblk", False)],
)
def test_disks_of_other_machines_are_known_by_their_file_system(tmp_path: Path, kind: str, remote: bool) -> None:
    escaped = str(tmp_path.resolve() / "a b").replace(" ", "\\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 0:1 / / rw shared:1 - xfs /dev/a rw\n23 22 0:2 / {escaped} rw master:1 - {kind} some:/where rw\n"
    )
    assert is_remote(tmp_path / "a b" / "c", mounts) is remote
    assert not is_remote(tmp_path / "a", mounts)
    assert not is_remote(tmp_path, tmp_path / "missing")


@pytest.mark.parametrize("how", ["--no-polling", "--polling"])
def test_the_command_sends_what_comes_until_it_is_ended(folder: Folder, how: str) -> None:
    new = StreamUsers(folder.server.client, folder.server.keys).add(unique("camera"), "default", Role.SEND)
    stream, before = new.user.stream, folder.server.client.xlen(new.user.stream)
    url = f"redis://{new.user.name}:{new.password}@127.0.0.1:{folder.server.settings.port}"
    folder.put("cat/1.png", picture("disc"))
    aside = folder.put("../aside/dog/2.png", picture("disc")).parent
    words = ["watch", folder.top, "--url", url, "--state", folder.state, "--settle", 0, how]
    around = {name: value for name, value in os.environ.items() if not name.startswith("VISUAL_MEMORY_")}
    with subprocess.Popen(
        [sys.executable, "-m", "visual_memory.services.cli", *map(str, words)], env=around
    ) as process:
        try:
            until(lambda: folder.server.client.xlen(stream) == before + 1, "what was there")
            aside.rename(folder.top / "dog")
            until(lambda: folder.server.client.xlen(stream) == before + 2, "what was moved into it")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_services_own_settings_say_which_files_may_be_named(tmp_path: Path) -> None:
    allowed = Settings(data=tmp_path, intake=IntakeSettings(references={"shop": [tmp_path.as_uri()]}))
    named = _references(tmp_path, "shop", None, allowed).url(Path("cat/1 2.png"), 10**6)
    assert named == f"{tmp_path.as_uri()}/cat/1%202.png"
    for top, tenant, reference in ((tmp_path, "other", None), (Path("/"), "shop", None), (tmp_path, "shop", "s3://x")):
        with pytest.raises(TooLarge, match="VISUAL_MEMORY_INTAKE__REFERENCES"):
            _references(top, tenant, reference, allowed).url(Path("1.png"), 10**6)
    with pytest.raises(TooLarge, match="--reference"):
        _references(tmp_path, "shop", None, None).url(Path("1.png"), 10**6)
    assert _references(tmp_path, "shop", "s3://x/", None).url(Path("1.png"), 10**6) == "s3://x/1.png"
