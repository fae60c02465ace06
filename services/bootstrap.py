"""The one place where objects are wired from settings."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from celery import Celery

from schemas.errors import VisualMemoryError
from services import metrics
from services.accept import Accept
from services.bell import Bell, make_celery
from services.blocks import Blocks
from services.classify import Classify
from services.forget import Forget
from services.memory.engines import open_engine
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.perception.batching import MicroBatcher
from services.perception.decoder import Decoder
from services.perception.decoding import Limits
from services.perception.loading import load_encoder
from services.places import Places
from services.redis_server import redis_url
from services.remember import Remember, Sweep
from services.settings import Settings
from services.tidy import Tidy

REMOVALS_AT_ONCE = 4
EXAMINERS = 16
PATIENCE = 2.0
"""Seconds within which a part that is well says so."""
SPARE = timedelta(hours=1)


@dataclass(frozen=True)
class Service:
    """The wired parts and use cases of one process.

    Attributes:
        memory: gives up on a silent store soon, because a caller waits.
        patient: waits longer, for what may take long.
        pool: for what is done for several pictures at once; never for what takes long.
        background: for removals, which may take long.
        examiners: ask the parts how they are; some may hang.
    """

    settings: Settings
    memory: Memory
    patient: Memory
    pictures: Pictures
    encoder: MicroBatcher
    decoder: Decoder
    bell: Bell
    pool: ThreadPoolExecutor
    background: ThreadPoolExecutor
    examiners: ThreadPoolExecutor
    accept: Accept
    remember: Remember
    sweep: Sweep
    classify: Classify
    forget: Forget
    tidy: Tidy

    def examine(self) -> dict[str, str]:
        """Every part by name with what is wrong with it; empty where it answers within `PATIENCE`."""
        asks: dict[str, Callable[[], object]] = {
            "store": self.memory.ping,
            "pictures": self.pictures.ping,
            "broker": self.bell.waiting_messages,
            "worker": self.bell.find_worker,
        }
        asked = {name: self.examiners.submit(ask) for name, ask in asks.items()}
        return {"encoder": "", **{name: _fault(answer) for name, answer in asked.items()}}

    def close(self) -> None:
        """Finish what has begun, then let go of everything."""
        self.examiners.shutdown(wait=False, cancel_futures=True)
        self.background.shutdown()
        self.pool.shutdown()
        self.encoder.close()
        self.memory.close()
        self.patient.close()


def bootstrap(settings: Settings) -> Service:
    """Wire one process: load the encoder, open the collection.

    Raises:
        EncoderMismatch: the collection holds another encoder's vectors.
        Unavailable: the store does not answer.
    """
    places, worker = Places(settings.data), settings.worker
    pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="pictures")
    encoder = MicroBatcher(partial(load_encoder, settings.encoder), settings.encoder.batch_size, metrics.observe_batch)
    memory, prompt = (
        Memory(
            open_engine(settings.store, places.engine_socket, timeout),
            encoder.name,
            encoder.dimension,
            settings.metadata,
        )
        for timeout in (settings.store.timeout, settings.store.request_timeout)
    )
    memory.open()
    pictures = Pictures(_blobs(settings, "pictures"))
    ledger = Ledger(_blobs(settings, "records"))
    decoder = Decoder(Limits(settings.pictures.max_bytes, settings.pictures.max_pixels), pool)
    bell = Bell(celery_of(settings))
    blocks = Blocks(ledger)
    overdue = timedelta(seconds=worker.overdue_seconds)
    return Service(
        settings=settings,
        memory=prompt,
        patient=memory,
        pictures=pictures,
        encoder=encoder,
        decoder=decoder,
        bell=bell,
        pool=pool,
        background=ThreadPoolExecutor(REMOVALS_AT_ONCE, thread_name_prefix="removals"),
        examiners=ThreadPoolExecutor(EXAMINERS, thread_name_prefix="examiners"),
        accept=Accept(prompt, pictures, blocks, decoder, bell.ring, settings.metadata, pool),
        remember=Remember(
            memory, pictures, encoder, decoder, settings.encoder.batch_size, overdue, worker.max_attempts
        ),
        sweep=Sweep(memory, bell, overdue),
        classify=Classify(memory, encoder, decoder, settings.encoder.batch_size, prompt.ping),
        forget=Forget(memory, pictures, blocks, ledger, overdue),
        tidy=Tidy(memory, pictures, SPARE),
    )


def celery_of(settings: Settings) -> Celery:
    """The Celery app over the Redis that the settings name, or over this machine's own."""
    url = settings.broker.url or redis_url(Places(settings.data))
    return make_celery(url, settings.worker)


def _blobs(settings: Settings, kind: str) -> str:
    base = settings.pictures.url or str(settings.data.absolute())
    return f"{base.rstrip('/')}/{kind}"


def _fault(answer: "Future[object]") -> str:
    """What is wrong with a part, in a line; empty where it answers."""
    try:
        answer.result(PATIENCE)
    except VisualMemoryError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"
    except Exception as error:  # noqa: BLE001 - any library's way of saying that a part is down
        return f"{type(error).__name__}: {error}"[:200]
    return ""
