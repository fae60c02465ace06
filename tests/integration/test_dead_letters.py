"""Dead letters on a real Redis: seen page by page, put back as old as they were, dropped."""

from collections.abc import Iterator

import pytest

from tests.support.intake_redis import IntakeServer, intake_server
from tests.support.running_service import unique
from visual_memory.schemas.errors import InvalidCursor, InvalidRequest, OutOfSpace
from visual_memory.schemas.page import FIRST_PAGE, PageRequest
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Result, Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox
from visual_memory.services.intake.streams.dead_letters import MAX_BYTES, DeadLetters, subjects_of


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server() as started:
        yield started


@pytest.fixture
def streams(server: IntakeServer) -> Streams:
    return server.streams()


@pytest.fixture
def tenant() -> str:
    return unique("dead")


def kill(streams: Streams, tenant: str, event: bytes, inbox: Inbox = Inbox.INTAKE) -> str:
    """Send an event and let it die; the id that its entry had."""
    entry_id = streams.add(tenant, event, inbox=inbox)
    entries = {entry.id: entry for entry in streams.read(tenant, "reader", 100, inbox)}
    streams.end(tenant, [Ended(entries[entry_id], Result(entry_id, Status.DEAD, "e1", reason="a test"))], inbox)
    return entry_id


def test_a_dead_letter_is_seen_with_reason_and_original(streams: Streams, tenant: str) -> None:
    entry = kill(streams, tenant, b"\xff no event")
    [letter] = DeadLetters(streams).all(tenant)
    assert (letter.entry, letter.status, letter.reason, letter.event_id) == (entry, "dead", "a test", "e1")
    assert (letter.event, letter.bytes, letter.deliveries, letter.inbox) == ("\ufffd no event", 10, 1, "intake")
    assert abs(letter.at.timestamp() * 1000 - int(letter.id.partition("-")[0])) < 1
    assert [*DeadLetters(streams).all(unique("other"))] == []


def test_pages_are_bounded_by_number_and_by_bytes(streams: Streams, tenant: str) -> None:
    dead, large = DeadLetters(streams), b"x" * (MAX_BYTES // 5)
    entries = [kill(streams, tenant, event) for event in (b"1", b"2", b"3", *[large] * 7)]
    pages, cursor = list[list[str]](), None
    while not pages or cursor:
        page = dead.page(tenant, PageRequest(4, cursor), removals=True)
        pages.append([letter.entry for letter in page.data])
        cursor = page.next_cursor
    assert [entry for page in pages for entry in page] == entries[::-1]
    assert [len(page) for page in pages] == [4, 4, 2]
    first = dead.page(tenant, FIRST_PAGE, removals=True)
    assert sum(letter.bytes for letter in first.data) <= MAX_BYTES
    assert first.has_more
    with pytest.raises(InvalidCursor):
        dead.page(tenant, PageRequest(cursor="no cursor"), removals=True)


def test_requests_for_removals_are_seen_only_where_that_is_asked(streams: Streams, tenant: str) -> None:
    image, removal = kill(streams, tenant, b"{}"), kill(streams, tenant, b"{}", Inbox.REMOVALS)
    dead = DeadLetters(streams)
    asked = PageRequest(total=True)
    some, every = (dead.page(tenant, asked, removals=removals) for removals in (False, True))
    assert ([letter.entry for letter in some.data], some.total, some.total_is_estimate) == ([image], 2, True)
    assert ([letter.entry for letter in every.data], every.total, every.total_is_estimate) == (
        [removal, image],
        2,
        False,
    )


def test_what_is_put_back_is_a_new_entry_that_is_as_old_as_it_was(streams: Streams, tenant: str) -> None:
    dead, original = DeadLetters(streams), kill(streams, tenant, b"\xff")
    removal = kill(streams, tenant, b"r", Inbox.REMOVALS)
    position = streams.last_id(tenant)
    assert dead.replay(tenant, ["1-1"]) == {}
    replayed = dead.replay(tenant)
    assert [*dead.all(tenant)] == []
    [entry] = streams.read(tenant, "reader", 10)
    [asked] = streams.read(tenant, "reader", 10, Inbox.REMOVALS)
    assert [*replayed.values()] == [entry.id, asked.id]
    assert (entry.event, entry.original, entry.position) == (b"\xff", original, original)
    assert (asked.event, asked.position) == (b"r", removal)
    assert [each.id for page in streams.entries_up_to(tenant, position) for each in page] == [entry.id]

    streams.end(tenant, [Ended(entry, Result(entry.id, Status.DEAD, reason="again"))])
    [letter] = dead.all(tenant)
    assert dead.replay(tenant, [letter.id]) == {letter.id: streams.last_id(tenant)}
    [again] = streams.read(tenant, "reader", 10)
    assert again.position == original, "and stays so, however often it is put back"


def test_a_full_intake_keeps_dead_letters_that_cannot_be_put_back(
    server: IntakeServer, streams: Streams, tenant: str
) -> None:
    entry = kill(streams, tenant, b"{}")
    server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfSpace):
            DeadLetters(streams).replay(tenant)
        assert [letter.entry for letter in DeadLetters(streams).all(tenant)] == [entry]
    finally:
        server.client.config_set("maxmemory", server.settings.max_bytes)
    assert len(DeadLetters(streams).replay(tenant)) == 1


def test_dead_letters_are_dropped_by_id_or_all(streams: Streams, tenant: str) -> None:
    for _ in range(250):
        kill(streams, tenant, b"{}")
    dead = DeadLetters(streams)
    [first, *_] = [letter.id for letter in dead.all(tenant)]
    assert dead.drop(tenant, [first, "1-1"]) == 1
    assert first not in {letter.id for letter in dead.all(tenant)}
    with pytest.raises(InvalidRequest):
        dead.drop(tenant, ["*"])
    assert dead.drop(tenant) == 249
    assert [*dead.all(tenant)] == []


def test_whom_dead_letters_show_is_read_from_what_can_be_read(streams: Streams, tenant: str) -> None:
    for said in (b'{"subject": "Ann"}', b'{"subject": 7}', b'{"subject": ""}', b"{}", b"[]", b"null"):
        kill(streams, tenant, b'{"data": %s}' % said)
    for event in (b"[]", b"7", b"[" * 100_000):
        kill(streams, tenant, event)
    assert subjects_of(DeadLetters(streams).all(tenant)) == {"Ann"}
