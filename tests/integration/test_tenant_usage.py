"""What tenants use is counted in the records, whatever the database does meanwhile."""

import threading
from datetime import date, timedelta

import pytest
from sqlalchemy import select

from tests.support.running_service import until
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.moments import now
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.tenant_usage import INTERVAL, TenantUsage
from visual_memory.services.data_governance.end_tenant import PAUSE
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import usage

HOUR = 3600.0
TENANTS = [f"tenant-{number}" for number in range(20)]


def test_processes_add_to_the_same_rows_at_once(database: Database) -> None:
    processes = [TenantUsage(database, HOUR) for _ in range(4)]

    def work(process: TenantUsage, tenants: list[str]) -> None:
        for _ in range(10):
            for tenant in tenants:
                process.count(tenant, {Measure.CLASSIFIED: 1, Measure.IMAGES_ACCEPTED: 2})
            process.write()

    threads = [
        threading.Thread(target=work, args=(process, TENANTS if number % 2 else TENANTS[::-1]))
        for number, process in enumerate(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.close()
    today = now().date()
    for tenant in TENANTS:
        [day] = processes[0].days(tenant, today, today)
        assert (day.classified, day.images_accepted, day.images_removed) == (40, 80, 0)


def test_counts_are_written_by_themselves_and_at_the_end(database: Database) -> None:
    counted, today = TenantUsage(database, 0.01), now().date()
    counted.count("north", {Measure.IMAGES_REMOVED: 3, Measure.IMAGES_REJECTED: 0})
    until(lambda: counted.days("north", today, today)[0].images_removed == 3, "the counts to be written")
    at_end = TenantUsage(database, HOUR)
    at_end.count("north", {Measure.IMAGES_REMOVED: 4})
    at_end.close()
    counted.close()
    with database.read() as connection:
        rows = connection.execute(select(usage.c.tenant, usage.c.measure, usage.c.amount)).all()
    assert [tuple(row) for row in rows] == [("north", "images_removed", 7)]


def test_what_the_database_did_not_take_is_written_later(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, today = TenantUsage(database, HOUR), now().date()

    def refuse() -> None:
        raise Unavailable("the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", lambda _self: refuse())
        counted.count("north", {Measure.IMAGES_REMEMBERED: 5})
        counted.write()
    counted.count("north", {Measure.IMAGES_REMEMBERED: 1})
    counted.close()
    assert counted.days("north", today, today)[0].images_remembered == 6


def test_a_day_without_counts_is_of_zeros(database: Database) -> None:
    first = date(2026, 1, 1)
    days = TenantUsage(database).days("nobody", first, first + timedelta(days=2))
    assert [day.day.day for day in days] == [1, 2, 3]
    assert not any(getattr(day, measure) for day in days for measure in Measure)


def test_what_was_counted_before_a_tenant_s_end_is_written_before_its_rows_are_deleted() -> None:
    assert INTERVAL < PAUSE - 0.5
