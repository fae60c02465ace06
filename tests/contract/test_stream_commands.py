"""The streams on a real Redis: every entry leaves once, with all that is said of it, whoever dies and however full."""

import stat
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from tests.support.intake_redis import PASSWORD, IntakeServer, intake_server
from tests.support.running_service import unique
from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.services.infrastructure.redis_streams.stream_commands import PAGE, Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Entry, Result, Status
from visual_memory.services.infrastructure.redis_streams.stream_keys import NOTHING, Inbox, StreamKeys, order


@pytest.fixture(scope="module")
def server() -> Iterator[IntakeServer]:
    with intake_server() as started:
        yield started


@pytest.fixture
def streams(server: IntakeServer) -> Streams:
    return server.streams()


@pytest.fixture
def tenant() -> str:
    return unique("t")


def ended(entry: Entry, status: Status, **said: str) -> Ended:
    return Ended(entry, Result(entry.id, status, **said))


def said(streams: Streams, tenant: str) -> list[dict[str, str]]:
    return [dict(fields) for _, fields in streams.results(tenant)]


def fill(streams: Streams) -> None:
    while True:
        streams.add("shop", bytes(300_000))


def test_entries_are_handed_out_once_and_in_order(streams: Streams, tenant: str) -> None:
    assert streams.last_id(tenant) == NOTHING
    ids = [streams.add(tenant, b"%d" % n) for n in range(5)]
    first = streams.read(tenant, "a", 3)
    assert [(each.id, each.event, each.deliveries) for each in first] == [(ids[n], b"%d" % n, 1) for n in range(3)]
    assert [each.id for each in streams.read(tenant, "b", 3)] == ids[3:]
    assert streams.read(tenant, "a", 3) == []
    assert streams.pending(tenant) == {"a": 3, "b": 2}
    assert streams.last_id(tenant) == ids[-1]


def test_the_next_owner_claims_all_that_has_not_left(streams: Streams, tenant: str) -> None:
    ids = [streams.add(tenant, b"%d" % n) for n in range(2 * PAGE + 1)]
    left = streams.read(tenant, "dead", 2)
    streams.read(tenant, "dead", 3 * PAGE)
    streams.end(tenant, [ended(each, Status.REMEMBERED) for each in left])
    claimed = streams.claim(tenant, "heir")
    assert [(each.id, each.deliveries) for each in claimed] == [(each, 2) for each in ids[2:]]
    assert [each.event for each in claimed[:2]] == [b"2", b"3"]
    assert streams.pending(tenant) == {"heir": len(ids) - 2}
    assert {each.deliveries for each in streams.claim(tenant, "heir")} == {3}


def test_what_was_deleted_meanwhile_is_claimed_by_nobody(streams: Streams, tenant: str, server: IntakeServer) -> None:
    ids = [streams.add(tenant, b"x") for _ in range(3)]
    streams.read(tenant, "dead", 3)
    server.client.xdel(server.keys.intake(tenant), ids[1])
    assert [each.id for each in streams.claim(tenant, "heir")] == [ids[0], ids[2]]
    assert streams.pending(tenant) == {"heir": 2}


def test_an_entry_ends_once(streams: Streams, tenant: str) -> None:
    streams.add(tenant, b"{}")
    [entry] = streams.read(tenant, "a", 1)
    [again] = streams.claim(tenant, "b")
    assert streams.end(tenant, [ended(again, Status.REMEMBERED, event_id="e1", image_id="i1")]) == 1
    assert streams.end(tenant, [ended(entry, Status.REJECTED, reason="too late")]) == 0
    assert said(streams, tenant) == [{"entry": entry.id, "id": "e1", "status": "remembered", "image_id": "i1"}]
    assert [*streams.dead(tenant)] == []
    assert streams.pending(tenant) == {}
    assert streams.tenants_with_entries([tenant]) == set()


def test_what_cannot_be_accepted_is_kept_with_its_reason(streams: Streams, tenant: str) -> None:
    streams.add(tenant, b'\xff\x00 "')
    [entry] = streams.read(tenant, "a", 1)
    reason = 'a "reason" with ü'
    streams.end(tenant, [ended(entry, Status.REJECTED, event_id="e", reason=reason)])
    [letter] = streams.dead(tenant)
    assert (letter.event, letter.reason, letter.entry, letter.event_id) == (b'\xff\x00 "', reason, entry.id, "e")
    assert (letter.status, letter.deliveries, letter.original, letter.inbox) == ("rejected", 1, entry.id, "intake")
    assert streams.drop_dead(tenant, [letter.id]) == 1
    assert [*streams.dead(tenant)] == []


def test_of_what_is_removed_nothing_is_kept(streams: Streams, tenant: str) -> None:
    streams.add(tenant, b"secret")
    [entry] = streams.read(tenant, "a", 1)
    streams.end(tenant, [ended(entry, Status.REMOVED)])
    assert [*streams.dead(tenant)] == []
    assert said(streams, tenant) == [{"entry": entry.id, "status": "removed"}]


def test_an_accepted_entry_is_settled_once(streams: Streams, tenant: str) -> None:
    streams.add(tenant, b"{}")
    [entry] = streams.read(tenant, "a", 1)
    images = (("i", "c"), ("i2", "c2"))
    streams.end(tenant, [replace(ended(entry, Status.ACCEPTED, event_id="e"), images=images)])
    [[held]] = streams.accepted(tenant)
    assert (held.entry, held.event_id, held.images, held.image_ids) == (entry.id, "e", images, ["i", "i2"])
    done = Result(entry.id, Status.REMEMBERED, "e", "i")
    assert [streams.resolve_accepted(tenant, [done]), streams.resolve_accepted(tenant, [done])] == [1, 0]
    assert [each["status"] for each in said(streams, tenant)] == ["accepted", "remembered"]
    assert [*streams.accepted(tenant)] == []


def test_an_entry_without_its_field_is_no_event(streams: Streams, tenant: str, server: IntakeServer) -> None:
    server.client.xadd(server.keys.intake(tenant), {"specversion": "1.0", "id": "ü"})
    [entry] = streams.read(tenant, "a", 1)
    assert entry.event == '[{"specversion": "1.0", "id": "ü"}]'.encode()


def test_what_is_replayed_stands_where_it_stood_first(streams: Streams, tenant: str) -> None:
    first = streams.add(tenant, b"1")
    position = streams.add(tenant, b"2")
    third = streams.add(tenant, b"3")
    streams.add(tenant, b"1 again", original=first)
    forged = streams.add(tenant, b"4", original="no id")
    older = [entry for page in streams.entries_up_to(tenant, position) for entry in page]
    assert [entry.event for entry in older] == [b"1", b"2", b"1 again"]
    assert [entry.position for entry in older] == [first, position, first]
    assert streams.claim(tenant, "a") == []
    assert [each.position for each in streams.read(tenant, "a", 9)] == [first, position, third, first, forged]


def test_entries_are_ordered_by_numbers() -> None:
    assert sorted(["10-0", "9-12", "9-2", "9"], key=order) == ["9", "9-2", "9-12", "10-0"]
    with pytest.raises(ValueError, match="not the id"):
        order("9-x")


def test_how_often_an_entry_was_begun_is_known_to_its_next_reader(streams: Streams, tenant: str) -> None:
    streams.add(tenant, b"x")
    [entry] = streams.read(tenant, "a", 1)
    assert [streams.count_attempt(tenant, entry.id) for _ in range(3)] == [1, 2, 3]
    streams.reset_attempts(tenant, entry.id)
    assert streams.count_attempt(tenant, entry.id) == 1
    streams.end(tenant, [ended(entry, Status.DEAD, reason="x")])
    assert streams.count_attempt(tenant, entry.id) == 1


def test_the_tenants_are_those_with_a_stream(server: IntakeServer) -> None:
    keys = StreamKeys("another.prefix")
    streams = Streams(server.client, keys)
    assert streams.tenants() == set()
    streams.add("shop", b"x")
    streams.add("shop-2", b"x", inbox=Inbox.REMOVALS)
    for other in ("another.prefix:intake:NO", "another.prefix:intake:a:b", "anotherxprefix:intake:b"):
        server.client.xadd(other, {"event": "x"})
    server.client.set("another.prefix:intake:text", "no stream")
    assert streams.tenants() == {"shop", "shop-2"}
    assert streams.tenants_with_entries({"shop", "shop-2", "none"}) == {"shop"}
    assert streams.tenants_with_entries({"shop", "shop-2"}, Inbox.REMOVALS) == {"shop-2"}
    streams.drop_tenant("shop")
    assert streams.tenants() == {"shop-2"}


def test_the_backlog_tells_entries_bytes_age_and_dead_letters(streams: Streams, tenant: str) -> None:
    assert streams.backlog(tenant) == replace(streams.backlog(tenant), entries=0, bytes=0, oldest_seconds=0, dead=0)
    for _ in range(20):
        streams.add(tenant, bytes(100_000))
    [dead] = streams.read(tenant, "a", 1)
    streams.end(tenant, [ended(dead, Status.DEAD, reason="x")])
    streams.add(tenant, b"a removal", inbox=Inbox.REMOVALS)
    backlog = streams.backlog(tenant)
    assert (backlog.entries, backlog.dead, backlog.removals) == (19, 1, 1)
    assert 1_500_000 < backlog.bytes < 3_000_000
    assert 0 <= backlog.oldest_seconds < 60


def test_results_are_capped(server: IntakeServer, tenant: str) -> None:
    streams = Streams(server.client, server.keys, max_results=100)
    streams.publish(tenant, (Result(f"{n}-1", Status.HELD) for n in range(1000)))
    assert 100 <= len(said(streams, tenant)) < 300


def test_what_was_taken_outlives_a_killed_server() -> None:
    with intake_server() as server:
        streams = server.streams()
        ids = [streams.add("shop", b"%d" % n) for n in range(200)]
        read = streams.read("shop", "a", 50)
        streams.end("shop", [ended(each, Status.REMEMBERED) for each in read[:20]])
        server.kill()
        with pytest.raises(Unavailable):
            streams.ping()
        server.start()
        assert [each.id for each in streams.claim("shop", "b")] == ids[20:50]
        assert [each.id for each in streams.read("shop", "b", 200)] == ids[50:]
        assert len(said(streams, "shop")) == 20
        streams.end("shop", [ended(each, Status.REMEMBERED) for each in streams.claim("shop", "b")])
        server.kill()
        server.start()
        assert streams.last_id("shop") == ids[-1], "positions outlive the entries"


def test_a_full_intake_refuses_entries_and_empties() -> None:
    with intake_server(max_bytes=16 * 2**20) as server:
        streams = server.streams()
        with pytest.raises(OutOfSpace, match="full"):
            fill(streams)
        entries = streams.read("shop", "a", 10)  # the group is made although it is full
        assert len(entries) == 10
        assert streams.count_attempt("shop", entries[0].id) == 1
        streams.end("shop", [ended(each, Status.ACCEPTED, image_id="i") for each in entries])
        assert len(streams.accepted_ids("shop")) == len(said(streams, "shop")) == 10
        streams.add("shop", bytes(300_000))


def test_nobody_enters_the_private_server_without_the_password_and_its_files_are_private() -> None:
    with intake_server() as server:
        with redis.Redis(unix_socket_path=server.socket) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        server.streams().add("shop", b"x")
        server.client.execute_command("ACL", "SETUSER", "camera", "on", ">x", "~visual-memory:intake:shop", "+xadd")
        server.client.execute_command("ACL", "SAVE")
        for path in (server.places.intake, *server.places.intake.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        server.kill()
        server.start()
        users = {line.split()[1] for line in map(bytes.decode, server.client.execute_command("ACL", "LIST"))}
        assert users == {"default", "visual-memory", "camera"}
        assert PASSWORD not in (server.places.intake / "users.acl").read_text()
        with redis.Redis(unix_socket_path=server.socket, username="camera", password="x") as camera:
            camera.xadd("visual-memory:intake:shop", {"event": "y"})
            with pytest.raises(redis.exceptions.NoPermissionError):
                camera.xadd("visual-memory:intake:shop2", {"event": "y"})
