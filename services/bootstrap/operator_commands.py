"""Wire the commands of an operator of the service; loads no encoder."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.backup.create_backup import CreateBackup
from visual_memory.services.bootstrap.wiring.wire_events import wire_publisher
from visual_memory.services.bootstrap.wiring.wire_intake import private_intake
from visual_memory.services.bootstrap.wiring.wire_memory import encoder_of, encoder_records_of, engine_of_commands
from visual_memory.services.bootstrap.wiring.wire_records import wire_records
from visual_memory.services.bootstrap.wiring.wire_removal import (
    wire_erase_removed_data,
    wire_removal_steps,
    wire_stores,
    wire_verify_removals,
)
from visual_memory.services.data_governance.delete_tenant_rows import TenantRows
from visual_memory.services.data_governance.end_tenant import EndTenant
from visual_memory.services.data_governance.export_subject import ExportSubject
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.erasure.erase_removed_data import EraseRemovedData
from visual_memory.services.removal.verify_removals import VerifyRemovals
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine


@dataclass(frozen=True)
class OperatorCommands:
    """The use cases."""

    engine: Engine
    verify: VerifyRemovals
    compact: EraseRemovedData
    backup: CreateBackup
    export: ExportSubject
    end_tenant: EndTenant
    audit: AuditLog


@contextmanager
def operator_commands(settings: Settings, alone: bool = False) -> Iterator[OperatorCommands]:
    """Wire the use cases over a running service, or over the data folder if none runs.

    Args:
        settings: of the service.
        alone: require that no service runs on this machine.

    Raises:
        Unavailable: the store does not answer; with `alone`, a service runs.
    """
    with ExitStack() as opened:
        engine, may_run = engine_of_commands(settings, alone)
        opened.callback(engine.close)
        if not may_run:
            opened.enter_context(private_intake(settings))
        database = wire_records(settings, opened)
        encoder, dimension = encoder_of(engine, encoder_records_of(database))
        memory = Memory(engine, encoder, dimension, settings.metadata)
        stores = wire_stores(settings, database, memory, load_secret(settings), encoder)
        lease = timedelta(seconds=settings.worker.lease_seconds)
        yield OperatorCommands(
            engine=engine,
            verify=wire_verify_removals(memory, stores),
            compact=wire_erase_removed_data(settings, memory, stores),
            backup=CreateBackup(engine, stores.pictures, database, stores.receipts.log.signer),
            export=ExportSubject(memory, stores.pictures, stores.decisions, stores.blocks, stores.intake, database),
            end_tenant=EndTenant(
                removals=wire_removal_steps(memory, stores, lease),
                rows=TenantRows(database, stores.receipts.log, stores.audit),
                intake=stores.intake,
                write_to_mirror=stores.receipts.mirroring.write_up_to,
                forget_events=wire_publisher(settings, opened).forget_tenant,
            ),
            audit=stores.audit,
        )
