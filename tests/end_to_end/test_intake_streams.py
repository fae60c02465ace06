"""The streams of a running service, fed by a plain Redis client: what is sent is there in the end, whoever dies."""

from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from tests.support.intake_events import image_data, image_event, removal_event
from tests.support.running_service import Stack, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.removal import Removal, RemovalRequest, RemovalStatus
from visual_memory.services.bootstrap.wiring.wire_intake import intake_redis


class Producer:
    """Sends by XADD and nothing else, and reads what is said."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.redis: Any = intake_redis(stack.settings)

    def send(self, name: str, data: bytes, **said: Any) -> None:
        """Put an image on the stream, once the server takes it."""
        event = image_event(id=name, data=image_data(data, **said))
        until(partial(self._taken, event), "the entry to be taken")

    def said(self, *names: str) -> list[dict[str, str]]:
        """All that was said of events so far, by their ids."""
        results = (fields for _, fields in self.redis.xrange(f"visual-memory:results:{self._stack.tenant}"))
        decoded = [{key.decode(): value.decode() for key, value in fields.items()} for fields in results]
        return [said for said in decoded if said.get("id") in names]

    def results(self, *names: str) -> dict[str, list[str]]:
        """What became of events so far; that a removal of another test held one up does not count."""
        said = [each for each in self.said(*names) if each["status"] != "held"]
        return {name: [each["status"] for each in said if each["id"] == name] for name in names}

    def ended(self, *names: str) -> dict[str, list[str]]:
        """The same once each has its end."""

        def all_ended() -> dict[str, list[str]] | None:
            said = attempt(partial(self.results, *names)) or {}
            return said if said and all({*each} - {"accepted"} for each in said.values()) else None

        return until(all_ended, "every entry to have its end")

    def _taken(self, event: bytes) -> bool:
        return attempt(partial(self.put, event)) is not None

    def put(self, event: bytes) -> Any:
        """Put an event on the stream; its entry's id."""
        return self.redis.xadd(f"visual-memory:intake:{self._stack.tenant}", {"event": event})


def attempt(do: Callable[[], Any]) -> Any:
    """What comes of it; None while the server starts."""
    try:
        return do()
    except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
        return None


@pytest.fixture
def producer(stack: Stack) -> Producer:
    return Producer(stack)


def test_what_is_sent_by_xadd_is_remembered_and_votes(stack: Stack, producer: Producer) -> None:
    source = unique("stream")
    names = [unique("event") for _ in range(5)]
    for name in names:
        producer.send(name, picture("disc"), image_id=name, source=source, labels=["disc"])
    bad = unique("event")
    producer.send(bad, b"no picture", source=source)
    said = producer.ended(*names, bad)
    assert said == {**{name: ["accepted", "remembered"] for name in names}, bad: ["rejected"]}
    held = stack.held({"source": source})
    assert held.keys() == {*names}
    assert {image.state for image in held.values()} == {State.REMEMBERED}


def test_the_metrics_tell_what_lies_there(stack: Stack, producer: Producer) -> None:
    before = stack.metric("visual_memory_intake_dead_letters")
    ended = stack.metric("visual_memory_intake_total", status="dead")
    producer.put(b"no event")
    until(
        lambda: stack.metric("visual_memory_intake_total", status="dead") == ended + 1, "the dead letter to be counted"
    )
    assert stack.metric("visual_memory_intake_dead_letters") == before + 1
    assert stack.metric("visual_memory_intake_lag") == 0
    assert stack.metric("visual_memory_intake_oldest_seconds") == 0


@pytest.mark.parametrize(
    "names",
    [
        ("intake-reader",),
        pytest.param(("intake-redis",), marks=pytest.mark.one_machine),
        pytest.param(("intake-reader", "intake-redis", "worker"), marks=pytest.mark.one_machine),
    ],
)
def test_kill_9_loses_nothing_that_was_sent(victim: Stack, names: tuple[str, ...]) -> None:
    producer, source = Producer(victim), unique("killed")
    ids = [unique("event") for _ in range(30)]
    killed = [victim.child(name) for name in names]
    for number, each in enumerate(ids):
        producer.send(each, picture("disc"), image_id=each, source=source)
        if number == len(ids) // 2:
            for process in killed:
                process.kill()
    said = producer.ended(*ids)
    assert {status for each in said.values() for status in each} == {"accepted", "remembered"}
    ends = Counter(each["entry"] for each in producer.said(*ids) if each["status"] == "remembered")
    assert {*ends.values()} == {1}, "an answer that was lost has an event sent twice, but each entry ends once"
    assert victim.held({"source": source}).keys() == {*ids}


def test_a_removal_takes_what_still_waits(victim: Stack) -> None:
    producer, subject = Producer(victim), unique("ann")
    name, after = unique("event"), unique("event")
    with suspended(victim.child("intake-reader")):
        producer.send(name, picture("disc"), subject=subject)
        assert victim.metric("visual_memory_intake_lag") == 1
        assert victim.metric("visual_memory_intake_unread_bytes") > 0
        asked = victim.client.remove(RemovalRequest(filter=Filter({"subject": subject}), reason="a test"))
        removal = until(lambda: done(victim, asked.id), "the removal")
        assert (removal.images, removal.queued) == (0, 1)
    assert producer.ended(name) == {name: ["removed"]}
    producer.send(after, picture("disc"), subject=subject)
    assert producer.ended(after) == {after: ["accepted", "remembered"]}
    assert len(victim.held({"subject": subject})) == 1


def test_a_removal_is_asked_for_by_xadd(stack: Stack, producer: Producer) -> None:
    name, asked, subject = unique("event"), unique("removal"), unique("ann")
    producer.send(name, picture("disc"), subject=subject)
    assert producer.ended(name)[name][-1] == "remembered"
    event = removal_event(id=asked, data={"filter": {"subject": subject}, "reason": "a test"})
    producer.redis.xadd(f"visual-memory:removals:{stack.tenant}", {"event": event})
    [removal_id] = until(lambda: [said["removal"] for said in producer.said(asked)], "the removal's id")
    removal = until(lambda: done(stack, removal_id), "the removal")
    assert (removal.images, removal.queued, removal.requested_by) == (1, 0, f"visual-memory:removals:{stack.tenant}")
    assert stack.held({"subject": subject}) == {}


def done(stack: Stack, removal_id: str) -> Removal | None:
    """A removal, once it is done."""
    removal = stack.client.removal(removal_id)
    return removal if removal.status is RemovalStatus.DONE else None


@pytest.mark.one_machine
def test_a_full_intake_refuses_entries_and_nothing_else(victim: Stack) -> None:
    producer, sent = Producer(victim), [unique("event") for _ in range(100)]
    padded = (image_event(id=each, padding="x" * 400_000, data=image_data(picture("disc"))) for each in sent)
    with suspended(victim.child("intake-reader")):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            deque(map(producer.put, padded), 0)
        [image_id] = victim.teach(picture("bars"), labels=["bars"])
        victim.remembered([image_id])
    taken = [each["id"] for each in until(lambda: producer.said(*sent), "the entries to be read")]
    producer.ended(*taken)
    producer.send(sent[-1], picture("disc"))
    producer.ended(sent[-1])


@pytest.mark.one_machine
def test_a_silent_intake_stops_nobody_else(victim: Stack) -> None:
    with suspended(victim.child("intake-redis")):
        ready = victim.http.get("/readyz").json()
        [image_id] = victim.teach(picture("disc"), labels=["disc"])
        victim.remembered([image_id])
    assert (ready["ready"], ready["parts"]["intake"]["ok"]) == (True, False)
    victim.until_ready()
