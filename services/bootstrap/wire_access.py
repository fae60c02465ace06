"""Keys, audit log and records: they need neither memory nor encoder, so that small commands stay small."""

from services.access.audit import Audit
from services.access.keys import Keys
from services.infrastructure.records.database import Database
from services.memory.ledger import Ledger
from services.runtime.places import Places
from services.settings import Settings


def keys_of(settings: Settings, database: Database) -> Keys:  # noqa: ARG001 - until it is moved there
    """The keys of a service, which need not run."""
    return Keys(ledger_of(settings))


def audit_of(settings: Settings, database: Database) -> Audit:  # noqa: ARG001 - until it is moved there
    """This machine's audit log."""
    return Audit(Places(settings.data).audit)


def ledger_of(settings: Settings) -> Ledger:
    """The records that are files still, beside the pictures."""
    return Ledger(settings.url_of("records"), settings.store.min_free_bytes)
