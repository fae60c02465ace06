"""Promise 2: what waits in the intake and is older than a removal that it meets is taken, and never accepted."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import update

from tests.support.databases import SHORT, new_database
from tests.support.intake_events import image_data, image_event, removal_event, s3_notification, s3_record
from tests.support.intake_redis import PASSWORD, IntakeServer, intake_server
from tests.support.shape_pictures import picture
from tests.support.wired_service import TESTER, Killed, Parts
from visual_memory.schemas.errors import Blocked, Unavailable
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.removal import Removal, RemovalRequest, RemovalStatus
from visual_memory.services.infrastructure.processes.private_redis import prepare_intake
from visual_memory.services.infrastructure.records.tables import removals
from visual_memory.services.infrastructure.redis_streams.rewrite_log import DUMPS
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import Inbox
from visual_memory.services.intake.streams.find_covered_entries import StreamIntakeQueue
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.intake_contract import QueuedEntry, intake_resource
from visual_memory.services.removal.refused_intake_entries import RefusedEntries


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server() as started:
        yield started


@pytest.fixture
def streams(server: IntakeServer) -> Streams:
    return server.streams()


@pytest.fixture(params=SHORT)
def parts(request: pytest.FixtureRequest, memory: Memory, parts: Parts, streams: Streams) -> Iterator[Parts]:
    """On each database, over a real intake."""
    with new_database(request.param, parts.folder / "another") as database:
        yield Parts(parts.folder, memory, parts.pool, given=database, intake=StreamIntakeQueue(streams))


def event(name: str, content: bytes | None = None, **fields: Any) -> bytes:
    """An event of an image, with a content of its own."""
    return image_event(id=f"event of {name}", data=image_data(content or name.encode(), image_id=name, **fields))


def remove(parts: Parts, **request: Any) -> Removal:
    return parts.remove(RemovalRequest.model_validate({"reason": "asked to", **request}))


def waiting(streams: Streams, tenant: str) -> list[str]:
    return [each.id for page in streams.entries_up_to(tenant, streams.last_id(tenant)) for each in page]


def results(streams: Streams, tenant: str) -> list[tuple[str, str, str | None]]:
    return [(said["entry"], said["status"], said.get("image_id")) for _, said in streams.results(tenant)]


def test_what_meets_it_is_taken_and_counted_and_all_else_stays(parts: Parts, streams: Streams) -> None:
    ann = [streams.add(parts.tenant, event(f"ann-{n}", subject="ann")) for n in range(2)]
    bob = streams.add(parts.tenant, event("bob-0", subject="bob"))
    streams.read(parts.tenant, "a reader that died", 1)
    done = remove(parts, filter={"subject": "ann"})
    later = streams.add(parts.tenant, event("ann-2", subject="ann"))
    assert (done.status, done.images, done.queued) == (RemovalStatus.DONE, 0, 2)
    assert waiting(streams, parts.tenant) == [bob, later]
    assert results(streams, parts.tenant) == [(each, "removed", None) for each in ann]
    entry = parts.receipts.log.find_one(parts.tenant, done.id, Event.DONE)
    assert entry is not None
    assert parts.receipts.log.signer.read(entry.text).payload["queued"] == 2
    assert parts.verify()().faults == []


def test_what_came_after_it_was_asked_for_is_left(parts: Parts, streams: Streams) -> None:
    old = streams.add(parts.tenant, event("one", subject="ann"))
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})
    recorded = forget.request(parts.tenant, asked, TESTER)
    new = streams.add(parts.tenant, event("two", subject="ann"))
    assert forget.resume(parts.tenant, recorded.id).queued == 1
    assert waiting(streams, parts.tenant) == [new]
    assert refused(parts).refused_among(parts.tenant, [old, new]) == {old}


def refused(parts: Parts) -> RefusedEntries:
    return parts.stores().refused


def test_what_names_a_covered_image_goes_unless_it_says_otherwise(parts: Parts, streams: Streams) -> None:
    parts.teach(picture("disc"), image_id="ann-0", subject="ann")
    silent = streams.add(parts.tenant, event("ann-0", labels=["dog"]))
    told = streams.add(parts.tenant, event("ann-0", subject="bob"))
    assert remove(parts, filter={"subject": "ann"}).queued == 1
    assert waiting(streams, parts.tenant) == [told]
    assert [entry for entry, *_ in results(streams, parts.tenant)] == [silent]


def test_entries_that_name_the_same_image_go_together_and_so_does_the_image(parts: Parts, streams: Streams) -> None:
    parts.teach(picture("disc"), picture("bars"), image_id="x")
    streams.add(parts.tenant, event("x", labels=["dog"]))
    streams.add(parts.tenant, event("x", subject="ann"))
    done = remove(parts, filter={"subject": "ann"})
    assert (done.images, done.queued) == (1, 2), "its producer said before that it is ann's"
    assert parts.memory.images.count(parts.tenant) == 0
    assert waiting(streams, parts.tenant) == []


def test_an_image_that_came_later_under_the_id_of_a_taken_entry_stays(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("x", subject="ann"))
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})
    recorded = forget.request(parts.tenant, asked, TESTER)
    with parts.database.write() as connection:  # long ago
        early = recorded.requested_at - timedelta(minutes=1)
        connection.exec_driver_sql(f"UPDATE removals SET requested_at = '{early:%Y-%m-%d %H:%M:%S.%f}'")
    parts.teach(picture("disc"), image_id="x", subject="bob")
    done = forget.resume(parts.tenant, recorded.id)
    assert (done.images, done.queued) == (0, 1)
    assert parts.memory.images.count(parts.tenant) == 1


def test_everything_takes_everything(parts: Parts, streams: Streams) -> None:
    for each in (event("one"), b"no event", image_event(data=None), s3_notification(s3_record("cats/one.png"))):
        streams.add(parts.tenant, each)
    assert remove(parts, everything=True).queued == 4
    assert waiting(streams, parts.tenant) == []


def test_with_block_the_contents_of_what_was_taken_are_refused(parts: Parts, streams: Streams) -> None:
    content = picture("disc")
    streams.add(parts.tenant, event("one", content, labels=["cat"]))
    remove(parts, filter={"labels": "cat"}, block=True)
    with pytest.raises(Blocked):
        parts.send(content, labels=["dog"])
    assert refused(parts).covers(parts.tenant, "0-0", "one")
    assert not refused(parts).covers(parts.tenant, "0-0", sha256(content).hexdigest())


def test_overlapping_removals_both_count_what_both_meet(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("one", subject="ann", labels=["cat"]))
    forget = parts.forget()
    asked = [
        forget.request(parts.tenant, RemovalRequest.model_validate({"filter": each, "reason": "asked to"}), TESTER)
        for each in ({"subject": "ann"}, {"labels": "cat"})
    ]
    assert [forget.resume(parts.tenant, each.id).queued for each in asked] == [1, 1]


def test_one_that_is_asked_for_while_another_goes_through_counts_too(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("one", subject="ann", labels=["cat"]))
    other = RemovalRequest.model_validate({"filter": {"labels": "cat"}, "reason": "asked to"})
    asked = list[str]()

    class Slow(StreamIntakeQueue):
        def up_to(self, tenant: str, position: str) -> Iterator[Sequence[QueuedEntry]]:
            for page in super().up_to(tenant, position):
                if not asked:
                    asked.append(parts.forget().request(tenant, other, TESTER).id)
                yield page

    parts.intake = Slow(streams)
    assert remove(parts, filter={"subject": "ann"}).queued == 1
    assert parts.forget().resume(parts.tenant, asked[0]).queued == 1


def test_one_whose_filter_means_nothing_any_more_lets_others_go_on(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("one", subject="ann"))
    asked = RemovalRequest.model_validate({"filter": {"labels": "cat"}, "reason": "asked to"})
    parts.forget().request(parts.tenant, asked, TESTER)
    with parts.database.write() as connection:
        connection.execute(update(removals).values(filter={"metadata.gone": "x"}))
    assert remove(parts, filter={"subject": "ann"}).queued == 1
    assert len(parts.removals.undrained_positions(parts.tenant)) == 1, "nothing older is accepted until it is put right"


def test_dead_letters_and_results_go_too(parts: Parts, streams: Streams, server: IntakeServer) -> None:
    refused = removal_event(data={"filter": {"subject": "ánn"}, "reason": ""})
    hers, his = json.dumps(["Ánn"]).encode(), b"bob and bars"
    sent = {  # ids of another stream may be the same, or greater than a removal's position
        Inbox.INTAKE: {"1-1": event("one", subject="ann"), "2-1": hers, "3-1": his},
        Inbox.REMOVALS: {"1-1": refused, f"{2**60}-1": refused},
    }
    for inbox, events in sent.items():
        for entry_id, each in events.items():
            server.client.xadd(streams.keys.inbox(inbox, parts.tenant), {"event": each}, id=entry_id)
        dead = [*streams.read(parts.tenant, "a", 9, inbox)]
        ended = [Ended(each, Result(each.id, Status.DEAD, reason="as a test")) for each in dead]
        streams.end(parts.tenant, ended, inbox)
    kept = parts.teach(picture("disc"), image_id="bob-0", subject="bob")
    gone = parts.teach(picture("bars"), image_id="ann-0", subject="ánn")
    for image_id in (*kept, *gone):
        streams.add(parts.tenant, event(image_id))
        [entry] = streams.read(parts.tenant, "a", 1)
        streams.end(parts.tenant, [Ended(entry, Result(entry.id, Status.REMEMBERED, "id", image_id))])
    done = remove(parts, filter={"subject": ["ann", "ánn"]})
    assert [letter.event for letter in streams.dead(parts.tenant)] == [his]
    assert done.queued == 4
    assert [name for *_, name in results(streams, parts.tenant) if name] == kept


def test_an_erasure_leaves_nothing_of_it_in_the_files(parts: Parts, streams: Streams, server: IntakeServer) -> None:
    word = token_hex(16)
    for name in ("one", word, "two"):  # between others that stay
        for each in (name, f"dead {name}"):
            streams.add(parts.tenant, image_event(data=image_data(image_id=each)))
    for entry in streams.read(parts.tenant, "a", 9)[1::2]:
        named = word if word.encode() in entry.event else ""
        streams.end(parts.tenant, [Ended(entry, Result(entry.id, Status.DEAD, "id", named))])
    assert remove(parts, filter={"image_id": [word, f"dead {word}"]}).queued == 2
    intake = StreamIntakeQueue(streams)
    assert intake.erase_removed() == ""
    (server.places.intake / "temp-rewriteaof-bg-1.aof").write_text(word)  # as by a server that was killed
    prepare_intake(server.places, PASSWORD)  # as before the next one is started
    log = b"".join(path.read_bytes() for path in server.places.intake.rglob("*") if path.is_file())
    assert all([*streams.dead(parts.tenant)][place].event in log for place in (0, 1))
    assert word.encode() not in log
    server.client.config_set("aof-use-rdb-preamble", "yes")
    assert intake.erase_removed() == DUMPS
    server.client.config_set("aof-use-rdb-preamble", "no")


def test_an_accepted_entry_whose_image_goes_is_told_to_be_removed(parts: Parts, streams: Streams) -> None:
    [image] = parts.send(picture("disc"), subject="ann")
    streams.add(parts.tenant, event("one", subject="ann"))
    [entry] = streams.read(parts.tenant, "a", 1)
    accepted = Result(entry.id, Status.ACCEPTED, "id", image.image_id)
    streams.end(parts.tenant, [Ended(entry, accepted, ((image.image_id, "hash"),))])
    assert remove(parts, filter={"subject": "ann"}).queued == 0
    assert results(streams, parts.tenant)[-1] == (entry.id, "removed", None)
    assert streams.accepted_ids(parts.tenant) == []


def test_it_waits_for_a_reader_and_goes_on_when_that_has_left(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("one", subject="ann"))
    forget = replace(parts.forget(), sleep=lambda _seconds: None)
    asked = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})
    recorded = forget.request(parts.tenant, asked, TESTER)
    assert parts.removals.undrained_positions(parts.tenant) == [streams.last_id(parts.tenant)]
    reader = parts.removals.leases.acquire(intake_resource(parts.tenant), timedelta(minutes=1))
    assert reader is not None
    with pytest.raises(Unavailable):
        forget.resume(parts.tenant, recorded.id, timedelta(seconds=1))
    parts.removals.leases.release(reader)
    assert forget.resume(parts.tenant, recorded.id).queued == 1
    assert parts.removals.undrained_positions(parts.tenant) == []


class Mortal(StreamIntakeQueue):
    """Ends its process before or after entries leave."""

    before = True

    def remove(self, tenant: str, entries: Any) -> None:
        if not self.before:
            super().remove(tenant, entries)
        raise Killed


@pytest.mark.parametrize("before", [True, False])
def test_who_dies_counts_nothing_twice_and_leaves_nothing(parts: Parts, streams: Streams, before: bool) -> None:
    streams.add(parts.tenant, event("x", subject="ann"))
    streams.add(parts.tenant, event("x", labels=["dog"]))
    parts.intake = Mortal(streams)
    Mortal.before = before
    with suppress(Killed):
        remove(parts, filter={"subject": "ann"})
    parts.intake = StreamIntakeQueue(streams)
    parts.forget().resume_all()
    [done] = parts.removals.latest(parts.tenant, PageRequest(1)).data
    assert (done.status, done.queued) == (RemovalStatus.DONE, 2)
    assert waiting(streams, parts.tenant) == []


def test_where_the_intake_is_away_it_notes_its_end_later(parts: Parts, streams: Streams) -> None:
    class Away(StreamIntakeQueue):
        def last_position(self, _tenant: str) -> str:
            raise Unavailable("it does not answer")

    parts.intake = Away(streams)
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})
    recorded = forget.request(parts.tenant, asked, TESTER)
    assert parts.removals.undrained_positions(parts.tenant) == [None]
    with pytest.raises(Unavailable):
        forget.resume(parts.tenant, recorded.id)
    assert parts.removals.load(parts.tenant, recorded.id).removal.waits_for == "it does not answer"
    streams.add(parts.tenant, event("one", subject="ann"))
    parts.intake = StreamIntakeQueue(streams)
    assert parts.forget().resume(parts.tenant, recorded.id).queued == 1


def test_a_replayed_dead_letter_is_as_old_as_it_was(parts: Parts, streams: Streams) -> None:
    first = streams.add(parts.tenant, event("one", subject="ann"))
    streams.end(parts.tenant, [Ended(Entry(first, event("one", subject="ann")), Result(first, Status.DEAD))])
    forget = parts.forget()
    asked = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})
    recorded = forget.request(parts.tenant, asked, TESTER)
    [letter] = streams.dead(parts.tenant)
    streams.add(parts.tenant, letter.event, letter.original)
    streams.drop_dead(parts.tenant, [letter.id])
    assert forget.resume(parts.tenant, recorded.id).queued == 1
    assert waiting(streams, parts.tenant) == []
    assert refused(parts).refused_among(parts.tenant, [first]) == {first}


def test_nothing_of_what_was_taken_is_kept_by_name(parts: Parts, streams: Streams) -> None:
    streams.add(parts.tenant, event("a-name", subject="ann"))
    done = remove(parts, filter={"subject": "ann"})
    with parts.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT image_id FROM refused_entries").all()
    assert rows == [(None,)]
    assert not list(refused(parts).image_ids(done.id))
