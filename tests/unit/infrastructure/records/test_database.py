"""Transactions of one name wait for each other; on SQLite all do."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import facts

MANY = 8
OURS = facts.c.name == "count"


@pytest.mark.parametrize("shared_too", [False, True])
def test_what_is_read_and_then_written_under_one_name_loses_nothing(database: Database, shared_too: bool) -> None:
    with database.write() as connection:
        connection.execute(facts.insert().values(name="count", value=0))

    def add(_number: int) -> None:
        with database.write() as connection:
            database.serial(connection, "counting")
            value = connection.execute(facts.select().where(OURS)).one().value
            connection.execute(facts.update().where(OURS).values(value=value + 1))

    def look(_number: int) -> None:
        with database.write() as connection:
            database.serial(connection, "counting", shared=True)
            connection.execute(facts.select().where(OURS)).one()

    with ThreadPoolExecutor(MANY) as threads:
        added = [threads.submit(add, number) for number in range(MANY)]
        looked = [threads.submit(look, number) for number in range(MANY * shared_too)]
        for each in (*added, *looked):
            each.result()
    with database.read() as connection:
        assert connection.execute(facts.select().where(OURS)).one().value == MANY


def test_an_insert_may_leave_what_is_there(database: Database) -> None:
    with database.write() as connection:
        done = [
            connection.execute(
                database.insert(facts).values(name="count", value=value).on_conflict_do_nothing()
            ).rowcount
            for value in (1, 2)
        ]
        assert (done, connection.execute(facts.select().where(OURS)).one().value) == ([1, 0], 1)
