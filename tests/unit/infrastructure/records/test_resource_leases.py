"""One owner at a time, in both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.resource_leases import Leases, Superseded

LONG, OVER = timedelta(hours=1), timedelta(0)


def test_of_many_who_take_a_lease_at_once_one_gets_it(database: Database) -> None:
    leases = Leases(database)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: leases.acquire("removal:1", LONG), range(8)))
    assert sum(lease is not None for lease in taken) == 1


def test_a_lease_that_is_given_back_is_another_s(database: Database) -> None:
    leases = Leases(database)
    with leases.held("removal:1", LONG) as first:
        assert first is not None
        assert leases.acquire("removal:1", LONG) is None
    second = leases.acquire("removal:1", LONG)
    assert second is not None
    assert second.token != first.token


def test_who_stood_still_writes_nothing_more(database: Database) -> None:
    leases = Leases(database)
    slow = leases.acquire("removal:1", OVER)
    assert slow is not None
    quick = leases.acquire("removal:1", LONG)
    assert quick is not None
    for ask in (leases.renew, leases.ensure):
        with pytest.raises(Superseded):
            ask(slow)
    leases.release(slow)  # takes nothing from the other
    leases.renew(quick)


def test_what_a_superseded_owner_wrote_in_the_transaction_is_undone(database: Database) -> None:
    leases = Leases(database)
    slow = leases.acquire("removal:1", OVER)
    assert slow is not None
    assert leases.acquire("removal:1", LONG) is not None

    def write() -> None:
        with database.write() as connection:
            assert leases.acquire_within(connection, "removal:2", LONG) is not None
            leases.check(connection, slow)

    with pytest.raises(Superseded):
        write()
    assert leases.acquire("removal:2", LONG) is not None


def test_a_lease_that_is_over_is_prolonged_while_nobody_else_took_it(database: Database) -> None:
    leases = Leases(database)
    lease = leases.acquire("removal:1", OVER)
    assert lease is not None
    leases.renew(lease)


def test_a_lease_is_prolonged_where_less_than_half_of_it_is_left(database: Database) -> None:
    leases = Leases(database)

    def until() -> datetime:
        with database.read() as connection:
            moment: datetime = connection.execute(select(tables.leases.c.until)).scalar_one()
            return moment

    lease = leases.acquire("removal:1", LONG)
    assert lease is not None
    first = until()
    leases.ensure(lease)
    assert until() == first
    leases.ensure(replace(lease, duration=3 * LONG))
    assert until() - first > LONG
