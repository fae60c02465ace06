"""Revoke a tenant's keys, and delete its database rows, when the tenant ends."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update

from visual_memory.schemas.receipt import TenantEndPayload
from visual_memory.services.access.audit_log import RUNNING, AuditLog
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import keys, metadata
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.receipt_log import ReceiptLog

EVERYBODY, ACTION = "*", "tenants.end"
"""Tenant and action of the audit log's lines: the tenant's own lines are deleted."""
KEPT = frozenset({"receipt_log", "receipt_log_ends", "removals", "tombstones", "blocks", "refused_entries"})
"""Tables whose rows stay: they prove that a tenant's images are removed, and keep them from coming back."""


@dataclass(frozen=True)
class TenantRows:
    """The rows of a tenant."""

    database: Database
    log: ReceiptLog
    audit: AuditLog

    def revoke_keys(self, tenant: str, by: str) -> int:
        """Revoke all keys of a tenant, and log that its end has begun; returns how many keys it has."""
        of_tenant = keys.c.tenant == tenant
        with self.database.write(urgent=True) as connection:
            moment = self.database.moment(connection)
            connection.execute(update(keys).where(of_tenant & keys.c.revoked_at.is_(None)).values(revoked_at=moment))
            self.audit.record(connection, EVERYBODY, by, ACTION, outcome=RUNNING)
            return connection.execute(select(func.count()).select_from(keys).where(of_tenant)).scalar_one()

    def delete(self, tenant: str, end_id: str, payload: TenantEndPayload) -> LogEntry:
        """Delete every row of a tenant except in `KEPT`, and append the end to its log, in one transaction."""
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
