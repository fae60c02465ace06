"""Receipts of both versions, held against the log of one service that moved from the first version to the second."""

import json
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, update

from tests.support.databases import SHORT, new_database
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.receipt import (
    Claim,
    ErasurePayload,
    Event,
    Payload,
    RemovalPayload,
    RequestedPayload,
    Requester,
)
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.bootstrap.wiring.wire_receipts import Receipts, receipts_of
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, receipt_log_ends
from visual_memory.services.receipts import receipt_v1
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.settings import Settings


@pytest.fixture(params=SHORT)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Empty records: in SQLite, and with the faults in PostgreSQL too."""
    with new_database(request.param, tmp_path / "records") as made:
        yield made


FIXTURE = Path(__file__).parents[1] / "fixtures" / "data_folder_2"
REMOVAL = "8f8bedb6-a503-427c-be6b-8617681c12c9"
FILTER = Filter.model_validate({"subject": "José", "labels": {"not": ["cat", "dog"]}})
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TENANT = "default"


@cache
def folder_of_version_1() -> tuple[bytes, list[dict[str, Any]]]:
    """The secret and a tenant's log, in the order of its entries."""
    with tarfile.open(FIXTURE / "data.tar.xz") as packed:
        named = {name: packed.extractfile(name) for name in sorted(packed.getnames())}
        files = {name: file.read() for name, file in named.items() if file is not None}
    [secret] = (content for name, content in files.items() if name.endswith("/secret"))
    entries = [json.loads(content) for name, content in files.items() if f"/log/{TENANT}/" in name]
    return secret, entries


def receipt_of_version_1(name: str) -> str:
    return (FIXTURE / "receipts" / f"{name}.json").read_text()


@pytest.fixture
def receipts(database: Database) -> Receipts:
    """Receipts after the move: the log's old rows, and a removal since."""
    secret, entries = folder_of_version_1()
    made = receipts_of(Settings(), database, Secret(secret))
    rows = []
    for entry in entries:
        text = receipt_v1.canonical(entry).decode()
        columns = {name: entry[name] for name in ("tenant", "number", "event", "removal")}
        at, digest = datetime.fromisoformat(entry["at"]), sha256(text.encode()).hexdigest()
        rows.append({**columns, "at": at, "entry": text, "digest": digest, "version": 1})
    with database.write() as connection:
        connection.execute(insert(receipt_log), rows)
        made.log.seal_imported(connection, TENANT)
    asked: dict[str, Any] = {
        "requested_at": MOMENT,
        "requested_by": Requester(name="a test"),
        "reason": "asked to",
        "block": False,
        "everything": False,
        "filter_digest": made.filters.of(REMOVAL, FILTER),
    }
    append(made, REMOVAL, RequestedPayload(**asked))
    append(made, REMOVAL, RemovalPayload(**asked, done_at=MOMENT, images=1, by_state={State.MUTED: 1}, pictures=0))
    erase(made, REMOVAL)
    return made


def append(receipts: Receipts, removal: str, payload: Payload) -> str:
    with receipts.log.database.write() as connection:
        return receipts.log.append(connection, TENANT, removal, payload).text


def erase(receipts: Receipts, removal: str, of: str | None = None) -> str:
    done = receipts.log.find_one(TENANT, of or removal, Event.DONE)
    assert done is not None
    claim = Claim(engine="gone", pictures="gone", records="gone", copies="theirs")
    return append(receipts, removal, ErasurePayload(receipt=done.digest, erased_at=MOMENT, erased=True, claim=claim))


def text_of(receipts: Receipts, event: Event) -> str:
    entry = receipts.log.find_one(TENANT, REMOVAL, event)
    assert entry is not None
    return entry.text


def test_one_chain_holds_the_entries_of_both_versions(receipts: Receipts) -> None:
    entries = list(receipts.log.entries(TENANT))
    old = [entry for entry in entries if entry.version == 1]
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert len(old) == len(entries) - 3 > 0
    assert list(receipts.log.faults(TENANT)) == []
    said = receipts.log.signer.read(entries[len(old)].text).payload
    assert said["previous"] == old[-1].digest


def test_receipts_of_both_versions_are_valid(receipts: Receipts) -> None:
    check = receipts.check()
    for text in (receipt_of_version_1("ann-erased"), text_of(receipts, Event.DONE), text_of(receipts, Event.ERASED)):
        assert check(text) == check(f"{text}\n") == []


def test_a_removal_of_version_1_gets_its_erasure_in_version_2(receipts: Receipts) -> None:
    done = json.loads(receipt_of_version_1("tom"))
    assert done["seal"]["event"] == "done"
    assert receipts.check()(erase(receipts, done["id"])) == []


def test_a_request_is_no_receipt(receipts: Receipts) -> None:
    assert receipts.check()(text_of(receipts, Event.REQUESTED)) != []
    requested, done = (
        json.loads(receipts.log.entry(TENANT, number).text)  # type: ignore[union-attr]
        for number in (1, json.loads(receipt_of_version_1("ann-erased"))["seal"]["number"])
    )
    assert (requested["event"], done["event"]) == ("requested", "erased")
    forged = {**json.loads(receipt_of_version_1("ann-erased")), "seal": requested, "erasure": None, "images": 99}
    assert receipts.check()(json.dumps({**forged, "id": requested["removal"]})) != []


def test_whoever_has_the_filter_can_have_it_checked(receipts: Receipts) -> None:
    done, check = text_of(receipts, Event.DONE), receipts.check()
    decomposed = Filter.model_validate({"labels": {"not": ["cat", "dog"]}, "subject": "Jose\u0301"})
    assert check(done, FILTER) == check(done, decomposed) == []
    assert check(done, Filter({"subject": "José"})) == check(done, Filter({})) == ["it is of another filter"]
    assert check.has_filter(done, FILTER)
    assert not check.has_filter(done, Filter({}))
    [fault] = check(text_of(receipts, Event.ERASED), FILTER)
    assert "present the removal's receipt" in fault
    with pytest.raises(NotValid):
        check.has_filter(text_of(receipts, Event.REQUESTED), FILTER)


def test_a_receipt_of_version_1_names_its_filter_in_full(receipts: Receipts) -> None:
    text, check = receipt_of_version_1("ann-erased"), receipts.check()
    named = Filter.model_validate(json.loads(text)["filter"])
    assert check(text, named) == []
    assert check(text, Filter({"subject": "somebody else"})) == ["it is of another filter"]
    assert check.has_filter(text, named)


def test_an_erasure_of_another_removal_is_found(receipts: Receipts) -> None:
    done = json.loads(receipt_of_version_1("tom"))
    assert receipts.check()(erase(receipts, done["id"], of=REMOVAL)) == [
        "it is the erasure's receipt of another removal"
    ]


def cut(connection: Connection) -> None:
    """All that came behind the receipt goes."""
    connection.execute(delete(receipt_log).where(receipt_log.c.removal == REMOVAL, receipt_log.c.event == "erased"))


def change(connection: Connection) -> None:
    connection.execute(update(receipt_log).where(receipt_log.c.removal == REMOVAL).values(digest="0" * 64))


def drop_end(connection: Connection) -> None:
    connection.execute(delete(receipt_log_ends))


@pytest.mark.parametrize("damage", [cut, change, drop_end])
def test_a_receipt_counts_for_nothing_where_the_log_is_damaged(
    receipts: Receipts, damage: Callable[[Connection], None]
) -> None:
    text = text_of(receipts, Event.DONE)
    with receipts.log.database.write() as connection:
        damage(connection)
    assert receipts.check()(text) != []


def test_a_log_that_was_brought_back_is_found_by_a_later_receipt(receipts: Receipts) -> None:
    text = text_of(receipts, Event.DONE)
    with receipts.log.database.write() as connection:
        connection.execute(delete(receipt_log).where(receipt_log.c.version == 2))
        connection.execute(delete(receipt_log_ends))
        receipts.log.seal_imported(connection, TENANT)
    assert list(receipts.log.faults(TENANT)) == []
    [fault] = receipts.check()(text)
    assert "the log has no such entry" in fault


def test_receipts_of_another_service_are_none(receipts: Receipts, database: Database) -> None:
    other = receipts_of(Settings(), database, Secret(b"x" * 32)).check()
    for text in (receipt_of_version_1("ann-erased"), text_of(receipts, Event.DONE)):
        assert other(text) != []
