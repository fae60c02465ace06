"""Manage the users of the intake's Redis: each may access one key, with as few commands as possible.

A user has one role, because Redis 6.2 applies all permissions of a user to all its keys. What Redis cannot forbid is
limited to one tenant: a user who may send may also choose the id of an entry, or trim the stream.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from visual_memory.schemas.errors import Conflict, InvalidRequest, NotFound, Unavailable
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.redis_streams.stream_keys import StreamKeys

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_GLOB = re.compile(r"([*?\[\]\\])")


class Role(StrEnum):
    """The permissions of a user: send images, send removal requests, or read results."""

    SEND = "send"
    REMOVALS = "removals"
    RESULTS = "results"


_COMMANDS = {
    Role.SEND: ("+xadd", "+ping"),
    Role.REMOVALS: ("+xadd", "+ping"),
    Role.RESULTS: ("+xread", "+xrange", "+ping"),
}


@dataclass(frozen=True)
class StreamUser:
    """A user that may access one stream of one tenant.

    Attributes:
        stream: the full name of the key.
    """

    name: str
    tenant: str
    role: Role
    stream: str


@dataclass(frozen=True)
class NewUser:
    """A new user.

    Attributes:
        password: shown only once; Redis stores its SHA-256.
        unsaved: why the server will lose the user at its next start; None: it will not.
        rule: the line for the server's ACL file or configuration that preserves the user.
    """

    user: StreamUser
    password: str
    rule: str
    unsaved: str | None


class StreamUsers:
    """The users of the intake's Redis that were made for its streams; other users are ignored.

    Args:
        redis: a client of the intake's Redis, as a user that may manage others.
        keys: the names of its keys.
    """

    def __init__(self, redis: "Redis", keys: StreamKeys) -> None:
        self._redis: Any = redis  # its types speak of asynchronous clients too
        self._keys = keys

    def all(self) -> list[StreamUser]:
        """All users, sorted by name."""
        with _translated_errors():
            lines = self._redis.execute_command("ACL LIST")
        found = (self._read(line.decode() if isinstance(line, bytes) else line) for line in lines)
        return sorted((user for user in found if user), key=lambda user: user.name)

    def add(self, name: str, tenant: str, role: Role) -> NewUser:
        """Make a user, with a password of 256 random bits.

        Raises:
            InvalidRequest: the name is not valid.
            Conflict: the server has a user of this name.
            Unavailable: it does not answer, or does not let this service make users.
        """
        if not _NAME.fullmatch(name):
            raise InvalidRequest("a user's name has 1 to 64 of A-Z a-z 0-9 _ . -, and begins with a letter or digit")
        with _translated_errors():
            taken = {each.decode() if isinstance(each, bytes) else each for each in self._redis.acl_users()}
        if name in taken:
            raise Conflict(f"the intake's Redis has a user {name!r}: choose another name, or remove that one first")
        user, password = StreamUser(name, tenant, role, self._stream(role, tenant)), secrets.token_urlsafe(32)
        rules = _rules(user, sha256(password.encode()).hexdigest())
        with _translated_errors():
            self._redis.execute_command("ACL SETUSER", name, "reset", *rules)
        return NewUser(user, password, f"user {name} {' '.join(rules)}", self._save())

    def named(self, name: str) -> StreamUser:
        """The user with a name.

        Raises:
            NotFound: there is no such user of the streams.
        """
        user = next((each for each in self.all() if each.name == name), None)
        if user is None:
            raise NotFound(f"the intake has no user {name!r}: `visual-memory intake user list` shows them")
        return user

    def remove(self, name: str) -> str | None:
        """Delete a user and close its connections.

        Returns:
            why the server will have the user again after its next start; None: it will not.

        Raises:
            NotFound: there is no such user of the streams.
            Unavailable: the server does not answer, or does not let this service delete users.
        """
        self.named(name)
        with _translated_errors():
            self._redis.acl_deluser(name)
        return self._save()

    def _save(self) -> str | None:
        """Save the users in the server's ACL file; returns the error if that is not possible."""
        try:
            self._redis.acl_save()
        except ResponseError as error:
            return str(error)
        except (RedisError, OSError) as error:
            return kind(error)
        return None

    def _stream(self, role: Role, tenant: str) -> str:
        names = {
            Role.SEND: self._keys.intake,
            Role.REMOVALS: self._keys.removals,
            Role.RESULTS: self._keys.results,
        }
        return names[role](tenant)

    def _read(self, line: str) -> StreamUser | None:
        """The user of a line of ACL LIST; None if it has no stream, or more than one key."""
        _, name, *rules = line.split(" ")
        patterns = [rule for rule in rules if rule.startswith(("~", "%")) or rule == "allkeys"]
        if len(patterns) != 1:
            return None
        for role in Role:
            tenant = patterns[0].removeprefix(_pattern(self._stream(role, "")))
            if patterns[0] != tenant and patterns[0] == _pattern(self._stream(role, tenant)):
                return StreamUser(name, tenant, role, self._stream(role, tenant))
        return None


def _rules(user: StreamUser, digest: str) -> tuple[str, ...]:
    return ("on", f"#{digest}", _pattern(user.stream), "resetchannels", "-@all", *_COMMANDS[user.role])


def _pattern(key: str) -> str:
    """The pattern that matches exactly one key."""
    return "~" + _GLOB.sub(r"\\\1", key)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except NoPermissionError:
        raise Unavailable(
            "the intake's Redis does not let this service manage users: make them there, or let it run ACL"
        ) from None
    except ResponseError as error:  # quotes rules and names, but nothing that was sent
        raise Unavailable(f"the intake's Redis cannot manage users: {error}") from None
    except (RedisError, OSError) as error:
        raise Unavailable(f"the intake's Redis does not answer as it should: {kind(error)}") from error
