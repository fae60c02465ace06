"""Wire the intake reader, the process that reads the streams; it loads no encoder."""

import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from redis import Redis

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.receipt import Requester
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_events import wire_publisher
from visual_memory.services.bootstrap.wiring.wire_intake import wire_streams
from visual_memory.services.bootstrap.wiring.wire_memory import (
    active_spec,
    encoder_records_of,
    memory_of,
    wait_for_collection,
    wire_decoder,
    wire_engine,
)
from visual_memory.services.bootstrap.wiring.wire_records import audit_of, wire_records, wire_usage
from visual_memory.services.bootstrap.wiring.wire_removal import (
    check_restored,
    wire_removal_steps,
    wire_stores,
)
from visual_memory.services.bootstrap.wiring.wire_task_queue import intake_queue, wire_task_queue
from visual_memory.services.bootstrap.wiring.wire_use_cases import lease_of, wire_accept
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.encoder_fingerprint import BUILT_IN, BUILT_IN_CROP
from visual_memory.services.infrastructure.processes.private_redis import broker_url, client_url
from visual_memory.services.infrastructure.records.clock_check import ClockCheck
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.resource_leases import Leases
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox
from visual_memory.services.infrastructure.redis_streams.stream_metrics import StreamMetrics
from visual_memory.services.infrastructure.task_queue.celery_intake_queue import CeleryIntakeQueue
from visual_memory.services.intake.accept_vectors import AcceptVectors
from visual_memory.services.intake.picture_urls.allowed_prefixes import AllowedPrefixes
from visual_memory.services.intake.picture_urls.fetch_url import FetchUrls
from visual_memory.services.intake.picture_urls.read_picture_urls import ReadPictureUrls
from visual_memory.services.intake.streams.accept_image_entries import AcceptImageEntries
from visual_memory.services.intake.streams.accept_removal_entries import AcceptRemovalEntries
from visual_memory.services.intake.streams.publish_results import PublishResults
from visual_memory.services.intake.streams.read_image_stream import ImageStreamReader
from visual_memory.services.intake.streams.read_removal_stream import RemovalStreamReader
from visual_memory.services.intake.streams.reader_loop import ReaderLoop, StreamReader
from visual_memory.services.intake.streams.relay_celery_messages import WAIT, CeleryRelay
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.refused_intake_entries import RefusedEntries
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.tombstones import Tombstones
from visual_memory.services.settings import Settings

TIMEOUT = WAIT + 4


@dataclass(frozen=True)
class IntakeProcess:
    """The use cases, for one encoder."""

    memory: Memory
    accept: AcceptImageEntries
    remove: AcceptRemovalEntries


@dataclass(frozen=True)
class IntakeReader:
    """The loops of the process.

    Attributes:
        stop: set when the process must stop.
    """

    serve: ReaderLoop
    relay: CeleryRelay
    metrics: StreamMetrics
    stop: threading.Event

    def run(self) -> None:
        """Read until `stop` is set."""
        relay = threading.Thread(target=self.relay.run, args=(self.stop,), name="celery-relay")
        relay.start()
        try:
            self.serve.run(self.stop)
        finally:
            self.stop.set()
            relay.join()


@contextmanager
def intake_process(settings: Settings) -> Iterator[IntakeReader]:
    """Wait for the collection, and wire the reader.

    Raises:
        InvalidRequest: a URL prefix of the settings is not valid.
        Unavailable: the store does not answer, or a restore is unfinished.
    """
    with ExitStack() as opened:
        secret, database = load_secret(settings), wire_records(settings, opened)
        streams = wire_streams(settings, opened)
        long_timeout_engine, engine = (
            wire_engine(settings, opened, timeout)
            for timeout in (settings.store.timeout, settings.store.request_timeout)
        )
        records, references = encoder_records_of(database), wire_picture_urls(settings)
        wait_for_collection(long_timeout_engine, records)
        sandbox, task_queue = wire_decoder(settings, opened), wire_task_queue(settings, opened)
        publish_events, usage = wire_publisher(settings, opened), wire_usage(database, opened)
        audit, clock = audit_of(settings, database), ClockCheck(database.clock_difference)

        def wire(encoder: EncoderSpec) -> IntakeProcess:
            long_timeout_memory, memory = (memory_of(settings, each, encoder) for each in (long_timeout_engine, engine))
            stores = wire_stores(
                settings, database, long_timeout_memory, secret, encoder.name, publish_events, usage.count
            )
            check_restored(stores)
            decoder = _decoder(sandbox, encoder)
            accept = wire_accept(settings, memory, stores, decoder, task_queue.enqueue, clock.check)
            accept_vectors = AcceptVectors(
                accept.put, long_timeout_memory, encoder.name, records.usable, publish_events, usage.count
            )
            removal_steps = wire_removal_steps(long_timeout_memory, stores, lease_of(settings))
            return IntakeProcess(
                memory,
                AcceptImageEntries(accept, accept_vectors, references, audit),
                AcceptRemovalEntries(
                    removal_steps, audit, lambda tenant: Requester(name=streams.keys.removals(tenant))
                ),
            )

        wired, stop = ActiveUseCases(partial(active_spec, records), wire), threading.Event()
        refused = RefusedEntries(database, Tombstones(database, secret.key("tombstones")))
        readers = _wire_readers(settings, streams, RemovalRecords(database), refused, wired, stop.is_set)
        publish = PublishResults(streams, lambda: wired.current().memory)
        yield IntakeReader(
            ReaderLoop(streams, readers, publish, settings.worker.concurrency),
            wire_celery_relay(settings, opened, database, streams),
            StreamMetrics(streams),
            stop,
        )


def _wire_readers(
    settings: Settings,
    streams: Streams,
    removals: RemovalRecords,
    refused: RefusedEntries,
    wired: ActiveUseCases[IntakeProcess],
    is_stopping: Callable[[], bool],
) -> dict[Inbox, StreamReader]:
    """Wire the readers by the kind of stream, removals first."""
    leases, duration = removals.leases, lease_of_streams(settings)
    consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    requests = RemovalStreamReader(streams, leases, duration, lambda: wired.current().remove, consumer, is_stopping)
    undrained, accept = removals.undrained_positions, lambda: wired.current().accept
    images = ImageStreamReader(streams, leases, duration, accept, undrained, refused, consumer, is_stopping)
    return {Inbox.REMOVALS: requests, Inbox.INTAKE: images}


def lease_of_streams(settings: Settings) -> timedelta:
    """How long a stream is left to its reader: any of its writes ends or times out within half of it."""
    return max(lease_of(settings), 2 * timedelta(seconds=2 * settings.store.request_timeout + 1))


def _decoder(sandbox: Decoder, encoder: EncoderSpec) -> Decoder:
    """A decoder that stores the cropped pixels for the encoder, so that no worker decodes the picture again.

    The crop of an encoder that is not built in is known only to processes that load it.
    """
    if encoder.model != BUILT_IN:
        return sandbox.checking_only()
    return sandbox.with_crop(replace(BUILT_IN_CROP, version=encoder.preprocessing))


def wire_picture_urls(settings: Settings) -> ReadPictureUrls:
    """Wire reading pictures by URL, below the prefixes that the settings allow each tenant.

    Raises:
        InvalidRequest: a prefix is not the URL of a folder, or the library of a store is not installed.
    """
    allowed, max_bytes = AllowedPrefixes(settings.intake.references), settings.pictures.max_bytes
    return ReadPictureUrls(allowed, FetchUrls(allowed.hosts(), max_bytes, max_bytes), max_bytes)


def wire_celery_relay(settings: Settings, opened: ExitStack, database: Database, streams: Streams) -> CeleryRelay:
    """Wire the relay of Celery messages; the context closes its connections."""
    broker = Redis.from_url(client_url(broker_url(settings)), socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)
    queue = CeleryIntakeQueue(broker, intake_queue(settings))
    opened.callback(queue.close)
    return CeleryRelay(queue, streams.add, Leases(database), settings.intake.celery)
