"""Wire the restore of a backup into a new folder or an empty server; loads no encoder."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from visual_memory.schemas.errors import Conflict, InvalidRequest
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.signing_secret import Secret, load_secret
from visual_memory.services.backup.add_removals_from_mirror import AddRemovalsFromMirror
from visual_memory.services.backup.open_backup import BackupSource, open_backup
from visual_memory.services.backup.restore_backup import RestoreBackup
from visual_memory.services.backup.skip_removed_images import RemovedImages
from visual_memory.services.bootstrap.wiring.wire_memory import encoder_records_of, engine_of_commands
from visual_memory.services.bootstrap.wiring.wire_receipts import signer_of
from visual_memory.services.bootstrap.wiring.wire_record_import import stores_of_import
from visual_memory.services.bootstrap.wiring.wire_records import wire_records
from visual_memory.services.bootstrap.wiring.wire_removal import Stores, wire_stores, wire_verify_removals
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.json_import.import_json_records import import_json_records
from visual_memory.services.infrastructure.records.json_import.json_files import JsonFiles
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.verify_removals import VerifyRemovals
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine

OLD_RECORDS = "backup_json_records"
"""The flag that holds the state of importing the records of a backup of the first format."""


@dataclass(frozen=True)
class RestoreCommand:
    """The use cases."""

    source: BackupSource
    restore: RestoreBackup
    verify: VerifyRemovals
    audit: AuditLog


def restored_settings(settings: Settings, folder: Path, rehearsal: bool = False) -> Settings:
    """The settings with a new data folder; a rehearsal stores everything in it."""
    changed: dict[str, object] = {"data": folder}
    if rehearsal:
        inside = {"store": ("grpc", "api_key", "url"), "records": ("url",), "broker": ("url",), "pictures": ("url",)}
        for section, names in inside.items():
            section_settings = getattr(settings, section)
            defaults = {name: type(section_settings).model_fields[name].get_default() for name in names}
            changed[section] = section_settings.model_copy(update=defaults)
    return settings.model_copy(update=changed)


@contextmanager
def restore_command(
    settings: Settings, file: Path, secret_of: Path, rehearsal: bool = False
) -> Iterator[RestoreCommand]:
    """Check the backup, then open the empty folder or server that it is restored to.

    Args:
        settings: of the restored service.
        file: the backup.
        secret_of: the data folder with the secret of the backup, if the settings have none.
        rehearsal: write nothing outside of the new folder.

    Raises:
        Conflict: the folder is not empty.
        InvalidRequest: there is no secret, or the backup was changed.
    """
    secret = _copy_secret(settings, secret_of)
    with ExitStack() as opened:
        source = open_backup(file, signer_of(secret), partial(_import_records, settings))
        engine, _ = engine_of_commands(settings, alone=True)
        opened.callback(engine.close)
        database = wire_records(settings, opened)
        memory = Memory(engine, "", 0, settings.metadata)
        stores = wire_stores(settings, database, memory, secret, "")
        restore = wire_restore(settings, database, engine, stores, rehearsal)
        yield RestoreCommand(source, restore, wire_verify_removals(memory, stores), stores.audit)


def wire_restore(
    settings: Settings, database: Database, engine: Engine, stores: Stores, rehearsal: bool = False
) -> RestoreBackup:
    """Wire the restore."""
    log, decisions, reviews = stores.receipts.log, stores.remove_from_decisions, stores.remove_from_reviews
    return RestoreBackup(
        engine=engine,
        pictures=stores.pictures,
        database=database,
        log=log,
        mirroring=stores.receipts.mirroring,
        removed=RemovedImages(database, stores.blocks, stores.tombstones),
        encoders=encoder_records_of(database),
        metadata=settings.metadata,
        hooks=(decisions.remove_covered, reviews.remove_covered),
        add_removals=AddRemovalsFromMirror(database, log.signer),
        revoke_keys=ApiKeys(database).revoke_all,
        reconcile=(decisions.reconcile_all, stores.remove_from_changes.reconcile_all, reviews.reconcile_all),
        is_rehearsal=rehearsal,
    )


def _copy_secret(settings: Settings, secret_of: Path) -> Secret:
    """Copy the secret into the new folder, which must be empty, and load it."""
    path, others = DataPaths(settings.data).secret, {"secret"}
    if settings.data.exists() and (there := {path.name for path in settings.data.iterdir()} - others):
        raise Conflict(f"{settings.data} is not empty, there is {min(there)}: restore into a new folder")
    if settings.secret is None and not path.exists():
        source = DataPaths(secret_of).secret
        if not source.exists():
            raise InvalidRequest(
                f"a backup is restored with the secret of the service that made it: copy its file `secret` to {path},"
                " or set VISUAL_MEMORY_SECRET"
            )
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        shutil.copyfile(source, path)
    return load_secret(settings)


def _import_records(settings: Settings, database: Database, folder: Path) -> None:
    """Import the JSON records of a backup of the first format."""
    records, evaluations = JsonFiles(folder / "records"), JsonFiles(folder / "evaluations")
    import_json_records(database, records, evaluations, stores_of_import(settings, database), name=OLD_RECORDS)
