"""Counts of what each tenant uses on each day, in the records.

Counts are added up in memory and written every few seconds and at the end of the process, so that counting never makes
a request wait or fail. A process that is killed loses the counts of its last seconds.
"""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import date

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from visual_memory.schemas.errors import VisualMemoryError
from visual_memory.schemas.moments import now
from visual_memory.schemas.usage import Measure, UsageDay
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import usage

INTERVAL = 2.0
"""Seconds between two writes of a process.

Less than the pause of `services.data_governance.end_tenant`, so that what was counted before the end of a tenant is
written before its rows are deleted.
"""

CountUsage = Callable[[str, Mapping[Measure, int]], object]
"""Adds amounts to a tenant's counts of today; never raises and never waits for the database."""

log = logging.getLogger(__name__)


def count_nothing(_tenant: str, _amounts: Mapping[Measure, int]) -> None:
    """The `CountUsage` of a process that does not count."""


class TenantUsage:
    """Counts of tenants; thread-safe.

    Args:
        database: the records.
        interval: seconds between two writes.
    """

    def __init__(self, database: Database, interval: float = INTERVAL) -> None:
        self._database, self._interval = database, interval
        self._waiting: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()  # of `_waiting` and `_thread`
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self, tenant: str, amounts: Mapping[Measure, int]) -> None:
        """Add amounts to a tenant's counts of today; the first call starts the thread that writes them."""
        day = now().date().isoformat()
        with self._lock:
            for measure, amount in amounts.items():
                if amount:
                    self._waiting[tenant, day, measure.value] += amount
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._write_periodically, name="usage", daemon=True)
                self._thread.start()

    def days(self, tenant: str, first: date, last: date) -> list[UsageDay]:
        """Every day from the first to the last, with what was counted; counts of the last seconds may be missing.

        Raises:
            Unavailable: the database does not answer.
        """
        of_days = usage.c.day.between(first.isoformat(), last.isoformat())
        found = select(usage.c.day, usage.c.measure, usage.c.amount).where((usage.c.tenant == tenant) & of_days)
        amounts: dict[date, dict[str, int]] = defaultdict(dict)
        with self._database.read() as connection:
            for day, measure, amount in connection.execute(found):
                amounts[date.fromisoformat(day)][measure] = amount
        days = map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))
        return [UsageDay.model_validate({"day": day, **amounts.get(day, {})}) for day in days]

    def write(self) -> None:
        """Write what was counted since the last write; if the database does not take it, the next write tries again."""
        with self._lock:
            waiting, self._waiting = self._waiting, Counter()
        try:
            self._add(waiting)
        except (VisualMemoryError, SQLAlchemyError) as error:
            log.warning("usage could not be written, and is kept for the next try: %s", type(error).__name__)
            with self._lock:
                self._waiting.update(waiting)

    def close(self) -> None:
        """Write what was counted, and end the thread."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        self.write()

    def _write_periodically(self) -> None:
        while not self._stop.wait(self._interval):
            self.write()

    def _add(self, amounts: Mapping[tuple[str, str, str], int]) -> None:
        """Add amounts to the rows, in the order of their keys, so that concurrent processes never deadlock."""
        names = ("tenant", "day", "measure", "amount")
        rows = [dict(zip(names, (*key, amount), strict=True)) for key, amount in sorted(amounts.items())]
        if not rows:
            return
        with self._database.write() as connection:
            for batch in batches(rows):
                new = self._database.insert(usage).values(batch)
                added = {"amount": usage.c.amount + new.excluded.amount}
                connection.execute(new.on_conflict_do_update(index_elements=usage.primary_key.columns, set_=added))
