"""Users of the intake's Redis: each may do one thing with one key of one tenant, on a real server."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.running_service import new_folder, until
from visual_memory.schemas.errors import Conflict, InvalidRequest, NotFound
from visual_memory.services.infrastructure.processes.private_redis import find_redis_server
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys
from visual_memory.services.infrastructure.redis_streams.stream_users import NewUser, Role, StreamUsers

KEYS = StreamKeys("vm")
PREFIXES = ("a", "ab", "a-b", "a_b")
"""Tenants whose names are prefixes of each other, or differ by one character."""


class Server:
    """A Redis with users, in a file where `acl` names one."""

    def __init__(self, folder: Path, acl: Path | None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self._command = [str(find_redis_server()), *options, *(["--aclfile", str(acl)] if acl else [])]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self.admin: Any = redis.Redis(port=self.port)
        until(self._answers, "Redis' answer")

    def stop(self) -> None:
        self.admin.close()
        self._process.kill()
        self._process.wait()

    @property
    def users(self) -> StreamUsers:
        return StreamUsers(self.admin, KEYS)

    @contextmanager
    def as_user(self, new: NewUser) -> Iterator[Any]:
        with closing(redis.Redis(port=self.port, username=new.user.name, password=new.password)) as client:
            yield client

    def _answers(self) -> bool:
        try:
            return bool(self.admin.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_folder() as folder:
        (folder / "users.acl").touch()
        started = Server(folder, folder / "users.acl")
        yield started
        started.stop()


def refused(client: Any, *command: object) -> bool:
    """Whether Redis forbids a command."""
    try:
        client.execute_command(*command)
    except redis.exceptions.NoPermissionError:
        return True
    return False


def test_whoever_may_send_may_do_nothing_else(server: Server) -> None:
    stream = KEYS.intake("only")
    with server.as_user(server.users.add("sender", "only", Role.SEND)) as client:
        entry = client.xadd(stream, {"event": "{}"})
        assert client.ping()
        assert server.admin.xrange(stream) == [(entry, {b"event": b"{}"})]
        everything: list[tuple[object, ...]] = [
            ("KEYS", "*"),
            ("SCAN", 0),
            ("XTRIM", stream, "MAXLEN", 0),
            ("XREAD", "STREAMS", stream, 0),
            ("XRANGE", stream, "-", "+"),
            ("XDEL", stream, entry),
            ("XLEN", stream),
            ("XINFO", "STREAM", stream),
            ("XGROUP", "CREATE", stream, "mine", 0),
            ("XREADGROUP", "GROUP", "visual-memory", "me", "STREAMS", stream, ">"),
            ("XACK", stream, "visual-memory", entry),
            ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", 1, stream),
            ("DEL", stream),
            ("RENAME", stream, stream),
            ("COPY", stream, KEYS.intake("other")),
            ("MONITOR",),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("ACL", "WHOAMI"),
            ("FLUSHALL",),
            ("DEBUG", "OBJECT", stream),
            ("SUBSCRIBE", "any"),
            ("PUBLISH", "any", "thing"),
            ("CLIENT", "LIST"),
            ("SELECT", 1),
        ]
        assert [command for command in everything if not refused(client, *command)] == []
        for key in (KEYS.removals("only"), KEYS.results("only"), KEYS.dead("only"), KEYS.accepted("only")):
            assert refused(client, "XADD", key, "*", "event", "{}"), key
    assert server.admin.keys() == [stream.encode()]


@pytest.mark.parametrize("role", [Role.SEND, Role.REMOVALS])
def test_no_tenant_writes_to_another_whose_name_begins_or_ends_like_its_own(server: Server, role: Role) -> None:
    made = {tenant: server.users.add(f"{role}-{tenant}", tenant, role) for tenant in PREFIXES}
    for tenant, new in made.items():
        with server.as_user(new) as client:
            for other in made.values():
                assert refused(client, "XADD", other.user.stream, "*", "event", "{}") == (other is not new)
            for key in (f"{new.user.stream}*", new.user.stream[:-1], f"{new.user.stream}:x", f"{tenant}", "*"):
                assert refused(client, "XADD", key, "*", "event", "{}"), key


def test_whoever_reads_results_writes_and_sees_nothing_else(server: Server) -> None:
    for tenant in ("r", "rr"):
        server.admin.xadd(KEYS.results(tenant), {"status": "accepted"})
        server.admin.xadd(KEYS.intake(tenant), {"event": "secret"})
    with server.as_user(server.users.add("reader", "r", Role.RESULTS)) as client:
        [[_, [(_, said)]]] = client.xread({KEYS.results("r"): 0})
        assert said == {b"status": b"accepted"}
        assert len(client.xrange(KEYS.results("r"))) == 1
        for key in (KEYS.results("rr"), KEYS.intake("r"), KEYS.dead("r")):
            assert refused(client, "XREAD", "STREAMS", key, 0)
            assert refused(client, "XRANGE", key, "-", "+")
        assert refused(client, "XADD", KEYS.results("r"), "*", "status", "remembered")
        assert refused(client, "XTRIM", KEYS.results("r"), "MAXLEN", 0)


def test_users_are_listed_and_removed_and_others_are_left_alone(server: Server) -> None:
    users = server.users
    before = users.all()
    for name, rules in {"another": ("~other:*", "+@all"), "wide": (f"~{KEYS.intake('x')}", "~more", "+xadd")}.items():
        server.admin.execute_command("ACL SETUSER", name, "on", "nopass", *rules)
    new = users.add("listed", "tenant-1", Role.RESULTS)
    assert [user for user in users.all() if user not in before] == [new.user]
    assert (new.user.tenant, new.user.role, new.user.stream) == ("tenant-1", Role.RESULTS, "vm:results:tenant-1")
    for name in ("another", "wide", "default", "nobody"):
        with pytest.raises(NotFound):
            users.remove(name)
    for name in ("another", "default", "listed"):
        with pytest.raises(Conflict):
            users.add(name, "tenant-1", Role.SEND)
    for name in ("", "two words", "~*", "*", "a" * 65):
        with pytest.raises(InvalidRequest):
            users.add(name, "tenant-1", Role.SEND)
    with server.as_user(new) as client:
        assert client.ping()
        assert users.named("listed") == new.user
        assert users.remove("listed") is None
        with pytest.raises(redis.ConnectionError):  # its connection is closed, and it cannot log in again
            client.ping()
    assert users.all() == before


def test_users_outlive_the_server_where_it_has_a_file_of_them(server: Server) -> None:
    kept, gone = server.users.add("kept", "north", Role.SEND), server.users.add("gone", "north", Role.SEND)
    assert kept.unsaved is None
    server.users.remove("gone")
    server.stop()
    server.start()
    assert kept.user in server.users.all()
    assert gone.user not in server.users.all()
    with server.as_user(kept) as client:
        client.xadd(KEYS.intake("north"), {"event": "{}"})


def test_a_server_without_such_a_file_is_said_to_forget_them_and_takes_the_rule(short_folder: Path) -> None:
    server = Server(short_folder, None)
    try:
        new = server.users.add("forgotten", "north", Role.SEND)
        assert new.unsaved
        assert new.password not in new.rule
        assert server.users.remove("forgotten")
        server.stop()
        (short_folder / "users.acl").write_text(f"user default on nopass ~* &* +@all\n{new.rule}\n")
        server = Server(short_folder, short_folder / "users.acl")
        assert server.users.all() == [new.user]
        with server.as_user(new) as client:
            client.xadd(KEYS.intake("north"), {"event": "{}"})
    finally:
        server.stop()
