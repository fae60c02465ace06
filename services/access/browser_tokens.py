"""Tokens of browsers, in place of an API key: cookies of sessions, and login links that open one session each.

A token is random, with 256 bits; only its SHA-256 is stored (see `services.access.api_keys`). It ends with its key,
when that is revoked or gets another secret.
"""

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, Table, delete, insert, select

from visual_memory.schemas.api_key import Key
from visual_memory.schemas.errors import NotAuthorized
from visual_memory.services.access import api_keys
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import keys, login_links, sessions

SESSION, SESSION_LIFETIME = "vms", timedelta(hours=12)
LOGIN_LINK, LOGIN_LINK_LIFETIME = "vml", timedelta(hours=1)
MAX_CACHED = 10_000


@dataclass(frozen=True)
class BrowserToken:
    """A valid token.

    Attributes:
        text: as the browser sends it.
        key: the API key that it stands for.
        expires_at: when it expires.
    """

    text: str
    key: Key
    expires_at: datetime


Found = Mapping[str, BrowserToken]
"""Valid tokens by their text."""


class BrowserTokens:
    """Tokens of one kind.

    Every method raises `schemas.errors.Unavailable` if the database does not answer.

    Args:
        database: the records' database.
        table: holds their digests.
        prefix: of their text.
        lifetime: after which they expire.
    """

    def __init__(self, database: Database, table: Table, prefix: str, lifetime: timedelta) -> None:
        self._database = database
        self._table = table
        self._prefix = prefix
        self._lifetime = lifetime
        self._pattern = re.compile(rf"{prefix}_[A-Za-z0-9_-]{{43}}")
        self._cached: dict[str, tuple[float, BrowserToken]] = {}

    def make(self, key: Key, within: Callable[[Connection], object] = lambda _: None) -> BrowserToken:
        """Make a token for a key; `within` is called in its transaction. Expired tokens are deleted."""
        text = f"{self._prefix}_{secrets.token_urlsafe(32)}"
        with self._database.write() as connection:
            moment = self._database.moment(connection)
            connection.execute(delete(self._table).where(self._table.c.expires_at <= moment))
            expires_at = moment + self._lifetime
            connection.execute(insert(self._table).values(digest=_digest(text), key=key.id, expires_at=expires_at))
            within(connection)
        return BrowserToken(text, key, expires_at)

    def look(self, texts: Collection[str]) -> Found:
        """Read the valid ones of these tokens with one query, and cache them."""
        by_digest = {_digest(text): text for text in texts if self._pattern.fullmatch(text)}
        if not by_digest:
            return {}
        read_at = time.monotonic()
        with self._database.read() as connection:
            moment = self._database.moment(connection)
            valid = (self._table.c.expires_at > moment) & keys.c.revoked_at.is_(None)
            query = select(keys, self._table.c.digest.label("token"), self._table.c.expires_at).join_from(
                self._table, keys, self._table.c.key == keys.c.id
            )
            rows = connection.execute(query.where(self._table.c.digest.in_(by_digest), valid)).all()
        found = {
            by_digest[row.token]: BrowserToken(by_digest[row.token], api_keys.key_of(row), row.expires_at)
            for row in rows
        }
        if len(self._cached) > MAX_CACHED:
            self._cached.clear()
        for text in by_digest.values():
            self._cached.pop(text, None)
        self._cached |= {text: (read_at, token) for text, token in found.items()}
        return found

    def at_hand(self, text: str) -> bool:
        """Whether `check` needs no query: the token is cached, or malformed."""
        return self._pattern.fullmatch(text) is None or self._fresh(text) is not None

    def check(self, text: str, looked: Found | None = None) -> BrowserToken:
        """The token with this text.

        Args:
            text: as it was sent.
            looked: the result of a `look`; None: use the cache or a query.

        Raises:
            NotAuthorized: it is unknown or expired, or its key is revoked.
        """
        found = looked.get(text) if looked is not None else self._fresh(text) or self.look([text]).get(text)
        if found is None:
            raise NotAuthorized("the session or login link is unknown, used or expired: log in with a key")
        return found

    def close(self, text: str) -> None:
        """End a token; as `end`, in a transaction of its own."""
        with self._database.write(urgent=True) as connection:
            self.end(connection, text)

    def end(self, connection: Connection, text: str) -> None:
        """End a token, in a transaction.

        Raises:
            NotAuthorized: it has ended already, as when a login link is used twice at the same time.
        """
        self._cached.pop(text, None)
        if not connection.execute(delete(self._table).where(self._table.c.digest == _digest(text))).rowcount:
            raise NotAuthorized("the session or login link has been used or ended: log in with a key")

    def _fresh(self, text: str) -> BrowserToken | None:
        cached = self._cached.get(text)
        return cached[1] if cached and time.monotonic() - cached[0] < api_keys.FRESH else None


def sessions_of(database: Database) -> BrowserTokens:
    """The cookies of sessions."""
    return BrowserTokens(database, sessions, SESSION, SESSION_LIFETIME)


def login_links_of(database: Database) -> BrowserTokens:
    """The tokens of login links, each of which opens one session."""
    return BrowserTokens(database, login_links, LOGIN_LINK, LOGIN_LINK_LIFETIME)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
