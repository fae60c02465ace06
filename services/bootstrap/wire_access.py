"""Audit log and records: they need neither memory nor encoder, so that small commands stay small."""

from services.access.audit import Audit
from services.access.idempotency import Idempotency
from services.access.secret import load_secret
from services.infrastructure.records.database import Database
from services.settings import Settings


def audit_of(settings: Settings, database: Database) -> Audit:
    """The audit log."""
    return Audit(database, load_secret(settings).key("audit"))


def idempotency_of(settings: Settings, database: Database) -> Idempotency:
    """The requests of the last day that had an idempotency key."""
    return Idempotency(database, load_secret(settings).key("idempotency"))
