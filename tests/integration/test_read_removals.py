"""A removal that is asked for by a stream is made once, and one that cannot be made stops no other."""

from collections.abc import Iterator

import pytest

from schemas.errors import Unavailable
from schemas.receipt import Requester
from schemas.removal import RemovalStatus
from services.intake.streams.older_entries import OlderEntries
from services.intake.streams.read_removals import ReadRemovals
from services.intake.streams.redis_streams import Streams
from services.intake.streams.stream_entries import Entry, Status
from services.intake.streams.stream_keys import Inbox
from tests.intake import intake_server
from tests.intake_events import image_data, image_event, removal_event
from tests.shapes import picture

from .support import Hooked, Once, Parts

BY = Requester(name="the stream of removals", key=None)


@pytest.fixture(scope="module")
def streams() -> Iterator[Streams]:
    with intake_server() as server:
        yield server.streams()


@pytest.fixture
def reading(parts: Parts, streams: Streams) -> ReadRemovals:
    parts.intake = OlderEntries(streams)
    return ReadRemovals(parts.forget(), parts.stores().audit, lambda _tenant: BY)


def sent(parts: Parts, streams: Streams, event: bytes) -> Entry:
    streams.add(parts.tenant, event, inbox=Inbox.REMOVALS)
    [entry] = streams.read(parts.tenant, "a reader", 1, Inbox.REMOVALS)
    return entry


def test_an_entry_makes_one_removal_however_often_it_is_read(
    parts: Parts, streams: Streams, reading: ReadRemovals
) -> None:
    parts.teach(picture("disc"), subject="ann")
    streams.add(parts.tenant, image_event(data=image_data(subject="ann")))
    entry = sent(parts, streams, removal_event())
    ended = [reading(parts.tenant, entry) for _ in range(2)]
    assert ended[0] == ended[1]
    assert ended[0] is not None
    assert (ended[0].result.status, ended[0].result.event_id) == (Status.ACCEPTED, "event-1")
    reading.forget.resume_all()
    [done] = parts.removals.latest(parts.tenant, 10)
    assert (done.id, done.status, done.requested_by) == (ended[0].result.removal, RemovalStatus.DONE, BY.name)
    assert (done.images, done.queued) == (1, 1)
    lines = [line for line in reading.audit.latest(parts.tenant, 10) if line.outcome == "running"]
    assert [(line.by, line.removal) for line in lines] == [(BY.name, done.id)]
    assert streams.end(parts.tenant, [ended[0]], Inbox.REMOVALS) == 1
    assert streams.accepted_ids(parts.tenant) == [], "nothing of it is waited for"
    assert [said["removal"] for _, said in streams.results(parts.tenant) if "removal" in said] == [done.id]


def test_the_same_event_in_another_entry_is_another_removal(
    parts: Parts, streams: Streams, reading: ReadRemovals
) -> None:
    for _ in range(2):
        reading(parts.tenant, sent(parts, streams, removal_event()))
    assert len(parts.removals.latest(parts.tenant, 10)) == 2


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
    parts: Parts, streams: Streams, reading: ReadRemovals, event: bytes, status: Status
) -> None:
    ended = reading(parts.tenant, sent(parts, streams, event))
    assert ended is not None
    assert ended.result.status is status
    assert ended.result.reason
    assert parts.removals.latest(parts.tenant, 10) == []


def test_it_waits_where_the_records_do_not_answer(parts: Parts, streams: Streams) -> None:
    def fail() -> None:
        raise Unavailable("the records do not answer")

    parts.intake = OlderEntries(streams)
    database = Hooked(parts.database, before=Once("write", fail))
    reading = ReadRemovals(parts.forget(database=database), parts.stores().audit, lambda _tenant: BY)
    entry = sent(parts, streams, removal_event())
    assert reading(parts.tenant, entry) is None
    assert reading(parts.tenant, entry) is not None
