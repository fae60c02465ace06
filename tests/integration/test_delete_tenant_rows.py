"""A tenant's end is logged in the transactions that make it, where its own rows go."""

from datetime import UTC, datetime

from visual_memory.schemas.api_key import KeyRequest, Scope
from visual_memory.schemas.receipt import Requester, TenantEndPayload
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.data_governance.delete_tenant_rows import TenantRows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import ReceiptSigner

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_it_is_logged_with_it(database: Database) -> None:
    audit = AuditLog(database, bytes(32))
    records = TenantRows(database, ReceiptLog(database, ReceiptSigner(bytes(32))), audit)
    ApiKeys(database).make(KeyRequest(name="a test", tenant="north", scopes=[Scope.ADMIN]))
    audit.write("north", "a test", "accept")
    assert records.revoke_keys("north", "a steward") == 1
    assert all(key.revoked_at for key in ApiKeys(database).all())
    [begun] = audit.latest("*").data
    assert (begun.by, begun.action, begun.outcome) == ("a steward", "tenants.end", "running")
    said = TenantEndPayload(
        requested_at=MOMENT,
        requested_by=Requester(name="a steward"),
        reason="over",
        done_at=MOMENT,
        images=3,
        by_state={},
        pictures=0,
        keys=1,
        records={},
    )
    records.delete("north", "the-end", said)
    [ended, _] = audit.latest("*").data
    assert (ended.outcome, ended.images, ended.removal) == ("done", 3, "the-end")
    assert not ApiKeys(database).all()
    assert not audit.latest("north").data
