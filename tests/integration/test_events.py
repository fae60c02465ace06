"""Promises 2, 3 and 7: listeners get what happens in their tenant or are told that it is lost; Redis names nobody."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis.asyncio

from tests.support.broker_redis import Broker, broker
from tests.support.running_service import suspended, until
from visual_memory.schemas.errors import TooManyListeners, Unavailable
from visual_memory.schemas.event import MAX_IMAGES, Event, EventType
from visual_memory.schemas.image import point_id
from visual_memory.services.infrastructure.events.event_entries import EventEntries
from visual_memory.services.infrastructure.events.event_listeners import EventListeners
from visual_memory.services.infrastructure.events.event_publisher import EventPublisher
from visual_memory.services.infrastructure.events.listener import MAX_WAITING, Delivery, Listener
from visual_memory.services.infrastructure.events.tenant_events import PAGE
from visual_memory.services.infrastructure.processes.private_redis import client_url

KEEP = 300
ENTRIES = EventEntries("one-service:", bytes(32))
TENANT, STREAM = "shop", "one-service:events:shop"
SECONDS = 10.0


@pytest.fixture
def server(short_folder: Path) -> Iterator[Broker]:
    with broker(short_folder) as started:
        yield started


@pytest.fixture
def publish(server: Broker) -> Iterator[EventPublisher]:
    made = publisher(server)
    yield made
    made.close()


def publisher(server: Broker) -> EventPublisher:
    client = redis.Redis.from_url(client_url(server.url), socket_timeout=0.2, socket_connect_timeout=0.2)
    return EventPublisher(client, ENTRIES, KEEP, retry_seconds=0.1)


class Memory:
    """Images by their points, as far as events need them."""

    def __init__(self, *image_ids: str) -> None:
        self.images = {point_id(TENANT, each): each for each in image_ids}
        self.answers = True

    def __call__(self, tenant: str, points: Sequence[str]) -> Mapping[str, str]:
        if not self.answers:
            raise Unavailable("the store does not answer")
        return {point: self.images[point] for point in points if point in self.images and tenant == TENANT}


@asynccontextmanager
async def listeners(
    server: Broker, memory: Memory, most: int = 100, per_key: int = 100
) -> AsyncIterator[EventListeners]:
    client = redis.asyncio.Redis.from_url(client_url(server.url), socket_timeout=11)
    made = EventListeners(client, ENTRIES, memory, most, per_key)
    try:
        yield made
    finally:
        await made.close()


async def received(listener: Listener, number: int) -> list[Event]:
    """The next events of a listener."""
    events, deadline = list[Event](), time.monotonic() + SECONDS
    while len(events) < number:
        assert time.monotonic() < deadline, events
        events += parsed(await listener.next(0.1))
    return events


def parsed(chunk: bytes) -> list[Event]:
    return [Event.model_validate_json(line[6:]) for line in chunk.splitlines() if line.startswith(b"data: ")]


async def is_current(listener: Listener) -> None:
    """Wait until it gets what is published from now on."""
    assert await listener.next(SECONDS) == b""
    assert listener.cursor


def stored(server: Broker) -> list[Any]:
    return [*server.client.xrange(STREAM)]


def test_listeners_of_every_process_get_what_happens_in_their_tenant(server: Broker, publish: EventPublisher) -> None:
    async def scene() -> None:
        memory = Memory("cat", "dog")
        async with listeners(server, memory) as one, listeners(server, memory) as another:
            with (
                one.listening(TENANT, "a") as first,
                one.listening(TENANT, "b", {EventType.REMOVED}) as few,
                another.listening(TENANT, "a") as elsewhere,
                one.listening("another", "c") as other_tenant,
            ):
                for each in (first, few, elsewhere, other_tenant):
                    await is_current(each)
                publish(TENANT, EventType.REMEMBERED, ["cat", "dog"], encoder="e")
                publish(TENANT, EventType.JOB, job_id="j", done=3, total=4)
                publish(TENANT, EventType.REMOVED, count=7, removal_id="r")
                for each in (first, elsewhere):
                    remembered, job, removed = await received(each, 3)
                    assert remembered.image_ids == ["cat", "dog"]
                    assert (remembered.count, remembered.encoder) == (2, "e")
                    assert (job.type, job.done, job.total, job.count) == (EventType.JOB, 3, 4, None)
                    assert (removed.count, removed.removal_id) == (7, "r")
                    assert remembered.cursor < job.cursor < removed.cursor
                assert [each.type for each in await received(few, 1)] == [EventType.REMOVED]
                assert few.cursor == removed.cursor, "the cursor advances with events of other types too"
                assert await other_tenant.next(0.1) == b""

    asyncio.run(scene())


def test_a_listener_resumes_after_its_cursor_however_much_happened_since(
    server: Broker, publish: EventPublisher
) -> None:
    async def scene() -> None:
        async with listeners(server, Memory()) as every:
            with every.listening(TENANT, "a") as listener:
                await is_current(listener)
                publish(TENANT, EventType.ACCEPTED, count=1)
                [first] = await received(listener, 1)
            for number in range(2, PAGE + 50):
                publish(TENANT, EventType.ACCEPTED, count=number)
            until(lambda: len(stored(server)) == PAGE + 49, "all to be stored")
            with every.listening(TENANT, "a", cursor=first.cursor) as again, every.listening(TENANT, "a") as new:
                await is_current(new)
                publish(TENANT, EventType.ACCEPTED, count=PAGE + 50)
                assert [each.count for each in await received(again, PAGE + 49)] == [*range(2, PAGE + 51)]
                assert [each.count for each in await received(new, 1)] == [PAGE + 50]

    asyncio.run(scene())


@pytest.mark.parametrize("loss", ["trimmed", "wiped", "never there"])
def test_a_cursor_that_is_lost_is_answered_with_resync(server: Broker, publish: EventPublisher, loss: str) -> None:
    async def scene() -> None:
        publish(TENANT, EventType.ACCEPTED, count=1)
        until(lambda: stored(server), "the event to be stored")
        cursor = "5-5" if loss == "never there" else stored(server)[0][0].decode()
        if loss == "trimmed":
            for number in range(3 * KEEP):
                publish(TENANT, EventType.ACCEPTED, count=number)
            until(lambda: stored(server)[-1][0] != cursor.encode(), "more to be stored")
            until(lambda: not server.client.xrange(STREAM, cursor, cursor), "the oldest to be deleted")
        if loss == "wiped":
            server.client.flushall()
        async with listeners(server, Memory()) as every:
            with every.listening(TENANT, "a", {EventType.REMOVED}, cursor) as listener:
                [lost] = await received(listener, 1)
                assert lost.type == EventType.RESYNC
                publish(TENANT, EventType.REMOVED, count=1)
                [following] = await received(listener, 1)
                assert following.type == EventType.REMOVED

    asyncio.run(scene())
    assert len(stored(server)) < 2 * KEEP, "the stream is capped"


def test_an_image_that_is_removed_is_named_neither_to_listeners_nor_in_redis(
    server: Broker, publish: EventPublisher
) -> None:
    async def scene() -> None:
        memory = Memory("cat", "tom-smith")
        async with listeners(server, memory) as every:
            publish(TENANT, EventType.ACCEPTED, ["cat", "tom-smith"])
            publish(TENANT, EventType.ACCEPTED, ["tom-smith"])
            until(lambda: len(stored(server)) == 2, "the events to be stored")
            first = stored(server)[0][0].decode()
            with every.listening(TENANT, "a") as listener:
                await is_current(listener)
            del memory.images[point_id(TENANT, "tom-smith")]
            with every.listening(TENANT, "a", cursor=first) as late:
                [event] = await received(late, 1)
                assert (event.count, event.image_ids) == (1, None)

    asyncio.run(scene())
    held = b"".join(server.client.dump(key) for key in server.key_names())
    for named in (b"tom-smith", b"cat", point_id(TENANT, "cat").encode(), bytes.fromhex(hexed("cat"))):
        assert named not in held
    points = [fields[b"points"] for _, fields in stored(server)]
    assert points[0][-16:] != points[1][-16:], "the same image has another mask in each event"


def hexed(image_id: str) -> str:
    return point_id(TENANT, image_id).replace("-", "")


def test_an_event_about_many_images_has_their_number_and_so_has_one_whose_images_cannot_be_read(
    server: Broker, publish: EventPublisher
) -> None:
    async def scene() -> None:
        many = [str(number) for number in range(MAX_IMAGES + 1)]
        memory = Memory(*many)
        async with listeners(server, memory) as every:
            with every.listening(TENANT, "a") as listener:
                await is_current(listener)
                publish(TENANT, EventType.ACCEPTED, many)
                publish(TENANT, EventType.ACCEPTED, many[1:])
                first, second = await received(listener, 2)
                assert (first.count, first.image_ids) == (len(many), None)
                assert (second.count, second.image_ids) == (MAX_IMAGES, many[1:])
                memory.answers = False
                publish(TENANT, EventType.ACCEPTED, ["1"])
                [third] = await received(listener, 1)
                assert (third.count, third.image_ids) == (1, None)

    asyncio.run(scene())


def test_a_listener_that_does_not_read_gets_resync_instead_of_what_it_missed() -> None:
    async def scene() -> None:
        listener, numbers = Listener(), count(1)
        listener.start_at("0-0")
        for number in range(2 * MAX_WAITING + 5):
            listener.offer(
                Delivery.of(
                    f"1-{number + 1}", {"type": "accepted", "at": "2026-01-01T00:00:00Z", "count": next(numbers)}
                )
            )
        events = list[Event]()
        while chunk := await listener.next(0):
            events += parsed(chunk)
        assert events[0].type == EventType.RESYNC
        assert len(events) <= MAX_WAITING
        assert events[-1].count == 2 * MAX_WAITING + 5

    asyncio.run(scene())


def test_nothing_waits_for_a_redis_that_hangs_and_listeners_are_told_that_events_are_missing(
    server: Broker, publish: EventPublisher
) -> None:
    async def scene() -> None:
        async with listeners(server, Memory()) as every:
            with every.listening(TENANT, "a") as listener:
                await is_current(listener)
                with suspended(psutil.Process(server.process.pid)):
                    begun = time.monotonic()
                    for number in range(1000):
                        publish(TENANT, EventType.ACCEPTED, count=number)
                    assert time.monotonic() - begun < 0.5
                    await asyncio.sleep(0.5)
                publish(TENANT, EventType.REMOVED, count=1)
                types = list[object]()
                while EventType.RESYNC not in types:
                    types += [each.type for each in await received(listener, 1)]

    asyncio.run(scene())


def test_a_redis_that_was_restarted_is_read_again_after_a_resync(short_folder: Path) -> None:
    async def scene() -> None:
        with broker(short_folder) as first:
            publish = publisher(first)
            async with listeners(first, Memory()) as every:
                with every.listening(TENANT, "a") as listener:
                    await is_current(listener)
                    publish(TENANT, EventType.ACCEPTED, count=1)
                    await received(listener, 1)
                    first.stop()
                    publish(TENANT, EventType.ACCEPTED, count=2)
                    with broker(short_folder):
                        [lost] = await received(listener, 1)
                        assert lost.type == EventType.RESYNC
                        publish(TENANT, EventType.ACCEPTED, count=3)
                        later = list[Event]()
                        while not later or later[-1].type == EventType.RESYNC:
                            later += await received(listener, 1)
                        assert later[-1].count == 3
            publish.close()

    asyncio.run(scene())


def test_listeners_are_capped_by_key_tenant_and_process(server: Broker) -> None:
    async def scene() -> None:
        async with listeners(server, Memory(), most=8, per_key=5) as every:
            with every.listening(TENANT, "a"):
                assert every.number == 1
            assert every.number == 0
            with ExitStack() as opened:
                for _ in range(5):
                    opened.enter_context(every.listening(TENANT, "a"))
                with pytest.raises(TooManyListeners, match="the key has 5"):
                    opened.enter_context(every.listening(TENANT, "a"))
                opened.enter_context(every.listening(TENANT, "b"))
                with pytest.raises(TooManyListeners, match="too many listeners"):
                    opened.enter_context(every.listening(TENANT, "b"))
                for _ in range(2):
                    opened.enter_context(every.listening("another", "c"))
                with pytest.raises(TooManyListeners):
                    opened.enter_context(every.listening("third", "d"))
                assert every.number == 8
            assert every.number == 0

    asyncio.run(scene())


def test_the_events_of_a_tenant_that_ended_are_deleted(server: Broker, publish: EventPublisher) -> None:
    publish(TENANT, EventType.ACCEPTED, ["cat"])
    until(lambda: stored(server), "the event to be stored")
    assert 0 < server.client.ttl(STREAM) <= 3600
    publish.forget_tenant(TENANT)
    assert server.key_names() == []


def test_an_entry_that_others_wrote_is_no_event(server: Broker, publish: EventPublisher) -> None:
    async def scene() -> None:
        async with listeners(server, Memory()) as every:
            with every.listening(TENANT, "a") as listener:
                await is_current(listener)
                for fields in ({"x": "y"}, {"event": "[]"}, {"event": json.dumps({"at": "x"})}):
                    server.client.xadd(STREAM, fields)
                publish(TENANT, EventType.ACCEPTED, count=1)
                types = [each.type for each in await received(listener, 4)]
                assert types == [EventType.RESYNC] * 3 + [EventType.ACCEPTED]

    asyncio.run(scene())
