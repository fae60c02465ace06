"""The rows of a tenant, when it ends."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from visual_memory.schemas.receipt import TenantEndPayload
from visual_memory.services.access.audit_log import RUNNING, AuditLog
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import keys, metadata
from visual_memory.services.receipts.receipt_log import LogEntry, ReceiptLog

EVERYBODY, ACTION = "*", "tenants.end"
"""As the audit log has them: the tenant's own rows go."""
KEPT = frozenset({"receipt_log", "receipt_log_ends", "removals", "tombstones", "blocks", "refused_entries"})
"""What proves that a tenant's images are gone, and keeps them away."""


@dataclass(frozen=True)
class TenantRecords:
    """Revokes and deletes what a tenant has in the database."""

    database: Database
    log: ReceiptLog
    audit: AuditLog

    def revoke_keys(self, tenant: str, by: str) -> int:
        """Let no key of a tenant open anything from now on; returns how many it has. It is logged that it ends."""
        own = keys.c.tenant == tenant
        with self.database.write(urgent=True) as connection:
            moment = self.database.moment(connection)
            connection.execute(update(keys).where(own & keys.c.revoked_at.is_(None)).values(revoked_at=moment))
            self.audit.record(connection, EVERYBODY, by, ACTION, outcome=RUNNING)
            return connection.execute(select(func.count()).select_from(keys).where(own)).scalar_one()

    def end(self, tenant: str, end_id: str, payload: TenantEndPayload) -> LogEntry:
        """Delete every row of a tenant but what proves it, and write the end into its log, in one transaction."""
        counts = dict[str, int]()
        with self.database.write(urgent=True) as connection:
            for table in reversed(metadata.sorted_tables):
                if "tenant" in table.c and table.name not in KEPT:
                    number = connection.execute(delete(table).where(table.c.tenant == tenant)).rowcount
                    if number:
                        counts[table.name] = number
            whole = payload.model_copy(update={"records": counts})
            by, images = payload.requested_by.name, payload.images
            self.audit.record(connection, EVERYBODY, by, ACTION, removal=end_id, images=images)
            return self.log.append(connection, tenant, end_id, whole)
