"""What the commands of whoever runs the service need; no encoder is loaded."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from schemas.errors import Unavailable
from services.access.secret import load_secret
from services.bootstrap.wire_memory import encoder_records_of
from services.bootstrap.wire_removal import wire_compact, wire_stores
from services.encoder_migration.encoder_records import EncoderRecords
from services.forgetting.backup import Backup, Restore
from services.forgetting.compact import Compact
from services.forgetting.verify import Verify
from services.memory.collection import held_encoder
from services.memory.engine import Engine
from services.memory.engines import hold_engine, open_engine
from services.memory.memory import Memory
from services.runtime.places import Places
from services.settings import Settings


@dataclass(frozen=True)
class OperatorCommands:
    """The use cases of an operator."""

    engine: Engine
    verify: Verify
    compact: Compact
    backup: Backup
    restore: Restore


@contextmanager
def operator_commands(settings: Settings, alone: bool = False) -> Iterator[OperatorCommands]:
    """Wire them over a running service, or over the data folder itself where none runs.

    Args:
        settings: of the service.
        alone: only where none runs on this machine.

    Raises:
        Unavailable: the store does not answer; with `alone`, a service runs.
    """
    with ExitStack() as opened:
        engine = _engine(settings, alone)
        opened.callback(engine.close)
        encoder, dimension = _encoder_of(engine, encoder_records_of(settings))
        memory = Memory(engine, encoder, dimension, settings.metadata)
        stores = wire_stores(settings, memory, load_secret(settings), encoder)
        pictures, ledger, removals, decisions = stores.pictures, stores.ledger, stores.removals, stores.decisions
        yield OperatorCommands(
            engine=engine,
            verify=Verify(memory, pictures, removals, stores.removal_log, stores.undo),
            compact=wire_compact(settings, memory, stores),
            backup=Backup(engine, pictures, ledger),
            restore=Restore(
                engine, pictures, ledger, removals, settings.metadata, [decisions.forget], decisions.settle_all
            ),
        )


def _encoder_of(engine: Engine, records: EncoderRecords) -> tuple[str, int]:
    """The encoder that classifies, and the length of its vectors; of a memory without records its only one."""
    active = records.active()
    if active is None:
        return held_encoder(engine) or ("", 0)
    return active.name, records.get(active.name).dimension


def _engine(settings: Settings, alone: bool) -> Engine:
    places = Places(settings.data)
    try:
        return hold_engine(settings.store, places.engine)
    except Unavailable:
        if alone:
            raise
        return open_engine(settings.store, places.engine_socket, settings.store.timeout)
