"""Wire the records' database, audit log, usage and idempotency keys; small, because every command imports it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.idempotency_keys import IdempotencyKeys
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.access.tenant_usage import TenantUsage
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import.import_audit_file import import_audit_file
from visual_memory.services.infrastructure.records.json_import.import_json_records import is_imported
from visual_memory.services.infrastructure.records.json_import.json_files import JsonFiles
from visual_memory.services.infrastructure.records.upgrade_schema import upgrade_schema
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.disk_space import FINISH, REMOVE, check_free_space
from visual_memory.services.settings import Settings


def wire_records(settings: Settings, opened: ExitStack) -> Database:
    """Open the database, upgraded to this version; the context closes it.

    Raises:
        Unavailable: it does not answer, or a later version has changed its schema.
    """
    database = _database(settings)
    opened.callback(database.close)
    upgrade_schema(database)
    import_audit_file(database, DataPaths(settings.data).audit)
    if not is_imported(database, JsonFiles(settings.url_of("records"))):
        from visual_memory.services.bootstrap.wiring.wire_record_import import import_old_records  # noqa: PLC0415 - slow to import, needed once

        import_old_records(settings, database)
    return database


@contextmanager
def records_of(settings: Settings) -> Iterator[Database]:
    """Open the database, for a command that needs nothing else."""
    with ExitStack() as opened:
        yield wire_records(settings, opened)


def _database(settings: Settings) -> Database:
    if settings.records.url is not None:
        return Database(settings.records.url.get_secret_value())
    folder, floor = settings.data, settings.store.min_free_bytes
    return Database.in_folder(folder, lambda urgent: check_free_space(folder, floor * (REMOVE if urgent else FINISH)))


def audit_of(settings: Settings, database: Database) -> AuditLog:
    """The audit log."""
    return AuditLog(database, load_secret(settings).key("audit"))


def wire_usage(database: Database, opened: ExitStack) -> TenantUsage:
    """Wire counting what tenants use; the context writes the last counts at its end."""
    usage = TenantUsage(database)
    opened.callback(usage.close)
    return usage


def idempotency_of(settings: Settings, database: Database) -> IdempotencyKeys:
    """The requests of the last day that had an idempotency key."""
    return IdempotencyKeys(database, load_secret(settings).key("idempotency"))
