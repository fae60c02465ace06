"""Promise 2: the log of receipts is a chain with a sealed end, and whatever is done to its rows is found out."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import (
    Claim,
    ErasurePayload,
    Event,
    Payload,
    RemovalPayload,
    RequestedPayload,
    Requester,
)
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, receipt_log_ends
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.receipt_log import DuplicateEntry, ReceiptLog
from visual_memory.services.receipts.receipt_signature import RECEIPT, NotValid, ReceiptSigner, digest, format_time

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ASKED: dict[str, Any] = {
    "requested_at": MOMENT,
    "requested_by": Requester(name="a test", key="0123456789ab"),
    "reason": "asked to",
    "block": True,
    "everything": False,
    "filter_digest": "f" * 64,
}
DONE: dict[str, Any] = {**ASKED, "done_at": MOMENT, "images": 3, "by_state": {"remembered": 3}, "pictures": 2}


@pytest.fixture
def log(database: Database) -> ReceiptLog:
    return ReceiptLog(database, ReceiptSigner(b"k" * 32))


@pytest.fixture
def filled(log: ReceiptLog) -> ReceiptLog:
    """Two removals of one tenant, interleaved, and one of another."""
    for tenant, removal, payload in (
        ("ann", "r1", RequestedPayload(**ASKED)),
        ("ann", "r2", RequestedPayload(**ASKED)),
        ("ann", "r2", RemovalPayload(**DONE)),
        ("bob", "r3", RequestedPayload(**ASKED)),
        ("ann", "r1", RemovalPayload(**DONE)),
        ("bob", "r3", RemovalPayload(**DONE)),
    ):
        append(log, tenant, removal, payload)
    return log


def append(log: ReceiptLog, tenant: str, removal: str, payload: Payload) -> LogEntry:
    with log.database.write() as connection:
        return log.append(connection, tenant, removal, payload)


def faults(log: ReceiptLog, tenant: str = "ann") -> list[str]:
    return list(log.faults(tenant))


def test_entries_are_a_chain_of_what_was_signed(filled: ReceiptLog) -> None:
    entries = list(filled.entries("ann"))
    assert [(entry.number, entry.event, entry.removal) for entry in entries] == [
        (1, "requested", "r1"),
        (2, "requested", "r2"),
        (3, "done", "r2"),
        (4, "done", "r1"),
    ]
    said = [filled.signer.read(entry.text).payload for entry in entries]
    assert [each["previous"] for each in said] == ["0" * 64, *(entry.digest for entry in entries[:-1])]
    assert faults(filled) == faults(filled, "bob") == []
    assert filled.tenants() == ["ann", "bob"]
    assert (filled.end("ann"), filled.end("bob"), filled.end("eve")) == (4, 2, 0)
    assert list(filled.entries("ann", 3)) == [filled.entry("ann", 4)]


def test_a_receipt_says_what_was_done_and_names_its_filter_by_a_digest(filled: ReceiptLog) -> None:
    with filled.database.read() as connection:
        entry = filled.find(connection, "ann", "r2", Event.DONE)
    assert entry is not None
    signed = filled.signer.read(entry.text)
    assert signed.type == RECEIPT
    moment = "2026-01-31T12:00:00Z"
    assert signed.payload == {
        "version": 2,
        "type": "removal",
        "event": "done",
        "tenant": "ann",
        "removal": "r2",
        "at": format_time(entry.at),
        "number": 3,
        "previous": signed.payload["previous"],
        "requested_at": moment,
        "requested_by": {"name": "a test", "key": "0123456789ab"},
        "reason": "asked to",
        "block": True,
        "everything": False,
        "filter_digest": "f" * 64,
        "done_at": moment,
        "images": 3,
        "by_state": {"remembered": 3},
        "pictures": 2,
        "queued": 0,
    }


def test_an_event_of_a_removal_is_entered_once(filled: ReceiptLog) -> None:
    with pytest.raises(DuplicateEntry):
        append(filled, "ann", "r1", RemovalPayload(**DONE))
    claim = Claim(engine="gone", pictures="gone", records="gone", copies="an operator's")
    erased = ErasurePayload(receipt="a" * 64, erased_at=MOMENT, erased=True, claim=claim)
    assert append(filled, "ann", "r1", erased).number == 5
    with pytest.raises(DuplicateEntry):
        append(filled, "ann", "r1", erased)
    with filled.database.read() as connection:
        row = row_of(connection, 4)
    with pytest.raises(IntegrityError), filled.database.write() as connection:  # nor past the class
        connection.execute(insert(receipt_log).values({**row._mapping, "number": 6}))
    assert faults(filled) == []


def test_a_transaction_that_is_undone_leaves_nothing(filled: ReceiptLog) -> None:
    def append_and_fail() -> None:
        with filled.database.write() as connection:
            filled.append(connection, "ann", "r9", RequestedPayload(**ASKED))
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        append_and_fail()
    assert filled.end("ann") == 4
    assert faults(filled) == []


def test_many_who_append_at_once_make_one_chain(log: ReceiptLog) -> None:
    def write(number: int) -> None:
        append(log, "many", f"r{number}", RequestedPayload(**ASKED))
        append(log, "many", f"r{number}", RemovalPayload(**DONE))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(40)))
    assert [entry.number for entry in log.entries("many")] == list(range(1, 81))
    assert faults(log, "many") == []


def test_of_several_who_finish_a_removal_at_once_one_does(log: ReceiptLog) -> None:
    def write(_: int) -> bool:
        try:
            append(log, "many", "r", RemovalPayload(**DONE))
        except DuplicateEntry:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(16))) == 1
    assert faults(log, "many") == []


def number_is(number: int) -> Any:
    return (receipt_log.c.tenant == "ann") & (receipt_log.c.number == number)


def row_of(connection: Connection, number: int) -> Row[Any]:
    return connection.execute(select(receipt_log).where(number_is(number))).one()


def change(number: int, /, **columns: Any) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(update(receipt_log).where(number_is(number)).values(columns))


def cut(*numbers: int) -> Callable[[Connection], object]:
    def tamper(connection: Connection) -> None:
        for number in numbers:
            connection.execute(delete(receipt_log).where(number_is(number)))

    return tamper


def swap(connection: Connection) -> None:
    for number, other in ((3, 9), (4, 3), (9, 4)):
        change(number, number=other)(connection)


def duplicate(connection: Connection) -> None:
    connection.execute(insert(receipt_log).values({**row_of(connection, 4)._mapping, "number": 5, "removal": "r9"}))


def forge(connection: Connection) -> None:
    """A row that another key signed."""
    forger = ReceiptSigner(b"f" * 32)
    row = row_of(connection, 4)
    text = forger.sign(RECEIPT, {**DONE, "requested_at": "", "done_at": "", "requested_by": "", "number": 4})
    change(row.number, entry=text, digest=digest(text))(connection)


def end(**columns: Any) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(
        update(receipt_log_ends).where(receipt_log_ends.c.tenant == "ann").values(columns)
    )


def end_gone(connection: Connection) -> None:
    connection.execute(delete(receipt_log_ends).where(receipt_log_ends.c.tenant == "ann"))


def end_of_another(connection: Connection) -> None:
    of_bob = connection.execute(select(receipt_log_ends).where(receipt_log_ends.c.tenant == "bob")).one()
    cut(3, 4)(connection)
    end(number=of_bob.number, digest=of_bob.digest, seal=of_bob.seal)(connection)


def cut_with_its_end(connection: Connection) -> None:
    cut(4)(connection)
    end(number=3, digest=row_of(connection, 3).digest)(connection)


TAMPERED: dict[str, tuple[Callable[[Connection], object], str]] = {
    "a moment": (change(2, at=MOMENT + timedelta(hours=1)), "entry 2 of the log does not match its row"),
    "an event": (change(2, event="erased"), "entry 2 of the log: it is no entry"),
    "a removal": (change(4, removal="r9"), "entry 4 of the log does not match its row"),
    "a digest": (change(1, digest="0" * 64), "entry 1 of the log was changed"),
    "the first gone": (cut(1), "entry 1 of the log is missing"),
    "one gone": (cut(2), "entry 2 of the log is missing"),
    "the last gone": (cut(4), "breaks off after entry 3, and its sealed end is 4"),
    "some at the end gone": (cut(3, 4), "breaks off after entry 2, and its sealed end is 4"),
    "all gone": (cut(1, 2, 3, 4), "breaks off after entry 0"),
    "two swapped": (swap, "does not match its row"),
    "one twice": (duplicate, "after its sealed end"),
    "one forged": (forge, "signed with another key"),
    "the end gone": (end_gone, "no sealed end"),
    "the end's number": (end(number=3), "the sealed end of the log was changed"),
    "the end's digest": (end(digest="0" * 64), "the sealed end of the log was changed"),
    "the end of another": (end_of_another, "the sealed end of the log was changed"),
    "cut off with the end": (cut_with_its_end, "the sealed end of the log was changed"),
}


@pytest.mark.parametrize(("tamper", "fault"), TAMPERED.values(), ids=TAMPERED)
def test_whatever_is_done_to_the_rows_is_found(
    filled: ReceiptLog, tamper: Callable[[Connection], object], fault: str
) -> None:
    with filled.database.write() as connection:
        tamper(connection)
    found = faults(filled)
    assert any(fault in each for each in found), found
    assert faults(filled, "bob") == []


def test_nothing_is_appended_after_an_end_that_was_changed(filled: ReceiptLog) -> None:
    with filled.database.write() as connection:
        cut_with_its_end(connection)
    with pytest.raises(Unavailable, match="verify-removals"):
        append(filled, "ann", "r4", RequestedPayload(**ASKED))
    with filled.database.write() as connection:
        end_gone(connection)
    with pytest.raises(Unavailable, match="verify-removals"):
        append(filled, "ann", "r4", RequestedPayload(**ASKED))
    append(filled, "bob", "r4", RequestedPayload(**ASKED))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(1, 4), max_size=6).filter(lambda order: order != [1, 2, 3, 4]))
def test_only_the_rows_as_they_were_have_no_fault(filled: ReceiptLog, order: list[int]) -> None:
    """Rows taken out, put elsewhere or put twice, in any way, with the signed end as it was."""
    texts = _texts(filled)
    with filled.database.write() as connection:
        _write_rows(connection, [texts[number] for number in order])
    assert faults(filled) != []
    with filled.database.write() as connection:
        _write_rows(connection, [texts[number] for number in (1, 2, 3, 4)])
    assert faults(filled) == []


def _texts(log: ReceiptLog) -> dict[int, Row[Any]]:
    with log.database.read() as connection:
        return {number: row_of(connection, number) for number in (1, 2, 3, 4)}


def _write_rows(connection: Connection, rows: list[Row[Any]]) -> None:
    connection.execute(delete(receipt_log).where(receipt_log.c.tenant == "ann"))
    seen: set[tuple[str, str]] = set()
    for number, row in enumerate(rows, 1):
        again = (row.removal, row.event) in seen
        seen.add((row.removal, row.event))
        columns = {**row._mapping, "number": number, **({"removal": f"again{number}"} if again else {})}
        connection.execute(insert(receipt_log).values(columns))


def test_entries_from_elsewhere_are_taken_over_where_they_follow(filled: ReceiptLog) -> None:
    entries = list(filled.entries("ann"))
    signed = _end(filled)
    with filled.database.write() as connection:
        cut(3, 4)(connection)
        end_gone(connection)
        filled.seal_imported(connection, "ann")
    assert faults(filled) == []
    with pytest.raises(NotValid, match="entry 4 of the log does not follow"), filled.database.write() as connection:
        filled.append_mirrored(connection, entries[3:])
    with filled.database.write() as connection:
        filled.append_mirrored(connection, entries[2:])
    assert faults(filled) == []
    assert list(filled.entries("ann")) == entries
    assert _end(filled)[:2] == signed[:2]


def _end(log: ReceiptLog) -> Any:
    columns = (receipt_log_ends.c.number, receipt_log_ends.c.digest)
    with log.database.read() as connection:
        return connection.execute(select(*columns).where(receipt_log_ends.c.tenant == "ann")).one()


def test_an_end_that_is_there_is_not_sealed_anew(filled: ReceiptLog) -> None:
    with filled.database.write() as connection:
        cut(4)(connection)
        filled.seal_imported(connection, "ann")
    assert any("breaks off" in each for each in faults(filled))


def test_an_empty_log_has_neither_end_nor_faults(log: ReceiptLog) -> None:
    with log.database.write() as connection:
        log.seal_imported(connection, "nobody")
        assert connection.execute(select(func.count()).select_from(receipt_log_ends)).scalar_one() == 0
    assert (faults(log, "nobody"), log.tenants(), log.end("nobody")) == ([], [], 0)
