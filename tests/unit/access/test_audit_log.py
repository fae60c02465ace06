"""The audit log: rows that processes can write at once, that a tenant reads of its own alone, and that name nobody."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from sqlalchemy import Connection, func, select

from visual_memory.schemas.errors import Blocked, OutOfSpace, Unavailable
from visual_memory.schemas.page import PageRequest
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database

KEY = bytes(range(32))


@pytest.fixture
def audit(database: Database) -> AuditLog:
    return AuditLog(database, KEY)


class Failing(Database):
    """A database whose disk can be full."""

    full = False
    transactions = 0

    @contextmanager
    def write(self, urgent: bool = False) -> Iterator[Connection]:
        if self.full:
            raise OutOfSpace("the disk of the records is full")
        self.transactions += 1
        with super().write(urgent) as connection:
            yield connection


@pytest.fixture
def failing(database: Database) -> Iterator[Failing]:
    made = Failing(database._url)
    yield made
    made.close()


def test_threads_that_write_at_once_write_every_row_in_few_transactions(failing: Failing) -> None:
    audit, begun = AuditLog(failing, KEY), threading.Barrier(32)

    def write(name: str) -> None:
        begun.wait(60)
        for number in range(10):
            audit.write("north", name, "accept", images=number)

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(write, [f"writer-{number}" for number in range(32)]))
    lines = audit.latest("north", PageRequest(1000)).data
    assert len(lines) == 320
    for number in range(32):
        assert [line.images for line in lines if line.by == f"writer-{number}"] == [*reversed(range(10))]
    assert failing.transactions < 320, "what waits together is written together"


def test_a_write_that_fails_costs_those_beside_it_nothing(audit: AuditLog, database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        futures = [
            threads.submit(audit.write, "north", "camera", "accept", images=n if n % 4 else "many") for n in range(40)
        ]
    assert sum(future.exception() is not None for future in futures) == 10
    assert len(audit.latest("north").data) == 30


def test_a_tenant_reads_its_own_lines_the_latest_first(audit: AuditLog) -> None:
    assert audit.latest("north").data == []
    for number in range(30):
        audit.write("north" if number % 3 else "south", "camera", "accept", images=number)
    assert [line.images for line in audit.latest("south", PageRequest(5)).data] == [27, 24, 21, 18, 15]
    assert len(audit.latest("south").data) == 10


def test_a_deed_is_logged_before_it_begins_and_with_its_outcome(audit: AuditLog) -> None:
    with audit.recorded_action("north", "camera", "mute", key="k", request="r") as said:
        [running] = audit.latest("north").data
        assert running.outcome == "running"
        said["images"] = 3
    with pytest.raises(Blocked), audit.recorded_action("north", "camera", "amend", images=2):
        raise Blocked("the subject, in words")
    with pytest.raises(ZeroDivisionError), audit.recorded_action("north", "camera", "amend"):
        raise ZeroDivisionError("in words")
    broken, refused, done = audit.latest("north").data
    assert (done.outcome, done.images, done.key, done.request) == ("done", 3, "k", "r")
    assert (refused.action, refused.outcome, refused.images) == ("amend", "blocked", 2)
    assert (broken.action, broken.outcome) == ("amend", "internal")
    assert "in words" not in str(audit.latest("north").data)


def test_what_cannot_be_logged_is_not_done(failing: Failing) -> None:
    """A disk that cannot be written to was answered "done, but not written to the audit log"."""
    audit, failing.full = AuditLog(failing, KEY), True
    done: list[str] = []
    with pytest.raises(OutOfSpace), audit.recorded_action("north", "camera", "mute"):
        done.append("muted")
    assert done == []


def test_what_was_done_and_whose_end_cannot_be_logged_says_so_and_the_log_says_that_it_ran(failing: Failing) -> None:
    audit = AuditLog(failing, KEY)
    told = pytest.raises(OutOfSpace, match="it is done, but the audit log still shows it as running")
    with told, audit.recorded_action("north", "camera", "mute"):
        failing.full = True
    failing.full = False
    assert [line.outcome for line in audit.latest("north").data] == ["running"]


def test_what_may_be_sent_again_is_logged_afterwards_or_the_answer_says_to_send_it_again(failing: Failing) -> None:
    audit = AuditLog(failing, KEY)
    with audit.recorded_afterwards("north", "camera", "accept", images=2):
        assert audit.latest("north").data == []
    with pytest.raises(Blocked), audit.recorded_afterwards("north", "camera", "accept", images=1):
        raise Blocked("no")
    assert [(line.outcome, line.images) for line in audit.latest("north").data] == [("blocked", 1), ("done", 2)]
    told = pytest.raises(Unavailable, match="send it again, which changes nothing more")
    with told, audit.recorded_afterwards("north", "camera", "accept", images=3):
        failing.full = True


def test_what_is_done_in_the_database_is_undone_where_it_cannot_be_logged(audit: AuditLog, database: Database) -> None:
    with suppress(ZeroDivisionError), database.write() as connection:
        audit.record(connection, "north", "camera", "remove", removal="m")
        raise ZeroDivisionError
    assert audit.latest("north").data == []
    with database.write() as connection:
        audit.record(connection, "north", "camera", "remove", removal="m")
    assert audit.latest("north").data[0].removal == "m"


def test_who_looked_at_a_subject_is_found_by_its_name_and_stands_nowhere(audit: AuditLog, database: Database) -> None:
    audit.write("north", "camera", "read", {"ann", "José"}, images=2)
    audit.write("north", "camera", "read", {"tom"}, images=1)
    audit.write("south", "camera", "read", {"ann"}, images=1)
    audit.write("north", "camera", "read", {"ann"}, images=3)
    latest = audit.latest("north", PageRequest(1, total=True), "ann")
    assert ([line.images for line in latest.data], latest.total) == ([3], 2)
    before = audit.latest("north", PageRequest(1, latest.next_cursor), "ann")
    assert ([line.images for line in before.data], before.has_more) == ([2], False)
    assert [line.images for line in audit.latest("north", subject="José").data] == [2]
    assert audit.latest("north", subject="eve").data == []
    assert len(audit.latest("north").data) == 3
    with database.read() as connection:
        kept = str([connection.execute(select(table)).all() for table in (tables.audit, tables.audit_subjects)])
        digests = select(func.count(func.distinct(tables.audit_subjects.c.digest)))
        assert connection.execute(digests).scalar_one() == 4, "another tenant's subject of this name has another digest"
    assert not any(name in kept for name in ("ann", "Jos", "tom"))
    assert AuditLog(database, bytes(32)).latest("north", subject="ann").data == [], "nobody finds it without the secret"
