"""What is asked twice under one key is done once, however the two overlap; on both databases."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from visual_memory.schemas.errors import IdempotencyKeyReused, RequestRunning, Unavailable
from visual_memory.services.access.idempotency_keys import ABANDONED, KEPT, AlreadyMade, Claim, IdempotencyKeys
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database


@pytest.fixture
def idempotency(database: Database) -> IdempotencyKeys:
    return IdempotencyKeys(database, bytes(range(32)))


def claim(idempotency: IdempotencyKeys, request: str = "remove ann", **other: Any) -> Claim:
    return idempotency.claim(other.get("tenant", "north"), other.get("key", "camera"), other.get("name", "a"), request)


def make(idempotency: IdempotencyKeys, database: Database, wanted: Claim, made: list[str]) -> str:
    """Make something in the database once; its id."""
    new = uuid.uuid4().hex
    try:
        with database.write() as connection:
            idempotency.record(connection, wanted, new)
    except AlreadyMade as first:
        return first.resource
    made.append(new)
    return new


def age(database: Database, by: timedelta) -> None:
    with database.write() as connection:
        connection.execute(update(tables.idempotency).values(at=database.moment(connection) - by))


def test_of_twenty_who_ask_the_same_at_once_one_makes_it_and_all_are_told_of_it(
    idempotency: IdempotencyKeys, database: Database
) -> None:
    for attempt in range(10):
        made, begun, wanted = list[str](), threading.Barrier(20), claim(idempotency, name=str(attempt))

        def ask(_number: int, made: list[str] = made, begun: threading.Barrier = begun, wanted: Claim = wanted) -> str:
            begun.wait(60)
            return make(idempotency, database, wanted, made)

        with ThreadPoolExecutor(20) as threads:
            told = set(threads.map(ask, range(20)))
        assert (len(made), told) == (1, set(made))
        assert idempotency.find(wanted) == made[0]


def test_what_was_undone_is_not_known(idempotency: IdempotencyKeys, database: Database) -> None:
    with suppress(ZeroDivisionError), database.write() as connection:
        idempotency.record(connection, claim(idempotency), "m")
        raise ZeroDivisionError
    assert idempotency.find(claim(idempotency)) is None
    made: list[str] = []
    assert make(idempotency, database, claim(idempotency), made) == made[0]


def test_another_request_with_the_same_key_is_refused(idempotency: IdempotencyKeys, database: Database) -> None:
    make(idempotency, database, claim(idempotency), [])
    other, acted = claim(idempotency, "remove tom"), list[str]()

    def act() -> str:
        acted.append("done")
        return "done"

    refused: list[Callable[[], object]] = [
        lambda: idempotency.find(other),
        lambda: make(idempotency, database, other, []),
        lambda: idempotency.once(other, act),
    ]
    for ask in refused:
        with pytest.raises(IdempotencyKeyReused, match="use a new key for each request"):
            ask()
    assert acted == []
    assert idempotency.find(claim(idempotency)) is not None


@pytest.mark.parametrize("other", [{"tenant": "south"}, {"key": "another"}, {"name": "b"}], ids=str)
def test_each_tenant_and_key_has_names_of_its_own(
    idempotency: IdempotencyKeys, database: Database, other: dict[str, str]
) -> None:
    made: list[str] = []
    make(idempotency, database, claim(idempotency), made)
    make(idempotency, database, claim(idempotency, "remove tom", **other), made)
    assert len(made) == 2


def test_after_a_day_a_key_is_free_again(idempotency: IdempotencyKeys, database: Database) -> None:
    made: list[str] = []
    make(idempotency, database, claim(idempotency), made)
    age(database, KEPT - timedelta(minutes=1))
    assert make(idempotency, database, claim(idempotency), made) == made[0]
    age(database, KEPT)
    assert idempotency.find(claim(idempotency, "remove tom")) is None
    make(idempotency, database, claim(idempotency, "remove tom"), made)
    assert len(made) == 2


def test_a_deed_is_done_once_and_whoever_asks_meanwhile_is_told_to_come_again(idempotency: IdempotencyKeys) -> None:
    going, go_on, done = threading.Event(), threading.Event(), list[str]()

    def act() -> str:
        going.set()
        assert go_on.wait(60)
        done.append("done")
        return "3 images"

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(idempotency.once, claim(idempotency), act)
        assert going.wait(60)
        for _ in range(3):
            with pytest.raises(RequestRunning) as told:
                idempotency.once(claim(idempotency), act)
            assert told.value.retry_after == 1
        go_on.set()
        assert first.result() == "3 images"
    assert idempotency.once(claim(idempotency), act) == "3 images"
    assert done == ["done"]


def test_of_twenty_deeds_at_once_one_is_done(idempotency: IdempotencyKeys) -> None:
    done, begun = list[int](), threading.Barrier(20)

    def ask(number: int) -> str:
        def act() -> str:
            done.append(number)
            return "done"

        begun.wait(60)
        try:
            return idempotency.once(claim(idempotency), act)
        except RequestRunning:
            return "running"

    with ThreadPoolExecutor(20) as threads:
        told = set(threads.map(ask, range(20)))
    assert len(done) == 1
    assert "done" in told
    assert told <= {"done", "running"}


def test_a_deed_that_failed_may_be_done_again(idempotency: IdempotencyKeys) -> None:
    def fail() -> str:
        raise Unavailable("the store is away")

    with pytest.raises(Unavailable):
        idempotency.once(claim(idempotency), fail)
    assert idempotency.once(claim(idempotency), lambda: "done") == "done"


def test_a_deed_whose_process_died_may_be_done_again_later(idempotency: IdempotencyKeys, database: Database) -> None:
    with database.write() as connection:
        assert idempotency._insert(connection, claim(idempotency), None)
    with pytest.raises(RequestRunning):
        idempotency.once(claim(idempotency), lambda: "done")
    age(database, ABANDONED)
    assert idempotency.once(claim(idempotency), lambda: "done") == "done"


def test_nothing_that_was_asked_can_be_read_from_what_is_kept(idempotency: IdempotencyKeys, database: Database) -> None:
    make(idempotency, database, claim(idempotency, "remove ann"), [])
    with database.read() as connection:
        assert "ann" not in str(connection.execute(tables.idempotency.select()).all())
