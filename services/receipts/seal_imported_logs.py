"""Complete logs imported from an earlier version: seal their ends, and add entries of running removals."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import Event, RequestedPayload, Requester
from visual_memory.services.infrastructure.records.tables import receipt_log, removals
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog


@dataclass(frozen=True)
class SealImportedLogs:
    """Completes all logs, in the transaction that ends an import. It can be repeated."""

    log: ReceiptLog
    filter_digests: FilterDigests

    def __call__(self, connection: Connection) -> None:
        """Seal each tenant's log, then append the requests of running removals that the log lacks."""
        for tenant in connection.execute(select(receipt_log.c.tenant).distinct()).scalars().all():
            self.log.seal_imported(connection, tenant)
        running = select(removals).where(removals.c.step != "done").order_by(removals.c.requested_at, removals.c.id)
        for row in connection.execute(running).all():
            if self.log.find(connection, row.tenant, row.id, Event.REQUESTED):
                continue
            payload = RequestedPayload(
                requested_at=row.requested_at,
                requested_by=Requester(name=row.requested_by, key=row.requested_key),
                reason=row.reason,
                block=row.block,
                everything=row.everything,
                filter_digest=self.filter_digests.of(row.id, Filter.model_validate(row.filter)),
            )
            self.log.append(connection, row.tenant, row.id, payload)
