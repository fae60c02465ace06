"""The reader over a real Redis, engine and database: each entry ends once, in order, whatever stands in its way."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import update

from tests.support.intake_events import image_data, image_event, s3_notification, s3_record
from tests.support.intake_redis import IntakeServer, intake_server
from tests.support.memory_images import reject
from tests.support.shape_pictures import picture
from tests.support.wired_service import KEY, TESTER, Hooked, Killed, Once, Parts
from visual_memory.schemas.errors import FetchFailed, FetchUnanswered, OutOfSpace, Unavailable, VisualMemoryError
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.infrastructure.records.resource_leases import Leases
from visual_memory.services.infrastructure.records.tables import leases as leases_table
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.intake.accept_pictures import AcceptPictures
from visual_memory.services.intake.accept_vectors import AcceptVectors
from visual_memory.services.intake.streams import pending_entries, publish_results, read_image_stream
from visual_memory.services.intake.streams.accept_image_entries import AcceptImageEntries
from visual_memory.services.intake.streams.publish_results import PublishResults
from visual_memory.services.intake.streams.read_image_stream import MAX_TRIES, ImageStreamReader
from visual_memory.services.removal.intake_contract import intake_resource
from visual_memory.services.removal.refused_intake_entries import RefusedEntries, RefusedEntry
from visual_memory.services.removal.tombstones import Tombstones

DURATION = timedelta(seconds=30)


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server() as started:
        yield started


@dataclass
class Intake:
    """A tenant's stream, and readers of it."""

    parts: Parts
    streams: Streams
    positions: list[str | None] = field(default_factory=list)
    found: dict[str, bytes | VisualMemoryError] = field(default_factory=dict)

    @property
    def tenant(self) -> str:
        return self.parts.tenant

    @property
    def leases(self) -> Leases:
        return Leases(self.parts.database)

    @property
    def refused(self) -> RefusedEntries:
        return RefusedEntries(self.parts.database, Tombstones(self.parts.database, KEY))

    def send(self, event: bytes | None = None, picture: bytes | None = None, **said: Any) -> str:
        """Put an event on the stream as any producer does."""
        if event is None:
            event = image_event(id=said.pop("id", "e"), data=image_data(picture, **said))
        return self.streams.add(self.tenant, event)

    def reader(
        self, memory: object = None, name: str = "a", pictures: object = None, **given: Any
    ) -> ImageStreamReader:
        """A reader's process; `given` exchanges what it is made of."""
        accept = cast(AcceptPictures, given.pop("accept", None) or self.parts.accept(memory=memory, pictures=pictures))
        vectors = AcceptVectors(
            self.parts.accept(memory=memory, pictures=pictures).put, self.parts.memory, self.parts.encoder.name
        )
        entries = AcceptImageEntries(accept, vectors, self._references, AuditLog(self.parts.database, KEY))
        named = {
            "streams": self.streams,
            "leases": self.leases,
            "duration": DURATION,
            "accept": lambda: entries,
            "undrained": lambda _: self.positions,
            "refused": self.refused,
            "consumer": name,
        }
        return ImageStreamReader(**{**named, **given})

    def read(self, **given: Any) -> float:
        """A turn of a process that starts and ends with it."""
        return self.reader(**given).read_round(self.tenant)

    def settle(self) -> int:
        return PublishResults(self.streams, lambda: self.parts.memory)(self.tenant)

    def said(self) -> list[tuple[str, str]]:
        """Event ids and what was said of each."""
        return [(said.get("id", ""), said["status"]) for _, said in self.streams.results(self.tenant)]

    def results(self, status: str) -> list[dict[str, str]]:
        found = (dict(said) for _, said in self.streams.results(self.tenant))
        return [said for said in found if said["status"] == status]

    def waiting(self) -> int:
        return self.streams.backlog(self.tenant).entries

    def images(self) -> dict[str, StoredImage]:
        page, _ = self.parts.memory.images.page(self.tenant, [], 1000, None)
        return {image.image_id: image for image in page}

    def _references(self, tenant: str, urls: Sequence[str]) -> list[bytes | VisualMemoryError]:
        assert tenant == self.tenant
        return [self.found.get(url, FetchFailed("there is nothing")) for url in urls]


@pytest.fixture
def intake(parts: Parts, server: IntakeServer, monkeypatch: pytest.MonkeyPatch) -> Intake:
    monkeypatch.setattr(pending_entries, "pause_after", lambda _tries: 0.0)
    return Intake(parts, server.streams())


def test_pictures_become_images_in_one_write(intake: Intake) -> None:
    calls: list[str] = []
    for n in range(20):
        intake.send(id=f"e{n}", picture=picture("disc"), image_id=f"i{n}", source="camera")
    intake.read(memory=Hooked(intake.parts.memory, calls.append))
    assert calls.count("put") == 1
    assert {image.state for image in intake.images().values()} == {State.WAITING}
    assert intake.said() == [(f"e{n}", "accepted") for n in range(20)]
    assert (intake.waiting(), intake.streams.pending(intake.tenant)) == (0, {})
    assert intake.settle() == 0
    intake.parts.work()
    assert intake.settle() == 20
    assert intake.settle() == 0
    assert sorted(intake.said()[20:]) == sorted((f"e{n}", "remembered") for n in range(20))
    assert intake.results("remembered")[0]["image_id"] in intake.images()
    assert intake.images()["i3"].source == "camera"


def test_vectors_are_remembered_at_once(intake: Intake) -> None:
    size = intake.parts.encoder.dimension
    for n in range(3):
        vector = [0.0] * size
        vector[n] = 1.0
        data = image_data(None, vector=vector, encoder=intake.parts.encoder.name)
        intake.send(image_event(id=f"v{n}", data=data))
    intake.send(image_event(id="other", data=image_data(None, vector=[1.0, 2.0], encoder=intake.parts.encoder.name)))
    intake.send(image_event(id="huge", data=image_data(None, vector=[1e300] * size, encoder="pixels")))
    intake.read()
    assert sorted(intake.said()) == [
        ("huge", "rejected"),
        ("other", "rejected"),
        *((f"v{n}", "remembered") for n in range(3)),
    ]
    assert {image.state for image in intake.images().values()} == {State.REMEMBERED}


def test_what_is_no_event_is_dead_and_stops_nothing(intake: Intake, server: IntakeServer) -> None:
    for event in (b"", b"{", b"[]", b'{"specversion": "1.0"}', bytes(10)):
        intake.send(event)
    server.client.xadd(intake.streams.keys.intake(intake.tenant), {"a": b"\xff" * 900_000, "b": b"b" * 900_000})
    intake.send(id="bad field", picture=picture("disc"), labels=[])
    intake.send(id="good", picture=picture("disc"))
    intake.read()
    assert intake.said().count(("", "dead")) == 6
    assert {*intake.said()} == {("", "dead"), ("bad field", "rejected"), ("good", "accepted")}
    letters = [*intake.streams.dead(intake.tenant)]
    assert sorted(letter.status for letter in letters) == ["dead"] * 6 + ["rejected"]
    assert all(letter.reason for letter in letters)
    assert letters[0].event == b""


def test_a_bad_picture_among_many_is_rejected_alone(intake: Intake) -> None:
    for n in range(30):
        intake.send(id=f"e{n}", picture=b"no picture" if n == 17 else picture("disc"), image_id=f"i{n}")
    intake.read()
    assert sorted(intake.said()) == sorted((f"e{n}", "rejected" if n == 17 else "accepted") for n in range(30))
    [letter] = intake.streams.dead(intake.tenant)
    assert (letter.event_id, b"bm8gcGljdHVyZQ==" in letter.event) == ("e17", True)
    assert letter.reason, "a sentence that does not speak of other pictures"
    assert "of 30" not in letter.reason
    assert len(intake.images()) == 29


def test_entries_of_an_image_count_in_their_order(intake: Intake) -> None:
    first, second = picture("disc"), picture("bars")
    intake.send(picture=first, image_id="one", labels=["dog"], subject="ann")
    intake.send(picture=b"broken", image_id="one")
    intake.send(picture=second, image_id="one", labels=["cat"])
    intake.send(picture=second, image_id="one", labels=["bird"])
    intake.read()
    [image] = intake.images().values()
    assert (image.labels, image.subject) == (["bird"], "ann")
    assert image.content_hash == hashlib.sha256(second).hexdigest()
    intake.parts.work()
    intake.settle()
    assert [said["status"] for _, said in intake.streams.results(intake.tenant)].count("remembered") == 3
    replaced = [said for said in intake.results("remembered") if "reason" in said]
    assert [said["reason"] for said in replaced] == ["another picture has replaced it since"]


def test_what_is_sent_twice_is_one_image(intake: Intake) -> None:
    same = picture("disc")
    for _ in range(2):
        intake.send(picture=same)
        intake.read()
    intake.parts.work()
    intake.settle()
    intake.send(picture=same)
    intake.read()
    assert len(intake.images()) == 1
    assert [status for _, status in intake.said()] == ["accepted"] * 2 + ["remembered"] * 3


def test_however_many_were_accepted_each_is_settled_once(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_results, "AT_ONCE", 2)
    settle, other = (PublishResults(intake.streams, lambda: intake.parts.memory) for _ in range(2))
    for n in range(5):
        intake.send(id=f"e{n}", picture=picture("disc"), image_id=f"i{n}")
    intake.read()
    assert settle(intake.tenant) == 0
    intake.parts.memory.writes.delete(intake.parts.held("i0", "i1", "i2"))
    assert other(intake.tenant) == 3
    intake.parts.work()
    assert settle(intake.tenant) == 2
    assert [event for event, status in intake.said() if status != "accepted"] == [f"e{n}" for n in range(5)]


def test_what_the_worker_rejects_is_said_and_what_was_removed_too(intake: Intake) -> None:
    intake.send(id="a", picture=picture("disc"), image_id="one")
    intake.send(id="b", picture=picture("disc"), image_id="two")
    intake.send(id="c", picture=picture("disc"), image_id="three")
    intake.read()
    reject(intake.parts.memory, intake.parts.held("one")[0], "a reason")
    intake.parts.memory.writes.delete(intake.parts.held("two"))
    assert intake.settle() == 2
    assert intake.results("rejected")[0]["reason"] == "a reason"
    assert "image_id" not in intake.results("removed")[0]
    assert len(intake.streams.accepted_ids(intake.tenant)) == 1


def test_a_reader_that_is_killed_leaves_all_to_the_next(intake: Intake) -> None:
    ids = {f"i{n}" for n in range(10)}
    for each in sorted(ids):
        intake.send(id=each, picture=picture("disc"), image_id=each)
    for step in ("put", "get"):
        with pytest.raises(Killed):
            intake.read(memory=Hooked(intake.parts.memory, after=Once(step, kill)), name=step)
        end_leases(intake)
    assert intake.waiting() == 10
    intake.read(name="heir")
    assert intake.images().keys() == ids
    assert sorted(intake.said()) == sorted((each, "accepted") for each in ids)
    assert intake.streams.pending(intake.tenant) == {}


def kill() -> None:
    raise Killed


def end_leases(intake: Intake) -> None:
    """Those of readers that are gone end by themselves after a while."""
    with intake.parts.database.write() as connection:
        moment = intake.parts.database.moment(connection)
        connection.execute(update(leases_table).values(until=moment - timedelta(seconds=1)))


def test_an_entry_that_ends_its_readers_is_dead_in_the_end_and_the_others_are_in(intake: Intake) -> None:
    deadly = picture("disc")

    class Deadly(Decoder):
        def check(self, tenant: str, pictures: Sequence[bytes], *given: Any) -> None:
            if deadly in pictures:
                raise Killed
            intake.parts.decoder.check(tenant, pictures, *given)

    decoder = Deadly(intake.parts.decoder.sandbox, intake.parts.pool)
    accept = replace(intake.parts.accept(), decoder=decoder)
    for n in range(8):
        intake.send(id=f"e{n}", picture=deadly if n == 3 else picture("bars"), image_id=f"i{n}")
    lives = 0
    while intake.waiting():
        lives += 1
        try:
            intake.read(accept=accept, name=f"life-{lives}")
        except Killed:
            end_leases(intake)
    assert lives == 1 + MAX_TRIES + 1
    assert sorted(intake.said()) == sorted((f"e{n}", "dead" if n == 3 else "accepted") for n in range(8))
    [letter] = intake.streams.dead(intake.tenant)
    assert letter.reason == f"its reader ended {MAX_TRIES} times while it was at this entry"


@pytest.mark.parametrize(("step", "error"), [("put", Unavailable), ("write_many", OutOfSpace)])
def test_while_the_store_or_the_disk_takes_nothing_nothing_is_read_and_nothing_is_lost(
    intake: Intake, step: str, error: type[Unavailable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_image_stream, "MAX_ENTRIES", 64)
    for n in range(100):
        intake.send(id=f"e{n}", picture=picture("disc"), image_id=f"i{n}")

    def fail(name: str) -> None:
        if name == step and failing:
            raise error("it is gone, or full")

    failing = [True]
    parts = intake.parts
    reader = intake.reader(memory=Hooked(parts.memory, fail), pictures=Hooked(parts.stores().pictures, fail))
    pauses = [reader.read_round(intake.tenant) for _ in range(6)]
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0]
    assert intake.streams.pending(intake.tenant) == {"a": 64}
    assert intake.said() == []
    failing.clear()
    while intake.waiting():
        reader.read_round(intake.tenant)
    assert len(intake.images()) == 100
    assert sorted(intake.said()) == sorted((f"e{n}", "accepted") for n in range(100))


def test_what_a_running_removal_holds_up_waits_and_what_comes_behind_it_goes_on(intake: Intake) -> None:
    intake.send(id="older", picture=picture("disc"), image_id="one")
    position = intake.send(id="older too", picture=picture("disc"))
    behind = picture("bars")
    intake.send(id="behind", picture=behind, image_id="one")
    intake.send(id="free", picture=picture("bars"), image_id="two")
    intake.positions = [position]
    reader = intake.reader()
    assert reader.read_round(intake.tenant) > 0, "the removal has its turn"
    reader.read_round(intake.tenant)
    assert intake.images().keys() == {"two"}
    assert sorted(intake.said()) == [("", "held")] * 2 + [("behind", "held"), ("free", "accepted")]
    intake.positions = [None]
    last = intake.send(id="later", picture=picture("disc"), image_id="three")
    reader.read_round(intake.tenant)
    assert len(intake.images()) == 1, "nobody knows yet what is older"
    intake.positions = ["0-0"]
    reader.read_round(intake.tenant)
    assert len(intake.images()) == 4
    assert intake.images()["one"].content_hash == hashlib.sha256(behind).hexdigest()
    assert [each["entry"] for each in intake.results("held")].count(last) == 1
    assert intake.waiting() == 0


def test_a_removal_that_comes_between_the_look_and_the_write_holds_it_up(intake: Intake) -> None:
    older = intake.send(id="older", picture=picture("disc"), image_id="one")
    intake.send(id="newer", picture=picture("disc"), image_id="two")
    race = Once("get", lambda: intake.positions.append(older))
    reader = intake.reader(memory=Hooked(intake.parts.memory, race))
    reader.read_round(intake.tenant)
    assert intake.images().keys() == {"two"}
    assert intake.parts.files() == {path for path in intake.parts.files() if path.exists()}
    assert len(intake.parts.files()) == 1
    assert intake.waiting() == 1


def test_a_removal_that_comes_after_the_write_finds_the_entry_where_it_was(intake: Intake) -> None:
    entry = intake.send(id="older", picture=picture("disc"), image_id="one")
    race = Once("put", lambda: intake.positions.append(entry))
    intake.read(memory=Hooked(intake.parts.memory, after=race))
    assert intake.waiting() == 1
    assert intake.said() == []


def test_what_a_removal_took_is_never_accepted(intake: Intake) -> None:
    taken = intake.send(id="a", picture=picture("disc"), subject="ann")
    intake.send(id="b", picture=picture("disc"), subject="bob")
    refuse(intake, taken)
    intake.read()
    assert [image.subject for image in intake.images().values()] == ["bob"]
    assert [said["entry"] for said in intake.results("removed")] == [taken]
    assert [*intake.streams.dead(intake.tenant)] == []


def test_who_stood_still_while_a_removal_took_its_entry_takes_back_what_it_wrote(intake: Intake) -> None:
    entry = intake.send(id="a", picture=picture("disc"), subject="ann")

    def overtake() -> None:
        end_leases(intake)
        assert intake.leases.acquire(intake_resource(intake.tenant), DURATION)
        refuse(intake, entry)

    intake.read(memory=Hooked(intake.parts.memory, after=Once("put", overtake)))
    assert intake.images() == {}
    assert intake.parts.files() | intake.parts.pixels() == set()


def test_who_stood_still_while_another_read_on_leaves_what_that_one_found(intake: Intake) -> None:
    intake.send(id="a", picture=picture("disc"), image_id="one")

    def overtake() -> None:
        end_leases(intake)
        intake.read(name="b")

    intake.read(memory=Hooked(intake.parts.memory, after=Once("put", overtake)))
    assert intake.images().keys() == {"one"}
    assert intake.said() == [("a", "accepted")]


def refuse(intake: Intake, position: str) -> None:
    """Let a removal have taken an entry."""
    removal = intake.parts.forget().request(
        intake.tenant, RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "x"}), TESTER
    )
    with intake.parts.database.write() as connection:
        intake.refused.add(connection, intake.tenant, removal.id, [RefusedEntry(position, None)])


def test_what_is_blocked_is_refused_as_removed_and_not_kept(intake: Intake) -> None:
    intake.parts.block("subject", "ann")
    intake.send(id="a", picture=picture("disc"), subject="ann")
    intake.send(id="b", picture=picture("disc"))
    intake.read()
    assert sorted(intake.said()) == [("a", "removed"), ("b", "accepted")]
    assert [*intake.streams.dead(intake.tenant)] == []


def test_pictures_are_read_where_they_lie(intake: Intake) -> None:
    data = {f"https://host/{n}": picture("disc") for n in range(10)}
    intake.found |= {**data, "https://host/3": FetchFailed("it is gone"), "https://host/4": FetchUnanswered("later")}
    for n in range(10):
        intake.send(image_event(id=f"e{n}", dataref=f"https://host/{n}", data=image_data(None, image_id=f"i{n}")))
    intake.send(id="behind", picture=picture("bars"), image_id="i4")
    reader = intake.reader()
    reader.read_round(intake.tenant)
    assert ("e3", "rejected") in intake.said()
    assert intake.waiting() == 2, "the picture that may come later, and what comes behind it"
    intake.found |= data
    reader.read_round(intake.tenant)
    assert intake.waiting() == 0
    assert intake.said()[-2:] == [("e4", "accepted"), ("behind", "accepted")]
    assert len(intake.images()) == 9


def test_a_picture_that_never_comes_is_dead_in_the_end(intake: Intake) -> None:
    intake.found["https://host/1"] = FetchUnanswered("the host does not answer")
    intake.send(image_event(id="e", dataref="https://host/1", data=image_data(None)))
    reader, turns = intake.reader(), 0
    while intake.waiting():
        turns += 1
        reader.read_round(intake.tenant)
    assert turns == 1 + MAX_TRIES + 1
    [letter] = intake.streams.dead(intake.tenant)
    assert (letter.reason, letter.status) == ("the host does not answer", "dead")


def test_what_an_object_store_notifies_is_one_entry_of_several_images(intake: Intake) -> None:
    intake.found |= {"s3://pictures/cat/1.png": picture("disc"), "s3://pictures/dog/2.png": picture("bars")}
    intake.send(s3_notification(s3_record("cat/1.png"), s3_record("dog/2.png")))
    intake.read()
    assert sorted(image.labels[0] for image in intake.images().values()) == ["cat", "dog"]
    intake.parts.work()
    assert intake.settle() == 1
    assert [status for _, status in intake.said()] == ["accepted", "remembered"]


def test_two_readers_of_a_stream_have_it_in_turn(intake: Intake) -> None:
    for n in range(3):
        intake.send(id=f"e{n}", picture=picture("disc"))
    lease = intake.leases.acquire(intake_resource(intake.tenant), DURATION)
    assert lease is not None
    assert intake.read() > 0
    assert intake.images() == {}
    intake.leases.release(lease)
    intake.read(name="b")
    assert len(intake.images()) == 3


def test_an_error_that_nobody_foresaw_costs_its_entry_alone(intake: Intake) -> None:
    odd = picture("disc")

    class Odd(Decoder):
        def check(self, tenant: str, pictures: Sequence[bytes], *given: Any) -> None:
            if odd in pictures:
                raise RuntimeError("secret words")
            intake.parts.decoder.check(tenant, pictures, *given)

    accept = replace(intake.parts.accept(), decoder=Odd(intake.parts.decoder.sandbox, intake.parts.pool))
    for n in range(5):
        intake.send(id=f"e{n}", picture=odd if n == 2 else picture("bars"), image_id=f"i{n}")
    reader = intake.reader(accept=accept)
    while intake.waiting():
        reader.read_round(intake.tenant)
    assert sorted(intake.said()) == sorted((f"e{n}", "dead" if n == 2 else "accepted") for n in range(5))
    [letter] = intake.streams.dead(intake.tenant)
    assert letter.reason == "it could not be handled: RuntimeError"


def test_who_is_told_to_end_leaves_the_rest(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_image_stream, "MAX_ENTRIES", 64)
    for n in range(70):
        intake.send(id=f"e{n}", picture=picture("disc"), image_id=f"i{n}")
    told = Once("put", lambda: None)
    reader = intake.reader(memory=Hooked(intake.parts.memory, after=told), is_stopping=lambda: told.called)
    reader.read_round(intake.tenant)
    reader.leave()
    assert len(intake.images()) == 64
    intake.read(name="heir")
    assert len(intake.images()) == 70


def test_what_is_accepted_is_in_the_audit_log(intake: Intake) -> None:
    intake.send(picture=picture("disc"))
    intake.send(picture=b"broken")
    intake.read()
    lines = AuditLog(intake.parts.database, KEY).latest(intake.tenant).data
    assert {(line.by, line.action, line.images, line.outcome) for line in lines} == {
        ("intake", "accept", 1, "done"),
        ("intake", "accept", 1, "invalid_picture"),
    }
