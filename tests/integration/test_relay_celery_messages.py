"""Images that any Celery producer sends by the task's name: each becomes an entry of its tenant's stream."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.broker_redis import Broker, broker
from tests.support.celery_messages import MALFORMED
from tests.support.intake_redis import IntakeServer, intake_server
from tests.support.running_service import unique, until
from tests.support.wired_service import database_in
from visual_memory.schemas.errors import InvalidRequest, NotAnEvent, RefusedEvent
from visual_memory.schemas.intake_event import MAX_EVENT, MAX_PICTURE
from visual_memory.schemas.parse_intake_event import ParsedEvent, parse_event
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.infrastructure.records.resource_leases import Leases
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.task_queue.celery_intake_queue import AT_ONCE, CeleryIntakeQueue
from visual_memory.services.intake.streams import relay_celery_messages
from visual_memory.services.intake.streams.relay_celery_messages import MAX_MESSAGE, CeleryRelay, entry_of

PAGE = Path(__file__).parents[2] / "docs" / "intake.md"
TASK = "visual_memory.remember_image"
QUEUE = "visual-memory:0123:intake"
PICTURE = base64.b64encode(b"a picture").decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("b"), free_port()) as started:
        yield started


@pytest.fixture(scope="module")
def intake() -> Iterator[IntakeServer]:
    with intake_server() as started:
        yield started


@pytest.fixture
def streams(intake: IntakeServer) -> Streams:
    return intake.streams()


@pytest.fixture
def tenant() -> str:
    return unique("t")


@pytest.fixture
def relay(server: Broker, streams: Streams, tmp_path: Path) -> Iterator[CeleryRelay]:
    server.client.flushall()
    yield CeleryRelay(CeleryIntakeQueue(server.client, QUEUE), streams.add, Leases(database_in(tmp_path)))
    server.client.flushall()


@pytest.fixture
def producer(server: Broker, relay: CeleryRelay) -> Iterator[Celery]:
    """A plain one, as anybody writes it."""
    with Celery("a-camera", broker=server.url) as app:
        yield app


def send(producer: Celery, named: dict[str, Any], *arguments: Any, **options: Any) -> str:
    return str(producer.send_task(TASK, args=arguments, kwargs=named, queue=QUEUE, **options).id)


def events(streams: Streams, tenant: str) -> list[bytes]:
    return [entry.event for page in streams.entries_up_to(tenant, streams.last_id(tenant)) for entry in page]


def only(streams: Streams, tenant: str) -> ParsedEvent:
    [event] = events(streams, tenant)
    return parse_event(event)


@pytest.mark.parametrize("protocol", [1, 2])
def test_what_is_sent_by_name_becomes_an_entry(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str, protocol: int
) -> None:
    producer.conf.task_protocol = protocol
    said = {"labels": ["cat"], "subject": "José", "source": "camera", "metadata": {"size": 3}}
    task_id = send(producer, {"tenant": tenant, "picture": PICTURE, **said})
    assert relay.relay() == (1, 0)
    event = only(streams, tenant)
    [image] = event.images
    assert (event.id, image.picture) == (task_id, b"a picture"), "results are found by the id of the task"
    assert image.fields.model_dump(exclude_unset=True) == said
    assert relay.relay() == (0, 0)


def test_a_producer_may_name_the_event_and_where_the_picture_lies(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str
) -> None:
    send(producer, {"tenant": tenant, "labels": ["cat"], "id": "mine", "dataref": "s3://bucket/a.jpg"})
    relay.relay()
    event = only(streams, tenant)
    assert (event.id, event.images[0].dataref) == ("mine", "s3://bucket/a.jpg")


def test_the_largest_picture_and_a_vector_fit(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str
) -> None:
    largest = base64.b64encode(bytes(MAX_PICTURE)).decode()
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": largest})
    send(producer, {"tenant": tenant, "labels": ["cat"], "vector": [0.5] * 4096, "encoder": "clip"})
    assert relay.relay() == (2, 0)
    read = [parse_event(event).images[0] for event in events(streams, tenant)]
    assert [len(read[0].picture or b""), len(read[1].vector or ())] == [MAX_PICTURE, 4096]


def test_they_keep_their_order_and_the_urgent_come_first(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str
) -> None:
    for number in range(AT_ONCE + 2):
        send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE, "id": f"{number}"})
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE, "id": "urgent"}, priority=9)
    while relay.relay()[0]:
        pass
    found = [parse_event(event).id for event in events(streams, tenant)]
    assert sorted(found) == sorted(["urgent", *map(str, range(AT_ONCE + 2))]), "each once"
    assert [each for each in found if each != "urgent"] == [*map(str, range(AT_ONCE + 2))]


def test_the_rights_that_the_page_names_are_enough(
    relay: CeleryRelay, server: Broker, streams: Streams, tenant: str
) -> None:
    [rules] = re.findall(r"^    (on >PASSWORD .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    server.client.execute_command("ACL", "SETUSER", "camera", *rules.replace("DIGEST", "0123").split())
    with Celery("a-camera", broker=f"redis://camera:PASSWORD@127.0.0.1:{server.port}/0") as app:
        app.conf.broker_transport_options = {"global_keyprefix": "visual-memory:0123:", "priority_steps": [0]}
        named = {"tenant": tenant, "labels": ["cat"], "picture": PICTURE}
        app.send_task(TASK, kwargs=named, queue="intake")
        assert relay.relay() == (1, 0)
        with pytest.raises(OperationalError, match="no permissions"):
            app.send_task(TASK, kwargs=named, queue="remember", retry=False)
    assert len(events(streams, tenant)) == 1


# --- what is wrong


@pytest.mark.parametrize(
    ("named", "arguments", "error"),
    [
        ({"labels": ["cat"]}, (), RefusedEvent),
        ({"labels": ["cat"], "picture": PICTURE}, ("a.jpg",), RefusedEvent),
        ({"labels": ["cat"], "picture": PICTURE, "size": float("nan")}, (), RefusedEvent),
        ({"labels": ["cat"], "picture": PICTURE, "id": 7}, (), NotAnEvent),
        ({"labels": ["cat"], "picture": b"\xff\xd8"}, (), RefusedEvent),
        ({"labels": ["cat"], "subject": "\ud800", "picture": PICTURE}, (), InvalidRequest),
        ({"labels": ["cat"], "picture": base64.b64encode(bytes(MAX_EVENT * 3 // 4)).decode()}, (), NotAnEvent),
    ],
)
def test_what_is_wrong_with_an_image_its_reader_says(
    relay: CeleryRelay,
    producer: Celery,
    streams: Streams,
    tenant: str,
    named: dict[str, Any],
    arguments: tuple[Any, ...],
    error: type[InvalidRequest],
) -> None:
    send(producer, {"tenant": tenant, **named}, *arguments)
    assert relay.relay() == (1, 0)
    with pytest.raises(error):
        only(streams, tenant)


def test_a_key_given_twice_is_found_by_its_reader(
    relay: CeleryRelay, server: Broker, producer: Celery, streams: Streams, tenant: str
) -> None:
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE})
    message = json.loads(server.client.rpop(QUEUE))
    body = base64.b64decode(message["body"]).replace(b'"labels"', b'"labels": ["dog"], "labels"')
    server.client.lpush(QUEUE, json.dumps({**message, "body": base64.b64encode(body).decode()}))
    relay.relay()
    with pytest.raises(NotAnEvent, match="labels: this key is given twice"):
        only(streams, tenant)


def test_what_names_no_tenant_is_dropped_and_stops_nothing(
    relay: CeleryRelay, server: Broker, producer: Celery, streams: Streams, tenant: str
) -> None:
    server.client.lpush(QUEUE, *MALFORMED.values(), b"7" * (MAX_MESSAGE + 1))
    for named in ({}, {"tenant": None}, {"tenant": "A tenant"}, {"tenant": ["a"]}):
        send(producer, {**named, "labels": ["cat"], "picture": PICTURE})
    producer.send_task("another.task", kwargs={"tenant": tenant}, queue=QUEUE)
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE}, serializer="yaml")
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE}, compression="gzip")
    server.client.set(f"{QUEUE}\x06\x163", "no queue")
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE, "id": "last"})
    before = streams.tenants()
    while relay.relay()[0]:
        pass
    assert only(streams, tenant).id == "last"
    assert streams.tenants() - before == {tenant}
    assert server.client.exists(QUEUE, f"{QUEUE}\x06\x163") == 0


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_no_message_raises_what_is_not_expected(raw: bytes) -> None:
    with pytest.raises((ValueError, RecursionError, InvalidRequest)):
        entry_of(raw)


def test_a_tenant_that_is_not_named_in_the_settings_is_not_sent_to(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str
) -> None:
    other = unique("t")
    for each in (other, tenant):
        send(producer, {"tenant": each, "labels": ["cat"], "picture": PICTURE})
    assert replace(relay, tenants=[tenant]).relay() == (2, 0)
    assert (len(events(streams, tenant)), events(streams, other)) == (1, [])


def test_a_stream_that_takes_nothing_holds_up_no_other_tenant(
    relay: CeleryRelay, producer: Celery, streams: Streams, intake: IntakeServer, tenant: str
) -> None:
    broken, key = unique("t"), streams.keys.intake
    intake.client.set(key(broken), "no stream")
    for number in range(AT_ONCE):
        send(producer, {"tenant": broken, "labels": ["cat"], "picture": PICTURE, "id": f"{number}"})
    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE})
    assert relay.relay() == (0, AT_ONCE)
    assert relay.relay() == (1, AT_ONCE - 1)
    intake.client.delete(key(broken))
    assert relay.relay() == (AT_ONCE, 0)
    assert len(events(streams, broken)) == AT_ONCE


# --- as a process runs it


@contextmanager
def running(*relays: CeleryRelay) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=each.run, args=(ended,)) for each in relays]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


def test_of_several_relays_one_does_it(
    relay: CeleryRelay, producer: Celery, streams: Streams, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_celery_messages, "PAUSE", 0.05)
    monkeypatch.setattr(relay_celery_messages, "RENEWED", 0.0)
    with running(relay, relay):
        for number in range(20):
            send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE, "id": f"{number}"})
        until(lambda: len(events(streams, tenant)) >= 20, "the entries")
    assert [parse_event(event).id for event in events(streams, tenant)] == [*map(str, range(20))]


def test_while_the_intake_is_away_they_wait(
    relay: CeleryRelay, server: Broker, producer: Celery, streams: Streams, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_celery_messages, "PAUSE", 0.05)
    gone = Streams(redis.Redis(port=1, retry=Retry(NoBackoff(), 0)), streams.keys)
    asked = threading.Event()

    def add(name: str, event: bytes) -> object:
        asked.set()
        return gone.add(name, event)

    send(producer, {"tenant": tenant, "labels": ["cat"], "picture": PICTURE})
    with running(CeleryRelay(relay.queue, add, relay.leases)):
        assert asked.wait(60)
    assert server.client.llen(QUEUE) == 1
    assert relay.relay() == (1, 0)
    assert len(events(streams, tenant)) == 1
