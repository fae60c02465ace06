"""Promise 2: what was removed is known in a place of one's own before its receipt is given."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import delete, insert, select, update

from tests.support.databases import SHORT, new_database
from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.schemas.receipt import Event, Payload, RemovalPayload, RequestedPayload, Requester
from visual_memory.schemas.removal import Erasure, RemovalStatus
from visual_memory.services.backup.add_removals_from_mirror import UNKNOWN, AddRemovalsFromMirror
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import (
    blocks,
    receipt_log,
    receipt_log_ends,
    removals,
    tombstones,
)
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.mirror import mirrored_digests
from visual_memory.services.receipts.mirror.issued_receipts import IssuedReceipts
from visual_memory.services.receipts.mirror.mirror_files import MirrorFiles
from visual_memory.services.receipts.mirror.mirrored_digests import MirroredDigests
from visual_memory.services.receipts.mirror.sync_mirror import MirrorSync
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid, ReceiptSigner
from visual_memory.services.removal.removal_records import RemovalRecords


@pytest.fixture(params=SHORT)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty records: in SQLite, and with the faults in PostgreSQL too."""
    with new_database(request.param, tmp_path / "records") as made:
        yield made


MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ASKED: dict[str, Any] = {
    "requested_at": MOMENT,
    "requested_by": Requester(name="a test"),
    "reason": "asked to",
    "block": True,
    "everything": False,
    "filter_digest": "f" * 64,
}
DONE: dict[str, Any] = {**ASKED, "done_at": MOMENT, "images": 3, "by_state": {"remembered": 3}, "pictures": 2}
SIGNER = ReceiptSigner(b"k" * 32)


class FailingFiles(MemoryFileSystem):  # type: ignore[misc]  # fsspec ships no types
    """Files in memory, of which writes or reads fail when a test says so."""

    protocol = "failing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    fails_to: ClassVar[set[str]] = set()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **given: Any) -> Any:
        if "write" in self.fails_to:
            raise OSError("the bucket is gone")
        return super().pipe_file(path, value[:-1] if "keep" in self.fails_to else value, mode, **given)

    def cat_file(self, path: str, *given: Any, **named: Any) -> Any:
        if "read" in self.fails_to:
            raise OSError("the bucket is gone")
        return super().cat_file(path, *given, **named)


fsspec.register_implementation("failing", FailingFiles, clobber=True)


@pytest.fixture(autouse=True)
def _well() -> Iterator[None]:
    FailingFiles.fails_to = set()
    yield
    FailingFiles.store.clear()


@pytest.fixture(params=["folder", "memory", "failing"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    place = {"folder": str(tmp_path / "mirror"), "memory": f"memory://{uuid.uuid4().hex}", "failing": "failing://there"}
    return place[request.param]


@pytest.fixture
def log(database: Database) -> ReceiptLog:
    return ReceiptLog(database, SIGNER)


@pytest.fixture
def mirroring(log: ReceiptLog, url: str) -> MirrorSync:
    return MirrorSync(log, MirroredDigests(log.database), IssuedReceipts(log.database), MirrorFiles(url, SIGNER))


def append(log: ReceiptLog, removal: str, payload: Payload, tenant: str = "ann") -> LogEntry:
    with log.database.write() as connection:
        return log.append(connection, tenant, removal, payload)


def remove(log: ReceiptLog, removal: str, images: int = 3) -> LogEntry:
    """What a removal leaves: its tombstones and blocks, and two entries; the last one."""
    append(log, removal, RequestedPayload(**ASKED))
    with log.database.write() as connection:
        named = {"tenant": "ann", "removal": removal}
        rows = [{**named, "digest": f"{removal}-{number:04d}"} for number in range(images)]
        connection.execute(insert(tombstones), rows)
        connection.execute(insert(blocks), [{**row, "kind": "content"} for row in rows[:2]])
        connection.execute(insert(blocks).values(**named, kind="subject", digest="s"))
    return append(log, removal, RemovalPayload(**DONE))


def digests(mirroring: MirrorSync, number: int) -> tuple[list[str], list[tuple[str, str]]]:
    assert mirroring.mirror is not None
    pages = list(mirroring.mirror.entry("ann", number).pages)
    return [each for page in pages for each in page.tombstones], [each for page in pages for each in page.blocks]


def faults(mirroring: MirrorSync) -> list[str]:
    return list(mirroring.faults("ann"))


def test_an_entry_is_there_with_all_before_it(mirroring: MirrorSync, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrored_digests, "PAGE", 2)
    entries = [remove(mirroring.log, "r1"), remove(mirroring.log, "r2", images=5)]
    assert mirroring.mirror is not None
    mirroring.write_up_to("ann", entries[1].number)
    assert [each.entry for each in mirroring.mirror.entries("ann")] == list(mirroring.log.entries("ann"))
    assert digests(mirroring, 2) == (
        ["r1-0000", "r1-0001", "r1-0002"],
        [("content", "r1-0000"), ("content", "r1-0001"), ("subject", "s")],
    )
    assert digests(mirroring, 1) == ([], [])
    assert len(digests(mirroring, 4)[0]) == 5
    assert faults(mirroring) == []
    assert mirroring.tenants() == ["ann"]


def test_twice_the_same_and_several_at_once_are_harmless(mirroring: MirrorSync) -> None:
    entries = [remove(mirroring.log, f"r{number}") for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda entry: mirroring.write_up_to("ann", entry.number), [*entries, *entries]))
    assert faults(mirroring) == []
    with mirroring.log.database.write() as connection:
        connection.execute(delete(blocks))  # what is written is not written anew from other rows
    mirroring.write_up_to("ann", entries[-1].number)
    assert len(digests(mirroring, entries[-1].number)[1]) == 3


def test_without_a_mirror_nothing_waits(log: ReceiptLog) -> None:
    mirroring = MirrorSync(log, MirroredDigests(log.database), IssuedReceipts(log.database), None)
    mirroring.write_up_to("ann", remove(log, "r1").number)
    mirroring.check()
    assert (faults(mirroring), mirroring.tenants(), mirroring.restore_later("ann")) == ([], [], [])


@pytest.mark.parametrize("url", ["failing"], indirect=True)
@pytest.mark.parametrize("failure", ["write", "keep", "read"])
def test_a_mirror_that_fails_keeps_the_receipt_back(mirroring: MirrorSync, failure: str) -> None:
    entry = remove(mirroring.log, "r1")
    FailingFiles.fails_to = {failure}
    with pytest.raises(Unavailable, match="waiting for the mirror: "):
        mirroring.write_up_to("ann", entry.number)
    FailingFiles.fails_to = set()
    mirroring.write_up_to("ann", entry.number)
    assert faults(mirroring) == []


def record(log: ReceiptLog, removal: str, **columns: Any) -> None:
    row = {"id": removal, "tenant": "ann", "everything": False, "block": True, "reason": "", "requested_by": ""}
    with log.database.write() as connection:
        connection.execute(insert(removals).values({**row, "requested_at": MOMENT, "step": "done", **columns}))


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_receipts_that_were_given_are_found_by_their_removal(mirroring: MirrorSync) -> None:
    record(mirroring.log, "r1", receipt="one", erasure_receipt="two")
    record(mirroring.log, "r2", step="mirror")
    assert mirroring.issued.text("ann", "r1") == "one"
    assert mirroring.issued.text("ann", "r1", erasure=True) == "two"
    assert mirroring.issued.text("ann", "r2") is mirroring.issued.text("ann", "r2", erasure=True) is None
    for tenant, removal in (("bob", "r1"), ("ann", "r3")):
        with pytest.raises(NotFound):
            mirroring.issued.text(tenant, removal)


@pytest.mark.parametrize("url", ["failing"], indirect=True)
def test_what_waits_for_the_mirror_shows_in_the_readiness(mirroring: MirrorSync) -> None:
    mirroring.check()
    record(mirroring.log, "r1", step="mirror")
    mirroring.check()  # it has not failed yet
    record(mirroring.log, "r2", step="mirror", waits_for="waiting for the mirror: the bucket is gone")
    with pytest.raises(Unavailable, match="the bucket is gone"):
        mirroring.check()


def cut_log(log: ReceiptLog, number: int) -> None:
    """As a backup brings back an earlier log, with an end that was valid."""
    with log.database.write() as connection:
        connection.execute(delete(receipt_log).where(receipt_log.c.number > number))
        connection.execute(delete(receipt_log_ends))
        connection.execute(delete(tombstones))
        connection.execute(delete(blocks))
        log.seal_imported(connection, "ann")


def change_entry(log: ReceiptLog) -> None:
    other = append(log, "r9", RequestedPayload(**{**ASKED, "reason": "another"}), tenant="bob")
    with log.database.write() as connection:
        connection.execute(
            update(receipt_log)
            .where(receipt_log.c.tenant == "ann", receipt_log.c.number == 1)
            .values(entry=other.text, digest=other.digest)
        )


DAMAGED: dict[str, tuple[Callable[[ReceiptLog], None], str]] = {
    "cut off": (lambda log: cut_log(log, 2), "the log ends at entry 2, but the mirror has entries up to 4"),
    "gone": (lambda log: cut_log(log, 0), "the log ends at entry 0, but the mirror has entries up to 4"),
    "another": (change_entry, "entry 1 of the log is another than the mirror's"),
}


@pytest.mark.parametrize("url", ["memory"], indirect=True)
@pytest.mark.parametrize(("damage", "fault"), DAMAGED.values(), ids=DAMAGED)
def test_a_log_that_is_older_or_another_is_found(
    mirroring: MirrorSync, damage: Callable[[ReceiptLog], None], fault: str
) -> None:
    for removal in ("r1", "r2"):
        mirroring.write_up_to("ann", remove(mirroring.log, removal).number)
    assert faults(mirroring) == []
    damage(mirroring.log)
    assert any(fault in each for each in faults(mirroring)), faults(mirroring)


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_whatever_is_done_to_the_files_is_found(mirroring: MirrorSync, url: str) -> None:
    for removal in ("r1", "r2"):
        entry = remove(mirroring.log, removal)
        mirroring.write_up_to("ann", entry.number)
        record(mirroring.log, removal, receipt=entry.text)
    assert faults(mirroring) == []
    folder = Path(url) / "ann"
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"r2-0001", b"r2-0002") if b"r2-0001" in content else content[:-3])
        assert faults(mirroring) != [], f"{path.name} was changed"
        path.unlink()
        assert faults(mirroring) != [], f"{path.name} is gone"
        path.write_bytes(content)
    assert faults(mirroring) == []
    names = sorted(path.name for path in folder.iterdir())
    assert {name for name in names if name.startswith("000000000004.")} == {
        "000000000004.000000.json",
        "000000000004.000001.json",
        "000000000004.json",
    }
    for name in names[2:]:
        (folder / name).unlink()
    assert faults(mirroring) == [
        f"the mirror ends at entry 1, but receipt {number} was given: the mirror was cut off" for number in (2, 4)
    ]


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_a_mirror_of_another_log_takes_nothing(mirroring: MirrorSync) -> None:
    mirroring.write_up_to("ann", remove(mirroring.log, "r1").number)
    cut_log(mirroring.log, 0)
    other = remove(mirroring.log, "r2")
    with pytest.raises(Unavailable, match="another entry 1 of ann"):
        mirroring.write_up_to("ann", other.number)


def test_a_restored_log_takes_over_what_the_mirror_has_later(mirroring: MirrorSync) -> None:
    for removal in ("r1", "r2", "r3"):
        mirroring.write_up_to("ann", remove(mirroring.log, removal).number)
    before = list(mirroring.log.entries("ann"))
    cut_log(mirroring.log, 2)
    assert mirroring.restore_later("ann") == before[2:]
    assert list(mirroring.log.entries("ann")) == before
    assert list(mirroring.log.faults("ann")) == faults(mirroring) == []
    with mirroring.log.database.read() as connection:
        found = set(connection.execute(select(tombstones.c.digest)).scalars())
        assert found == {f"{removal}-{number:04d}" for removal in ("r2", "r3") for number in range(3)}
        assert len(connection.execute(select(blocks)).all()) == 6
    assert mirroring.restore_later("ann") == []
    append(mirroring.log, "r4", RequestedPayload(**ASKED))
    assert faults(mirroring) == []


@pytest.mark.parametrize("url", ["folder"], indirect=True)
def test_nothing_is_taken_over_from_a_mirror_that_was_changed(mirroring: MirrorSync, url: str) -> None:
    for removal in ("r1", "r2"):
        mirroring.write_up_to("ann", remove(mirroring.log, removal).number)
    cut_log(mirroring.log, 2)
    (Path(url) / "ann" / "000000000003.json").unlink()
    with pytest.raises(NotValid, match="entry 3 of the mirror is missing"):
        mirroring.restore_later("ann")
    assert mirroring.log.end("ann") == 2


def test_what_an_earlier_version_did_is_done_though_its_log_says_little(database: Database) -> None:
    removal = str(uuid.uuid4())
    made = (Event.DONE, Event.ERASED)
    given = [LogEntry("ann", at, event, removal, MOMENT, "{}", "0" * 64, version=1) for at, event in enumerate(made, 2)]
    AddRemovalsFromMirror(database, SIGNER)(given)
    found = RemovalRecords(database).load("ann", removal).removal
    assert (found.status, found.requested_at, found.receipt) == (RemovalStatus.DONE, MOMENT, None)
    assert found.erasure == Erasure(at=MOMENT, erased=False, note=UNKNOWN)
