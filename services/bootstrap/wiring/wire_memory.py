"""Wire the engine, the memory, the encoders and the decoder; the caller's context closes them."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.decoding.decode_many import BYTES_PER_PIXEL, Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoder_migration.active_encoder import resolve_active_encoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.loaded_encoders import LoadedEncoders
from visual_memory.services.encoding.load_encoder import load_encoder
from visual_memory.services.encoding.micro_batcher import MicroBatcher, SharedEncoder
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.collection_schema import stored_encoder
from visual_memory.services.memory.points.normalise_stored_text import normalise_points, points_are_normalised
from visual_memory.services.removal.migrate_covered_images_v1 import delete_incomplete_records
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.open_engine import open_engine, open_exclusive_engine

SLICE = 16
"""Pictures that are decoded at once, at least: every slice costs the same calls of the store."""
SLICE_BYTES = 64 * 2**20
"""Largest size of the decoded pictures of a slice in bytes, if each is the largest that its encoder accepts. So the 32
concurrent requests of an API need at most 2 GiB, and the 4 slices of a worker 256 MiB. With the built-in encoder it is
38 MiB for each, and with usual pictures 6."""

POLL = 0.2

log = logging.getLogger(__name__)


def wire_encoders(settings: Settings, opened: ExitStack, database: Database, engine: Engine) -> LoadedEncoders:
    """Find and load the active encoder, and load and close others as they are added and dropped.

    Raises:
        EncoderUnusable: there is no such model or device.
        EncoderMismatch: the memory does not have the encoder of the settings, or the files of its own have changed.
    """
    records = encoder_records_of(database)
    # the collection is inspected only if the records do not tell: its engine may just be starting
    active = resolve_active_encoder(records, None if records.active() else engine.inspect(), settings.encoder)
    encoders = LoadedEncoders(records, partial(load_shared, settings), active)
    opened.callback(encoders.close)
    return encoders


def load_shared(settings: Settings, spec: EncoderSpec) -> MicroBatcher:
    """Load an encoder with one thread for each concurrent batch; a GPU embeds one batch at a time.

    Raises:
        EncoderUnusable: there is no such model or device.
        EncoderMismatch: the files of the model have changed.
    """
    wanted = settings.encoder
    concurrent = wanted.threads or cpu_threads.count() if wanted.device == "cpu" else 1
    load = partial(load_encoder, wanted.model_copy(update={"threads": 1}), spec)
    return MicroBatcher(load, prometheus_metrics.observe_batch, concurrent)


def encoder_records_of(database: Database) -> EncoderRecords:
    """The records of the memory's encoders."""
    return EncoderRecords(database)


def encoder_of(engine: Engine, records: EncoderRecords) -> tuple[str, int]:
    """The name of the active encoder and the length of its vectors; of a memory without records, its only encoder."""
    active = records.active()
    if active is None:
        return stored_encoder(engine) or ("", 0)
    return active.name, records.get(active.name).dimension


def active_spec(records: EncoderRecords) -> EncoderSpec:
    """The active encoder, for a process that does not load it.

    Raises:
        Unavailable: it is unknown while records are being restored.
    """
    found = records.active()
    if found is None:
        raise Unavailable("the records of the memory's encoders are being restored")
    return records.get(found.name)


def wait_for_collection(engine: Engine, records: EncoderRecords) -> None:
    """Wait until the collection exists, which the API or a worker creates."""
    logged = False
    while records.active() is None or engine.inspect() is None:
        if not logged:
            log.info("there is no collection yet: waiting for the API or a worker to create it")
        logged = True
        time.sleep(POLL)


def memory_of(settings: Settings, engine: Engine, encoder: EncoderSpec | SharedEncoder) -> Memory:
    """The memory under an encoder."""
    return Memory(engine, encoder.name, encoder.dimension, settings.metadata)


def open_memory(settings: Settings, database: Database, engine: Engine, encoder: EncoderSpec | SharedEncoder) -> None:
    """Create the collection, or upgrade it to this version, before anything is served from it.

    Raises:
        EncoderMismatch: it has vectors of another name or length.
    """
    memory = memory_of(settings, engine, encoder)
    memory.open()
    if not points_are_normalised(database):
        delete_incomplete_records(memory, database)
        normalise_points(engine, database)


def missing_vectors_of(engine: Engine, encoder: EncoderSpec | SharedEncoder) -> MissingVectors:
    """The images that lack the vector of an encoder."""
    return MissingVectors(engine, encoder.name, encoder.dimension)


def slice_size(encoder: SharedEncoder, max_number: int = SLICE) -> int:
    """How many pictures are decoded at once: as many as fit in `SLICE_BYTES`, at least one.

    Args:
        encoder: the encoder that embeds them.
        max_number: the largest number, unless a batch of the encoder is larger.
    """
    fit = SLICE_BYTES // (BYTES_PER_PIXEL * encoder.crop.max_pixels())
    return max(1, min(fit, max(max_number, encoder.batch_size)))


def wire_engine(settings: Settings, opened: ExitStack, timeout: int) -> Engine:
    """Wire an engine with a timeout in seconds; it connects with the first call."""
    engine = open_engine(settings.store, DataPaths(settings.data).engine_socket, timeout)
    opened.callback(engine.close)
    return engine


def engine_of_commands(settings: Settings, alone: bool = False) -> tuple[Engine, bool]:
    """The engine for a command, and whether a service may be running.

    Args:
        settings: of the service.
        alone: require that no service runs on this machine.

    Raises:
        Unavailable: with `alone`, a service runs.
    """
    paths = DataPaths(settings.data)
    try:
        return open_exclusive_engine(settings.store, paths.engine), settings.store.url is not None
    except Unavailable:
        if alone:
            raise
        return open_engine(settings.store, paths.engine_socket, settings.store.timeout), True


def wire_decoder(settings: Settings, opened: ExitStack, crop: PreprocessingCrop = NO_CROP) -> Decoder:
    """Wire a decoder with its sandbox pool, whose processes start with the first pictures, and its waiting threads."""
    sandbox = SandboxPool(
        limits_of(settings),
        settings.pictures.decode_seconds,
        cpu_threads.count(),
        on_start=prometheus_metrics.observe_protections,
    )
    opened.callback(sandbox.close)
    return Decoder(sandbox, wire_threads(opened, cpu_threads.count(), "pictures"), crop)


def limits_of(settings: Settings) -> PictureLimits:
    """The largest picture that is decoded."""
    return PictureLimits(settings.pictures.max_bytes, settings.pictures.max_pixels)


def wire_threads(opened: ExitStack, max_number: int, name: str) -> ThreadPoolExecutor:
    """Wire a thread pool; when the context ends it finishes the calls that have begun."""
    return opened.enter_context(ThreadPoolExecutor(max_number, thread_name_prefix=name))
