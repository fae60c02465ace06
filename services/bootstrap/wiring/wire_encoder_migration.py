"""Wire the encoder migration: filling and switching encoders, and use cases that follow a switch."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Generic, Protocol, TypeVar

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.services.bootstrap.wiring.wire_memory import (
    encoder_records_of,
    limits_of,
    memory_of,
    missing_vectors_of,
    slice_size,
    wire_engine,
)
from visual_memory.services.bootstrap.wiring.wire_removal import judgements_of, pictures_of
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoder_migration.add_encoder import AddEncoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.fill_in_background import FillLoop
from visual_memory.services.encoder_migration.fill_pass import FillPass, ReadFillSettings
from visual_memory.services.encoder_migration.loaded_encoders import LoadedEncoders
from visual_memory.services.encoder_migration.switch_encoder import EncoderResources, SwitchEncoder
from visual_memory.services.encoder_migration.upgrade_encoder import UpgradeEncoder
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.encoding.micro_batcher import MicroBatcher
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine

Process = TypeVar("Process")

SLICE = 64
"""Images that are filled at once, at most: every slice costs the same calls of the store."""
STARVED = 30
"""Factor for the time limit of decoding a picture, because these decoders run with the lowest priority."""


def wire_switch(settings: Settings, database: Database, records: EncoderRecords, engine: Engine) -> SwitchEncoder:
    """Wire switching to an encoder."""
    return SwitchEncoder(records, partial(of_encoder, settings, database, engine))


def of_encoder(settings: Settings, database: Database, engine: Engine, spec: EncoderSpec) -> EncoderResources:
    """The memory and its judgements under an encoder."""
    curate = settings.curate
    memory, judgements = memory_of(settings, engine, spec), judgements_of(settings, database, spec.name)
    fold = UpdateJudgementInput(memory, VectorCache(curate.cache_bytes), curate.max_images)
    return EncoderResources(memory, judgements, JudgeMemory(memory, judgements, fold, curate.k))


def wire_fill(settings: Settings, opened: ExitStack, database: Database, encoders: LoadedEncoders) -> None:
    """Start the thread that fills missing vectors with the loaded encoders; it ends with the context.

    The thread, its encoder's threads and its decoders run with the lowest priority.
    """
    records, ended = encoder_records_of(database), threading.Event()
    engine = wire_engine(settings, opened, settings.store.timeout)
    filling = partial(_filling, settings, engine, ended)
    keep = FillLoop(
        records,
        partial(missing_vectors_of, engine),
        encoders.get,
        filling,
        UpgradeEncoder(
            records,
            settings.encoder,
            identify,
            AddEncoder(records, engine, identify, load_encoder),
            wire_switch(settings, database, records, engine),
            lambda name: not missing_vectors_of(engine, records.get(name)).any_left(),
        ),
        ended,
    )
    thread = threading.Thread(target=keep.run, name="fill", daemon=True)
    opened.callback(thread.join)
    opened.callback(ended.set)
    thread.start()


@contextmanager
def _filling(
    settings: Settings, engine: Engine, ended: threading.Event, encoder: MicroBatcher, read_settings: ReadFillSettings
) -> Iterator[FillPass]:
    """Wire filling the vectors of a loaded encoder, with separate threads and decoders."""
    threads = settings.encoder.threads or cpu_threads.count() if settings.encoder.device == "cpu" else 1
    pictures = pictures_of(settings)
    seconds = STARVED * settings.pictures.decode_seconds
    with ExitStack() as opened:
        own = MicroBatcher(lambda: encoder.encoder, threads=threads, initializer=cpu_threads.lower_priority)
        opened.callback(own.close)
        sandbox = SandboxPool(limits_of(settings), seconds, cpu_threads.count(), initializer=cpu_threads.lower_priority)
        opened.callback(sandbox.close)
        pool = opened.enter_context(
            ThreadPoolExecutor(2 * cpu_threads.count(), "fill-pictures", cpu_threads.lower_priority)
        )
        decoder = Decoder(sandbox, pool, own.crop)
        tenants = memory_of(settings, engine, own).images.tenants
        yield FillPass(
            missing_vectors_of(engine, own),
            tenants,
            pictures,
            own,
            decoder,
            pool,
            slice_size(own, SLICE),
            read_settings,
            ended,
        )


class Named(Protocol):
    """Anything that has the name of an encoder."""

    @property
    def name(self) -> str:
        """The name of the encoder."""


Encoder = TypeVar("Encoder", bound=Named)


class ActiveUseCases(Generic[Process]):
    """The use cases of a process for the active encoder, wired again after each switch of it.

    A caller uses one `current()` for a whole request, so that its answer is of one encoder. Use cases of the former
    encoder finish what they have begun.

    Args:
        encoder: returns the active encoder.
        wire: wires the use cases for an encoder; what they refer to stays open.
    """

    def __init__(self, encoder: Callable[[], Encoder], wire: Callable[[Encoder], Process]) -> None:
        self._encoder, self._wire = encoder, wire
        self._wiring = threading.Lock()
        first = encoder()
        self._held = first.name, wire(first)

    def current(self) -> Process:
        """The use cases for the active encoder."""
        name, process = self._held
        encoder = self._encoder()
        if encoder.name == name:
            return process
        with self._wiring:
            if self._held[0] != encoder.name:
                self._held = encoder.name, self._wire(encoder)
            return self._held[1]
