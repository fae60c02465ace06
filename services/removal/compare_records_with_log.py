"""Compare the records of removals with the log of receipts, in SQL because both are long."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Select, and_, func, or_, select

from visual_memory.schemas.receipt import Event
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, removals
from visual_memory.services.removal.removal_records import RemovalStep

MAX_FAULTS = 1000
"""At most so many faults of each kind are listed."""
COMPARED = ("reason", "block", "everything", "images", "by_state", "pictures", "queued")
"""The fields that records and receipts have in common."""
DEFAULTS = {"queued": 0}
"""Fields that receipts of earlier versions lack, and their values."""
_RECEIPTS = ((Event.DONE, removals.c.receipt), (Event.ERASED, removals.c.erasure_receipt))


class RemovalRecordCheck:
    """Compares the records and the log of a tenant.

    Args:
        database: the records' database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, tenant: str) -> tuple[int, int]:
        """The number of removals, and how many of them are not done."""
        states = (
            select(removals.c.step, func.count().label("number"))
            .where(removals.c.tenant == tenant)
            .group_by(removals.c.step)
        )
        with self._database.read() as connection:
            steps: dict[str, int] = {row.step: row.number for row in connection.execute(states)}
        return sum(steps.values()), sum(number for step, number in steps.items() if step != RemovalStep.DONE)

    def __call__(self, tenant: str) -> Iterator[str]:
        """What is missing or different on either side, one sentence each."""
        for removal_id in self._ids(_without_record(tenant)):
            yield f"the record of removal {removal_id} is gone, but the log has it"
        for event, receipt in _RECEIPTS:
            for removal_id in self._ids(_not_logged(tenant, event, receipt)):
                yield f"removal {removal_id} has a receipt, but the log does not have it ({event})"
            for removal_id in self._ids(_changed(tenant, event, receipt)):
                yield f"the receipt of removal {removal_id} is another than the log's ({event})"
        for removal_id in self._ids(_sealed_and_running(tenant)):
            yield f"removal {removal_id} is not done, but the log has its receipt"

    def contradictions(self, tenant: str, read: Callable[[str], Mapping[str, Any]]) -> Iterator[str]:
        """Records whose fields differ from their receipts, one sentence each.

        Args:
            tenant: the tenant.
            read: returns the payload of a receipt.
        """
        after = ""
        columns = [removals.c[name] for name in ("id", "requested_by", "requested_key", "receipt", *COMPARED)]
        query = select(*columns).join(receipt_log, _entry_of(Event.DONE) & (receipt_log.c.entry == removals.c.receipt))
        query = query.where(removals.c.tenant == tenant, receipt_log.c.version > 1)
        query = query.order_by(removals.c.id).limit(MAX_FAULTS)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(removals.c.id > after)).all()
            for row in rows:
                payload = {**DEFAULTS, **read(row.receipt)}
                requester = {"name": row.requested_by, "key": row.requested_key}
                recorded = {**{name: getattr(row, name) for name in COMPARED}, "requested_by": requester}
                if recorded != {name: payload.get(name) for name in recorded}:
                    yield f"the record of removal {row.id} says something else than its receipt"
            if len(rows) < MAX_FAULTS:
                return
            after = rows[-1].id

    def receipts_of_version_1(self, tenant: str) -> Iterator[str]:
        """The receipts that earlier versions issued: their texts are not in the log."""
        old = _entry_of(Event.DONE) & (receipt_log.c.version == 1)
        query = select(removals.c.receipt).where(
            removals.c.tenant == tenant,
            removals.c.receipt.is_not(None),
            select(receipt_log.c.number).where(old).exists(),
        )
        with self._database.read() as connection:
            found = [*connection.execute(query).scalars()]
        yield from found

    def _ids(self, query: Select[Any]) -> list[str]:
        with self._database.read() as connection:
            return [*connection.execute(query.limit(MAX_FAULTS)).scalars()]


def _entry_of(event: Event) -> Any:
    return and_(
        receipt_log.c.tenant == removals.c.tenant, receipt_log.c.removal == removals.c.id, receipt_log.c.event == event
    )


def _without_record(tenant: str) -> Select[Any]:
    """Logged requests without a record, except unfinished ones before a restore: their records were not restored."""
    log, later = receipt_log.c, receipt_log.alias().c
    recorded = select(removals.c.id).where(removals.c.id == log.removal)
    done = select(later.number).where(later.tenant == tenant, later.removal == log.removal, later.event == Event.DONE)
    restored = select(later.number).where(
        later.tenant == tenant, later.event == Event.RESTORED, later.number > log.number
    )
    requests = (log.tenant == tenant) & (log.event == Event.REQUESTED)
    lost_by_restore = ~done.exists() & restored.exists()
    return select(log.removal).where(requests, ~recorded.exists(), ~lost_by_restore).order_by(log.number)


def _not_logged(tenant: str, event: Event, receipt: Any) -> Select[Any]:
    logged = select(receipt_log.c.number).where(_entry_of(event))
    ended = receipt.is_not(None)
    if event is Event.DONE:
        ended = or_(ended, removals.c.step.in_([RemovalStep.MIRROR.value, RemovalStep.DONE.value]))
    return select(removals.c.id).where(removals.c.tenant == tenant, ended, ~logged.exists()).order_by(removals.c.id)


def _changed(tenant: str, event: Event, receipt: Any) -> Select[Any]:
    issued = removals.c.step == RemovalStep.DONE.value if event is Event.DONE else receipt.is_not(None)
    other = _entry_of(event) & (receipt_log.c.version > 1) & (func.coalesce(receipt, "") != receipt_log.c.entry)
    return select(removals.c.id).join(receipt_log, other).where(removals.c.tenant == tenant, issued)


def _sealed_and_running(tenant: str) -> Select[Any]:
    running = (removals.c.tenant == tenant) & removals.c.step.not_in([RemovalStep.MIRROR.value, RemovalStep.DONE.value])
    return select(removals.c.id).join(receipt_log, _entry_of(Event.DONE)).where(running)
