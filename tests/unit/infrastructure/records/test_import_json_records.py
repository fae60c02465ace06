"""The records of earlier versions go into the database once; whatever kills it, the next start comes to the same."""

import json
import lzma
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.support.databases import SHORT, new_database
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.bootstrap.wiring.wire_record_import import ImportingStores
from visual_memory.services.decisions.decision_mentions import mentions_of
from visual_memory.services.infrastructure.records import database_flags, tables
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import.import_audit_file import import_audit_file
from visual_memory.services.infrastructure.records.json_import.import_json_records import (
    FACT,
    Imported,
    import_json_records,
    is_imported,
)
from visual_memory.services.infrastructure.records.json_import.json_files import DAMAGED, JsonFiles
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import ReceiptSigner
from visual_memory.services.receipts.seal_imported_logs import SealImportedLogs


@pytest.fixture(params=SHORT)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty records: in SQLite, and with the faults in PostgreSQL too."""
    with new_database(request.param, tmp_path / "records") as made:
        yield made


FIXTURES = Path(__file__).parents[3] / "fixtures"
FOLDERS = ("data_folder_1", "data_folder_2")
OURS = ("data/records", "data/secret", "data/audit", "data/evaluations")
AT_ONCE = timedelta(microseconds=1)
"""A lease that is over when the next start comes."""
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Data folder 2, but for its images."""
    return unpacked("data_folder_2", tmp_path)


@cache
def _tar(folder: str) -> bytes:
    return lzma.decompress((FIXTURES / folder / "data.tar.xz").read_bytes())


def unpacked(folder: str, there: Path) -> Path:
    if not (there / folder).exists():
        with tarfile.open(fileobj=BytesIO(_tar(folder))) as packed:
            wanted = [each for each in packed if each.name.startswith(OURS)]
            packed.extractall(there / folder, wanted, filter="data")
    return there / folder / "data"


def expected(folder: str = "data_folder_2") -> dict[str, Any]:
    return dict(json.loads((FIXTURES / folder / "expected.json").read_text()))


def log_of(database: Database, data: Path) -> ReceiptLog:
    return ReceiptLog(database, ReceiptSigner(Secret((data / "secret").read_bytes()).key("receipts")))


def do_import(database: Database, data: Path, files: JsonFiles | None = None) -> Imported | None:
    stores = ImportingStores(SealImportedLogs(log_of(database, data), FilterDigests(b"0" * 32)))
    evaluations = JsonFiles(data / "evaluations")
    done = import_json_records(database, files or JsonFiles(data / "records"), evaluations, stores, AT_ONCE)
    import_audit_file(database, data / "audit.jsonl", AT_ONCE)
    return done


def dumped(database: Database) -> Rows:
    """All that the database holds, but for what tells when it came there."""
    found = {}
    with database.read() as connection:
        for table in tables.metadata.sorted_tables:
            rows = [dict(row) for row in connection.execute(select(table)).mappings()]
            found[table.name] = rows
    for end in found["receipt_log_ends"]:
        assert end.pop("seal")
        del end["digest"]
    for entry in found["receipt_log"]:
        if entry["version"] > 1:
            entry.update(dict.fromkeys(("entry", "digest", "at")))
    for line in found["audit"]:
        del line["number"]
    ids = {each.pop("number"): each["id"] for each in found["decisions"]}
    for each in found["decision_mentions"]:
        each["decision"] = ids[each["decision"]]
    found["leases"] = []
    found["facts"] = [fact for fact in found["facts"] if fact["name"] not in (FACT, "schema")]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def rows_of(database: Database, table: Any, **where: Any) -> list[Any]:
    with database.read() as connection:
        return list(connection.execute(select(table).filter_by(**where)))


def test_every_record_is_a_row_and_no_file_is_left(
    database: Database, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sum(1 for path in (data / "records").rglob("*") if path.is_file())
    lines = len((data / "audit.jsonl").read_text().splitlines())
    assert not is_imported(database, JsonFiles(data / "records"))
    done = do_import(database, data)
    assert done is not None
    access = {"keys": 8, "encoders": 3}
    removals = {"removals": 9, "notes": 2, "buried": 6, "blocks": 12, "log": 14}
    jobs = {"jobs": 4, "questions": 1, "evaluations": 2, "decisions": 5, "schedule": 1, "restore": 0}
    judgements = {"judgements": 0, "judgement_uses": 1}  # it is of a label that is spelled otherwise now
    assert done.records == access | removals | jobs | judgements
    assert (done.damaged, done.faults) == (0, [])
    assert before > sum(done.records.values())
    assert "old records were moved into the database: 8 of keys, 3 of encoders, 9 of removals" in caplog.text
    assert not (data / "records").exists()
    assert not (data / "audit.jsonl").exists()
    assert len(rows_of(database, tables.audit)) == lines
    assert do_import(database, data) is None, "it is done once"


def test_what_a_folder_of_the_first_version_holds_is_imported_too(database: Database, tmp_path: Path) -> None:
    data = unpacked("data_folder_1", tmp_path)
    done = do_import(database, data)
    assert done is not None
    assert (done.damaged, done.faults, done.records["removals"], done.records["log"]) == (0, [], 4, 6)
    assert list(log_of(database, data).faults("default")) == []


def test_a_new_data_folder_has_nothing_to_import(database: Database, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0" * 32)
    for _ in range(2):
        assert is_imported(database, JsonFiles(tmp_path / "records"))
        assert do_import(database, tmp_path) is None
    assert rows_of(database, tables.receipt_log) == []


def test_a_restore_that_did_not_end_is_still_served_by_nobody(database: Database, data: Path) -> None:
    (data / "records" / "restore").mkdir()
    (data / "records" / "restore" / "unfinished").write_text('{"file": "backup"}')
    do_import(database, data)
    assert database_flags.read_flag(database, database_flags.RESTORE) == {"file": "backup"}


def test_keys_open_what_they_opened(database: Database, data: Path) -> None:
    records = {path.name: json.loads(path.read_text()) for path in (data / "records" / "keys").iterdir()}
    do_import(database, data)
    for row in rows_of(database, tables.keys):
        record = records[row.id]
        assert (row.digest, row.tenant) == (record["digest"], record["tenant"])
        looks = ["read"] if "classify" in record["scopes"] else []
        assert list(row.scopes) == sorted(record["scopes"] + looks), "who could look at images still can"
        assert (row.revoked_at is None) == (record["revoked_at"] is None)
        assert (row.requests_per_minute, row.bytes_per_minute) == (
            record["requests_per_minute"],
            record["bytes_per_minute"],
        )
    assert {row.name for row in rows_of(database, tables.keys) if row.revoked_at} == {"revoked"}


def test_receipts_are_the_bytes_that_were_handed_out(database: Database, data: Path) -> None:
    do_import(database, data)
    for name in ("ann-erased", "tom", "rene", "shop"):
        given = (FIXTURES / "data_folder_2" / "receipts" / f"{name}.json").read_bytes()
        [row] = rows_of(database, tables.removals, id=json.loads(given)["id"])
        assert row.receipt.encode() == given
        assert (row.step, row.filter) == ("done", None), "a filter stays no longer than its removal"
        assert (row.erased_at is not None) == (row.erasure_receipt is not None) == (name in ("ann-erased", "rene"))
    [tom] = rows_of(database, tables.removals, id=expected()["receipts"]["tom"]["id"])
    [steward] = rows_of(database, tables.keys, name="steward")
    assert (tom.requested_by, tom.requested_key) == ("steward", steward.id)


def test_removals_that_run_begin_with_their_mark(database: Database, data: Path) -> None:
    do_import(database, data)
    for name, removal_id in expected()["unfinished"].items():
        [row] = rows_of(database, tables.removals, id=removal_id)
        assert (row.step, row.receipt, row.images, row.by_state) == ("mark", None, 0, {}), name
        assert len(row.filter) == 1
    covered = {row.image_id: row for row in rows_of(database, tables.covered_images)}
    assert set(covered) == {"deleting-1", "deleting-2", "deleting-3", "eve-1", "overlap-1"}
    assert covered["deleting-3"].removal == covered["deleting-3"].marked_by == expected()["unfinished"]["deleting"]
    assert covered["deleting-3"].picture.startswith("default/")


def test_the_log_is_one_chain_that_goes_on(database: Database, data: Path) -> None:
    do_import(database, data)
    log, unfinished = log_of(database, data), expected()["unfinished"]
    assert log.tenants() == ["default", "shop"]
    for tenant, entries, requests in (("default", 12, [unfinished["asked"]]), ("shop", 2, [])):
        assert list(log.faults(tenant)) == []
        found = list(log.entries(tenant))
        assert [entry.number for entry in found] == list(range(1, entries + len(requests) + 1))
        assert [entry.removal for entry in found if entry.version > 1] == requests, "it had not come to its mark"
    for removal_id in unfinished.values():
        assert log.find_one("default", removal_id, Event.REQUESTED)


def test_a_log_whose_end_was_cut_off_is_told(database: Database, data: Path, caplog: pytest.LogCaptureFixture) -> None:
    (data / "records" / "log" / "default" / f"{12:012d}").unlink()
    done = do_import(database, data)
    assert done is not None
    assert done.faults == ["the log of default had 12 entries before it was imported, and 11 are there"]
    assert done.faults[0] in caplog.text


def test_blocks_and_tombstones_are_the_digests_that_they_were(database: Database, data: Path) -> None:
    blocks = {path.relative_to(data / "records" / "blocks").parts for path in _files(data / "records" / "blocks")}
    buried = {digest for path in _files(data / "records" / "buried") for digest in json.loads(path.read_text())}
    do_import(database, data)
    assert {(row.tenant, row.kind, row.digest) for row in rows_of(database, tables.blocks)} == blocks
    assert {row.digest for row in rows_of(database, tables.tombstones)} == buried


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_decisions_are_found_by_what_they_tell_of(database: Database, data: Path) -> None:
    do_import(database, data)
    rows = {row.id: row for row in rows_of(database, tables.decisions)}
    assert set(rows) == set(expected()["decisions"])
    for row in rows.values():
        stored = StoredDecision.model_validate_json(row.body)
        mentions = {each.mention for each in rows_of(database, tables.decision_mentions, decision=row.number)}
        assert mentions == mentions_of("default", stored)
        assert (row.tenant, row.label, row.asked_by) == ("default", stored.decision.label, stored.asked_by)


def test_evaluations_are_as_far_as_they_were(database: Database, data: Path) -> None:
    do_import(database, data)
    [done] = rows_of(database, tables.evaluations, job=expected()["evaluation"])
    assert (done.report, json.loads(done.summary)["k"], json.loads(done.request)["itself"]) == ("report.zip", 3, True)
    [collecting] = rows_of(database, tables.evaluations, job=expected()["collecting"])
    assert (collecting.report, collecting.summary) == (None, None)
    [pictures] = rows_of(database, tables.evaluation_pictures)
    assert (pictures.job, pictures.pictures) == (collecting.job, 1)
    assert (data / "evaluations" / "default" / pictures.job / "queries" / pictures.file).is_file()
    [question] = rows_of(database, tables.questions)
    assert (question.job, question.last, question.result) == (expected()["question"], 2, None)
    assert rows_of(database, tables.jobs, id=expected()["job"])[0].state == "running"


def test_the_encoders_are_known(database: Database, data: Path) -> None:
    do_import(database, data)
    assert {row.name: row.fill for row in rows_of(database, tables.encoders)} == {
        expected()["encoders"][0]: None,
        expected()["encoders"][1]: {"share": 0.5, "paused": False},
    }
    assert [row.name for row in rows_of(database, tables.active_encoder)] == expected()["encoders"][:1]


def test_text_is_in_one_spelling(database: Database, data: Path) -> None:
    texts = json.dumps(dumped_after(database, data)["decisions"], default=str, ensure_ascii=False)
    assert "\u0301" not in texts, "combining accents are composed"
    assert "José" in texts


def dumped_after(database: Database, data: Path) -> Rows:
    do_import(database, data)
    return dumped(database)


def test_a_removal_of_a_subject_in_another_spelling_goes_on(database: Database, data: Path) -> None:
    removal_id = expected()["unfinished"]["marked"]
    file = data / "records" / "removals" / "default" / removal_id
    record = json.loads(file.read_text())
    record["removal"]["filter"] = {"subject": "Jose\u0301\u200b", "labels": ["cafe\u0301/a"], "age": {"gte": 3}}
    file.write_text(json.dumps(record))
    do_import(database, data)
    [row] = rows_of(database, tables.removals, id=removal_id)
    assert row.filter == {"subject": "José", "labels": ["café/a"], "age": {"gte": 3}}


def test_what_cannot_be_read_is_set_aside_and_the_rest_imported(
    database: Database, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("keys", "removals/default", "decisions/default", "blocks/default/content"):
        file = min((data / "records" / kind).iterdir())
        file.write_bytes(b'{"torn": ')
    with (data / "audit.jsonl").open("ab") as audit:
        audit.write(b'{"at": "2026-\n{"at": "2026-01-31T12:00:00Z"{"at": "2026-01-31T12:00:00Z", "tenant": "t",')
        audit.write(b' "by": "k", "action": "torn"}\n')
    done = do_import(database, data)
    assert done is not None
    assert (done.damaged, done.records["keys"], done.records["blocks"]) == (4, 7, 11)
    assert "4 cannot be read, and were set aside" in caplog.text
    assert len(list(_files(data / "records"))) == len(list(_files(data / "records" / DAMAGED))) == 4
    assert len(rows_of(database, tables.audit, action="torn")) == 1


def test_old_records_that_come_again_are_not_read(
    database: Database, data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    before = dumped_after(database, data)
    again = unpacked("data_folder_1", tmp_path)
    shutil.move(again / "records", data / "records")
    assert is_imported(database, JsonFiles(data / "records"))
    assert "a program of an earlier version ran here" in caplog.text
    assert dumped(database) == before


class Killed(BaseException):
    """The process ends here."""


class Deadly(JsonFiles):
    """Ends the process before so many files are deleted or set aside, each time counted down."""

    left = 0

    def delete(self, keys: Any) -> None:
        for key in keys:
            count_down()
            super().delete([key])


def count_down() -> None:
    if Deadly.left == 0:
        raise Killed
    Deadly.left -= 1


@contextmanager
def deadly_writes(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends the process before, and after, each transaction that writes."""
    write: Callable[..., Any] = database.write

    @contextmanager
    def counted(urgent: bool = False) -> Iterator[Connection]:
        with write(urgent) as connection:
            yield connection
            count_down()  # before it is durable
        count_down()  # once it is

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", counted)
        patched.setattr("visual_memory.services.infrastructure.records.resource_leases.Leases.release", lambda *_: None)
        yield


def test_killed_anywhere_the_next_start_comes_to_the_same(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many starts, each of which dies some steps after the place where the one before died."""
    monkeypatch.setattr("visual_memory.services.infrastructure.records.json_import.import_json_records.ROWS", 3)
    monkeypatch.setattr("visual_memory.services.infrastructure.records.json_import.import_json_records.AT_ONCE", 2)
    monkeypatch.setattr("visual_memory.services.infrastructure.records.json_import.import_audit_file.LINES", 7)
    data = unpacked("data_folder_2", tmp_path)
    spare = shutil.copytree(data, tmp_path / "spare")
    do_import(database, data)
    whole = dumped(database)
    for first in (0, 23):
        empty(database)
        shutil.copytree(spare, data, dirs_exist_ok=True)
        lives = 0
        while True:
            Deadly.left = first + lives * 61
            with deadly_writes(database, monkeypatch), suppress(Killed):
                do_import(database, data, Deadly(data / "records"))
                break
            lives += 1
        assert lives > 2
        assert not (data / "records").exists()
        assert dumped(database) == whole, first
        assert list(log_of(database, data).faults("default")) == []


def empty(database: Database) -> None:
    with database.write() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            connection.execute(table.delete())
