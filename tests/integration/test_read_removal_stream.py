"""A removal that is asked for by a stream is made once, and one that cannot be made stops no other."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.support.intake_events import image_data, image_event, removal_event
from tests.support.intake_redis import intake_server
from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import RemovalStatus
from visual_memory.services.infrastructure.records.resource_leases import Leases
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox
from visual_memory.services.intake.streams.accept_removal_entries import AcceptRemovalEntries
from visual_memory.services.intake.streams.find_covered_entries import StreamIntakeQueue
from visual_memory.services.intake.streams.read_removal_stream import MAX_TRIES, RemovalStreamReader, resource

BY = Requester(name="the stream of removals", key=None)


@pytest.fixture(scope="module")
def streams() -> Iterator[Streams]:
    with intake_server() as server:
        yield server.streams()


@pytest.fixture
def reading(parts: Parts, streams: Streams) -> AcceptRemovalEntries:
    parts.intake = StreamIntakeQueue(streams)
    return AcceptRemovalEntries(parts.forget(), parts.stores().audit, lambda _tenant: BY)


def sent(parts: Parts, streams: Streams, event: bytes) -> Entry:
    streams.add(parts.tenant, event, inbox=Inbox.REMOVALS)
    [entry] = streams.read(parts.tenant, "a reader", 1, Inbox.REMOVALS)
    return entry


def test_an_entry_makes_one_removal_however_often_it_is_read(
    parts: Parts, streams: Streams, reading: AcceptRemovalEntries
) -> None:
    parts.teach(picture("disc"), subject="ann")
    streams.add(parts.tenant, image_event(data=image_data(subject="ann")))
    entry = sent(parts, streams, removal_event())
    ended = [reading(parts.tenant, entry) for _ in range(2)]
    assert ended[0] == ended[1]
    assert ended[0] is not None
    assert (ended[0].result.status, ended[0].result.event_id) == (Status.ACCEPTED, "event-1")
    reading.removal_steps.resume_all()
    [done] = parts.removals.latest(parts.tenant).data
    assert (done.id, done.status, done.requested_by) == (ended[0].result.removal, RemovalStatus.DONE, BY.name)
    assert (done.images, done.queued) == (1, 1)
    lines = [line for line in reading.audit.latest(parts.tenant).data if line.outcome == "running"]
    assert [(line.by, line.removal) for line in lines] == [(BY.name, done.id)]
    assert streams.end(parts.tenant, [ended[0]], Inbox.REMOVALS) == 1
    assert streams.accepted_ids(parts.tenant) == [], "nothing of it is waited for"
    assert [said["removal"] for _, said in streams.results(parts.tenant) if "removal" in said] == [done.id]


def test_the_same_event_in_another_entry_is_another_removal(
    parts: Parts, streams: Streams, reading: AcceptRemovalEntries
) -> None:
    for _ in range(2):
        reading(parts.tenant, sent(parts, streams, removal_event()))
    assert len(parts.removals.latest(parts.tenant).data) == 2


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b"no event", Status.DEAD),
        (image_event(), Status.DEAD),
        (removal_event(data={"reason": "of nothing"}), Status.REJECTED),
        (removal_event(data={"filter": {"no field": "x"}, "reason": "asked to"}), Status.REJECTED),
    ],
)
def test_what_asks_for_nothing_ends(
    parts: Parts, streams: Streams, reading: AcceptRemovalEntries, event: bytes, status: Status
) -> None:
    ended = reading(parts.tenant, sent(parts, streams, event))
    assert ended is not None
    assert ended.result.status is status
    assert ended.result.reason
    assert parts.removals.latest(parts.tenant).data == []


def test_it_waits_where_the_records_do_not_answer(parts: Parts, streams: Streams) -> None:
    def fail() -> None:
        raise Unavailable("the records do not answer")

    parts.intake = StreamIntakeQueue(streams)
    database = Hooked(parts.database, before=Once("write", fail))
    reading = AcceptRemovalEntries(parts.forget(database=database), parts.stores().audit, lambda _tenant: BY)
    entry = sent(parts, streams, removal_event())
    assert reading(parts.tenant, entry) is None
    assert reading(parts.tenant, entry) is not None


class Reader:
    """A process that reads the stream of removals, with something in place of the use case."""

    def __init__(self, parts: Parts, streams: Streams) -> None:
        self._parts, self._streams = parts, streams
        self.seen: list[bytes] = []

    def send(self, *events: bytes) -> None:
        for event in events:
            self._streams.add(self._parts.tenant, event, inbox=Inbox.REMOVALS)

    def turn(self, name: str = "a", fails: Callable[[bytes], object] = lambda _event: None) -> float:
        """A turn of a process that starts and ends with it."""

        def read(_tenant: str, entry: Entry) -> Ended:
            fails(entry.event)
            self.seen.append(entry.event)
            return Ended(entry, Result(entry.id, Status.ACCEPTED, removal="an id"))

        turns = RemovalStreamReader(
            self._streams, Leases(self._parts.database), timedelta(seconds=30), lambda: read, name
        )
        return turns.read_round(self._parts.tenant)


@pytest.fixture
def reader(parts: Parts, streams: Streams) -> Reader:
    return Reader(parts, streams)


def test_entries_are_read_in_their_order_and_leave(parts: Parts, streams: Streams, reader: Reader) -> None:
    sent = [b"%d" % number for number in range(5)]
    reader.send(*sent)
    assert reader.turn() == 0
    assert reader.seen == sent
    assert streams.tenants_with_entries([parts.tenant], Inbox.REMOVALS) == set()
    assert [said["removal"] for _, said in streams.results(parts.tenant)] == ["an id"] * 5


def test_while_a_part_does_not_answer_all_wait_in_their_order(parts: Parts, streams: Streams, reader: Reader) -> None:
    def fail(_event: bytes) -> None:
        raise Unavailable("the records do not answer")

    reader.send(b"1", b"2")
    for _ in range(MAX_TRIES + 2):
        assert reader.turn(fails=fail) > 0
    assert reader.turn("another") == 0
    assert reader.seen == [b"1", b"2"]


def test_an_entry_that_cannot_be_handled_is_dead_in_the_end(parts: Parts, streams: Streams, reader: Reader) -> None:
    def fail(event: bytes) -> None:
        if event == b"1":
            raise RuntimeError

    reader.send(b"1", b"2")
    turns = [reader.turn(fails=fail) > 0 for _ in range(MAX_TRIES + 1)]
    assert turns == [True] * MAX_TRIES + [False]
    [letter] = streams.dead(parts.tenant)
    assert (letter.event, letter.inbox, reader.seen) == (b"1", Inbox.REMOVALS, [b"2"])


def test_a_stream_is_read_by_one_at_a_time(parts: Parts, reader: Reader) -> None:
    reader.send(b"1")
    with Leases(parts.database).held(resource(parts.tenant), timedelta(seconds=30)):
        assert reader.turn() > 0
    assert reader.seen == []
    assert reader.turn() == 0
    assert reader.seen == [b"1"]
