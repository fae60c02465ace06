"""The encoders, the engine and the decoder; each is closed with the context that it is opened in."""

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
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.collection_schema import stored_encoder
from visual_memory.services.memory.points.normalise_stored_text import normalise_points, points_are_normalised
from visual_memory.services.removal.migrate_covered_images_v1 import delete_incomplete_records
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.open_engine import open_engine, open_exclusive_engine

SLICE = 16
"""Pictures that are held decoded at once, at least: each slice costs the store its calls, however small it is."""
SLICE_BYTES = 64 * 2**20
"""Bytes of pixels that a slice holds at most, were each picture the largest that its encoder takes: so the 32 requests
that an API works on hold 2 GiB, and the 4 slices of a worker 256 MiB, whatever they are sent. With the built-in encoder
it is 38 MiB for each, and with usual pictures 6."""

POLL = 0.2

log = logging.getLogger(__name__)


def wire_encoders(settings: Settings, opened: ExitStack, database: Database, engine: Engine) -> LoadedEncoders:
    """Find out which encoder classifies, load it, and follow from then on which others there are.

    Raises:
        EncoderUnusable: there is no such model or device.
        EncoderMismatch: the memory has no such encoder as the settings name, or the files of its own are others.
    """
    records = encoder_records_of(database)
    # where the records say it the collection is not asked: its engine starts at this moment, maybe
    active = resolve_active_encoder(records, None if records.active() else engine.inspect(), settings.encoder)
    encoders = LoadedEncoders(records, partial(load_shared, settings), active)
    opened.callback(encoders.close)
    return encoders


def load_shared(settings: Settings, spec: EncoderSpec) -> MicroBatcher:
    """Load an encoder, with a thread for each batch that it works at; a GPU works at one batch at a time.

    Raises:
        EncoderUnusable: there is no such model or device.
        EncoderMismatch: the model's files are others.
    """
    asked = settings.encoder
    side_by_side = asked.threads or cpu_threads.count() if asked.device == "cpu" else 1
    load = partial(load_encoder, asked.model_copy(update={"threads": 1}), spec)
    return MicroBatcher(load, prometheus_metrics.observe_batch, side_by_side)


def encoder_records_of(database: Database) -> EncoderRecords:
    """The records of the memory's encoders."""
    return EncoderRecords(database)


def encoder_of(engine: Engine, records: EncoderRecords) -> tuple[str, int]:
    """The encoder that classifies, and the length of its vectors; of a memory without records its only one."""
    active = records.active()
    if active is None:
        return stored_encoder(engine) or ("", 0)
    return active.name, records.get(active.name).dimension


def active_spec(records: EncoderRecords) -> EncoderSpec:
    """The encoder that classifies, for a process that does not load it.

    Raises:
        Unavailable: it is not known at this moment.
    """
    found = records.active()
    if found is None:
        raise Unavailable("the records of the memory's encoders are being restored")
    return records.get(found.name)


def wait_for_collection(engine: Engine, records: EncoderRecords) -> None:
    """Return once there is a collection: whoever embeds creates it."""
    told = False
    while records.active() is None or engine.inspect() is None:
        if not told:
            log.info("there is no collection yet: waiting for the API or a worker to create it")
        told = True
        time.sleep(POLL)


def memory_of(settings: Settings, engine: Engine, encoder: EncoderSpec | SharedEncoder) -> Memory:
    """The memory of an encoder, over an engine."""
    return Memory(engine, encoder.name, encoder.dimension, settings.metadata)


def open_memory(settings: Settings, database: Database, engine: Engine, encoder: EncoderSpec | SharedEncoder) -> None:
    """Create the collection, or bring it to what this version needs, before anything is served from it.

    Raises:
        EncoderMismatch: it holds vectors of another name or length.
    """
    memory = memory_of(settings, engine, encoder)
    memory.open()
    if not points_are_normalised(database):
        delete_incomplete_records(memory, database)
        normalise_points(engine, database)


def missing_vectors_of(engine: Engine, encoder: EncoderSpec | SharedEncoder) -> MissingVectors:
    """Which images have the vector of an encoder, over an engine."""
    return MissingVectors(engine, encoder.name, encoder.dimension)


def slice_size(encoder: SharedEncoder, most: int = SLICE) -> int:
    """How many pictures are held decoded at once; one, where it alone may have `SLICE_BYTES`.

    Args:
        encoder: takes them.
        most: so many, or a batch of the encoder where that is more.
    """
    fit = SLICE_BYTES // (BYTES_PER_PIXEL * encoder.crop.max_pixels())
    return max(1, min(fit, max(most, encoder.batch_size)))


def wire_engine(settings: Settings, opened: ExitStack, timeout: int) -> Engine:
    """An engine that is waited for so many seconds; it connects with the first call."""
    engine = open_engine(settings.store, DataPaths(settings.data).engine_socket, timeout)
    opened.callback(engine.close)
    return engine


def engine_of_commands(settings: Settings, alone: bool = False) -> tuple[Engine, bool]:
    """An engine for a command that runs beside a service or without one, and whether a service may run.

    Args:
        settings: of the service.
        alone: only where none runs on this machine.

    Raises:
        Unavailable: with `alone`, a service runs.
    """
    places = DataPaths(settings.data)
    try:
        return open_exclusive_engine(settings.store, places.engine), settings.store.url is not None
    except Unavailable:
        if alone:
            raise
        return open_engine(settings.store, places.engine_socket, settings.store.timeout), True


def wire_decoder(settings: Settings, opened: ExitStack, crop: PreprocessingCrop = NO_CROP) -> Decoder:
    """A decoder with its sandbox, whose processes start with the first pictures, and threads that wait for them."""
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


def wire_threads(opened: ExitStack, most: int, name: str) -> ThreadPoolExecutor:
    """Threads that finish what they have begun when the context ends."""
    return opened.enter_context(ThreadPoolExecutor(most, thread_name_prefix=name))
