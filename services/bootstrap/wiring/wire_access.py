"""Audit log and records: they need neither memory nor encoder, so that small commands stay small."""

from visual_memory.services.access.audit_log import Audit
from visual_memory.services.access.idempotency_keys import Idempotency
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.settings import Settings


def audit_of(settings: Settings, database: Database) -> Audit:
    """The audit log."""
    return Audit(database, load_secret(settings).key("audit"))


def idempotency_of(settings: Settings, database: Database) -> Idempotency:
    """The requests of the last day that had an idempotency key."""
    return Idempotency(database, load_secret(settings).key("idempotency"))
