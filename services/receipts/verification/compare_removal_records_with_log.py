"""What the records of removals say otherwise than the log of receipts; by queries, as both are long."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Select, and_, func, or_, select

from visual_memory.schemas.receipt import Event
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import receipt_log, removals
from visual_memory.services.removal.removal_records import RemovalStep

MOST = 1000
"""So many faults of a kind are told."""
SAID = ("reason", "block", "everything", "images", "by_state", "pictures", "queued")
"""What records and receipts say in the same way."""
SINCE = {"queued": 0}
"""What receipts of earlier versions do not say, and what that means."""
_RECEIPTS = ((Event.DONE, removals.c.receipt), (Event.ERASED, removals.c.erasure_receipt))


class RemovalRecordCheck:
    """Compares records and log of a tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, tenant: str) -> tuple[int, int]:
        """How many removals there are, and how many of them are not done."""
        states = (
            select(removals.c.step, func.count().label("number"))
            .where(removals.c.tenant == tenant)
            .group_by(removals.c.step)
        )
        with self._database.read() as connection:
            steps: dict[str, int] = {row.step: row.number for row in connection.execute(states)}
        return sum(steps.values()), sum(number for step, number in steps.items() if step != RemovalStep.DONE)

    def __call__(self, tenant: str) -> Iterator[str]:
        """What is wrong, a sentence each."""
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
        """What is wrong with records that say something else than their receipts.

        Args:
            tenant: whose.
            read: what a receipt says.
        """
        after = ""
        columns = [removals.c[name] for name in ("id", "requested_by", "requested_key", "receipt", *SAID)]
        asked = select(*columns).join(receipt_log, _entry_of(Event.DONE) & (receipt_log.c.entry == removals.c.receipt))
        asked = asked.where(removals.c.tenant == tenant, receipt_log.c.version > 1).order_by(removals.c.id).limit(MOST)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(asked.where(removals.c.id > after)).all()
            for row in rows:
                said = {**SINCE, **read(row.receipt)}
                requester = {"name": row.requested_by, "key": row.requested_key}
                if {**{name: getattr(row, name) for name in SAID}, "requested_by": requester} != {
                    name: said.get(name) for name in (*SAID, "requested_by")
                }:
                    yield f"the record of removal {row.id} says something else than its receipt"
            if len(rows) < MOST:
                return
            after = rows[-1].id

    def receipts_of_version_1(self, tenant: str) -> Iterator[str]:
        """The receipts that earlier versions gave: they are not what the log has."""
        old = _entry_of(Event.DONE) & (receipt_log.c.version == 1)
        asked = select(removals.c.receipt).where(
            removals.c.tenant == tenant,
            removals.c.receipt.is_not(None),
            select(receipt_log.c.number).where(old).exists(),
        )
        with self._database.read() as connection:
            found = [*connection.execute(asked).scalars()]
        yield from found

    def _ids(self, asked: Select[Any]) -> list[str]:
        with self._database.read() as connection:
            return [*connection.execute(asked.limit(MOST)).scalars()]


def _entry_of(event: Event) -> Any:
    return and_(
        receipt_log.c.tenant == removals.c.tenant, receipt_log.c.removal == removals.c.id, receipt_log.c.event == event
    )


def _without_record(tenant: str) -> Select[Any]:
    """Those that are not there; but for what a restore has told to be unfinished, whose record could not come back."""
    log, later = receipt_log.c, receipt_log.alias().c
    there = select(removals.c.id).where(removals.c.id == log.removal)
    done = select(later.number).where(later.tenant == tenant, later.removal == log.removal, later.event == Event.DONE)
    restored = select(later.number).where(
        later.tenant == tenant, later.event == Event.RESTORED, later.number > log.number
    )
    asked = (log.tenant == tenant) & (log.event == Event.REQUESTED)
    told = ~done.exists() & restored.exists()
    return select(log.removal).where(asked, ~there.exists(), ~told).order_by(log.number)


def _not_logged(tenant: str, event: Event, receipt: Any) -> Select[Any]:
    logged = select(receipt_log.c.number).where(_entry_of(event))
    ended = receipt.is_not(None)
    if event is Event.DONE:
        ended = or_(ended, removals.c.step.in_([RemovalStep.MIRROR.value, RemovalStep.DONE.value]))
    return select(removals.c.id).where(removals.c.tenant == tenant, ended, ~logged.exists()).order_by(removals.c.id)


def _changed(tenant: str, event: Event, receipt: Any) -> Select[Any]:
    given = removals.c.step == RemovalStep.DONE.value if event is Event.DONE else receipt.is_not(None)
    other = _entry_of(event) & (receipt_log.c.version > 1) & (func.coalesce(receipt, "") != receipt_log.c.entry)
    return select(removals.c.id).join(receipt_log, other).where(removals.c.tenant == tenant, given)


def _sealed_and_running(tenant: str) -> Select[Any]:
    running = (removals.c.tenant == tenant) & removals.c.step.not_in([RemovalStep.MIRROR.value, RemovalStep.DONE.value])
    return select(removals.c.id).join(receipt_log, _entry_of(Event.DONE)).where(running)
