"""The encoder, the memory and the decoder; each is closed with the context that it is opened in."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from schemas.encoder import EncoderIdentity, EncoderSpec
from services.bootstrap.wire_access import records_of
from services.encoder_migration.active_encoder import resolve
from services.encoder_migration.encoder_records import EncoderRecords
from services.memory.engine import Engine
from services.memory.engines import open_engine
from services.perception.batching import MicroBatcher
from services.perception.decoder import Decoder
from services.perception.decoding import Limits
from services.perception.loading import load_encoder
from services.perception.sandbox import Sandbox
from services.perception.view import ALL, View
from services.runtime import cores, metrics
from services.runtime.places import Places
from services.settings import Settings

SLICE = 16
"""Pictures that are held decoded at once, at least: each slice costs the store its calls, however small it is."""


def wire_encoder(settings: Settings, opened: ExitStack, identity: EncoderIdentity) -> MicroBatcher:
    """Load an encoder, with a thread for each batch that it works at; a GPU works at one batch at a time.

    Raises:
        EncoderUnusable: there is no such model or device.
        EncoderMismatch: the model's files are others.
    """
    asked = settings.encoder
    side_by_side = asked.threads or cores.count() if asked.device == "cpu" else 1
    load = partial(load_encoder, asked.model_copy(update={"threads": 1}), identity)
    encoder = MicroBatcher(load, metrics.observe_batch, side_by_side)
    opened.callback(encoder.close)
    return encoder


def active_encoder(settings: Settings, engine: Engine) -> EncoderSpec:
    """The encoder that classifies, as in `services.encoder_migration.active_encoder`."""
    return resolve(EncoderRecords(records_of(settings)), engine.inspect(), settings.encoder)


def slice_size(encoder: MicroBatcher) -> int:
    """How many pictures are held decoded at once."""
    return max(SLICE, encoder.batch_size)


def wire_engine(settings: Settings, opened: ExitStack, timeout: int) -> Engine:
    """An engine that is waited for so many seconds; it connects with the first call."""
    engine = open_engine(settings.store, Places(settings.data).engine_socket, timeout)
    opened.callback(engine.close)
    return engine


def wire_decoder(settings: Settings, opened: ExitStack, view: View = ALL) -> Decoder:
    """A decoder with its sandbox, whose processes start with the first pictures, and threads that wait for them."""
    limits = Limits(settings.pictures.max_bytes, settings.pictures.max_pixels)
    sandbox = Sandbox(limits, settings.pictures.decode_seconds, cores.count())
    opened.callback(sandbox.close)
    return Decoder(sandbox, wire_threads(opened, cores.count(), "pictures"), view)


def wire_threads(opened: ExitStack, most: int, name: str) -> ThreadPoolExecutor:
    """Threads that finish what they have begun when the context ends."""
    return opened.enter_context(ThreadPoolExecutor(most, thread_name_prefix=name))
