"""API keys: make, list, revoke, rotate and check them.

Only the SHA-256 of a secret is stored. A slow salted hash protects passwords that people choose; a secret of 256 random
bits can be neither guessed nor tabulated, so a plain digest is safe and fast.
"""

import re
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from visual_memory.schemas.api_key import Key, KeyRequest, NewKey
from visual_memory.schemas.errors import NotAuthorized, NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import keys

FRESH = 1.0
"""Seconds for which a record is cached: a revoked key is accepted for at most that long."""
TEXT = re.compile(r"vm_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")

Found = Mapping[str, tuple[Key, str]]
"""Keys and the digests of their secrets, by id."""
Within = Callable[[Connection, Key], object]
"""Called in the transaction that changes a key."""


def _nothing_else(_connection: Connection, _key: Key) -> None:
    """The `Within` that does nothing."""


class ApiKeys:
    """The keys of all tenants, in the database that all machines share.

    Every method raises `schemas.errors.Unavailable` if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held: dict[str, tuple[float, tuple[Key, str]]] = {}

    def make(self, wanted: KeyRequest, within: Within = _nothing_else) -> NewKey:
        """Make a key; its text is returned and not stored."""
        key, secret = Key(**wanted.model_dump(), id=secrets.token_hex(6), created_at=now()), secrets.token_urlsafe(32)
        with self._database.write() as connection:
            connection.execute(insert(keys).values(**key.model_dump(), digest=_digest(secret)))
            within(connection, key)
        return NewKey(key=key, text=_text(key, secret))

    def all(self) -> list[Key]:
        """All keys, including revoked ones, the oldest first."""
        with self._database.read() as connection:
            return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))]

    def exist(self) -> bool:
        """Whether any key was ever made."""
        with self._database.read() as connection:
            return connection.execute(select(keys.c.id).limit(1)).first() is not None

    def revoke(self, key_id: str, within: Within = _nothing_else) -> Key:
        """Revoke a key permanently; every process refuses it within `FRESH` seconds.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write(urgent=True) as connection:
            still_open = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            connection.execute(update(keys).where(still_open).values(revoked_at=now()))
            revoked = _found(connection, key_id)
            within(connection, revoked)
        self._held.pop(key_id, None)
        return revoked

    def revoke_all(self) -> int:
        """Revoke all keys, as after a restore; returns how many were not revoked before."""
        with self._database.write(urgent=True) as connection:
            return connection.execute(update(keys).where(keys.c.revoked_at.is_(None)).values(revoked_at=now())).rowcount

    def rotate(self, key_id: str, within: Within = _nothing_else) -> NewKey:
        """Give a key a new secret; every process refuses the old one within `FRESH` seconds.

        Raises:
            NotFound: there is no such key, or it is revoked.
        """
        secret = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            still_open = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            changed = connection.execute(update(keys).where(still_open).values(digest=_digest(secret))).rowcount
            key = _found(connection, key_id)
            if not changed:
                raise NotFound(f"key {key_id} is revoked: make a new one")
            within(connection, key)
        self._held.pop(key_id, None)
        return NewKey(key=key, text=_text(key, secret))

    def look(self, texts: Collection[str]) -> Found:
        """Read the keys of these texts with one query, and cache them; unknown ids are not cached."""
        ids = {parsed[1] for text in texts if (parsed := TEXT.fullmatch(text))}
        read_at = time.monotonic()
        with self._database.read() as connection:
            rows = connection.execute(select(keys).where(keys.c.id.in_(ids))).all() if ids else []
        found = {row.id: (_key(row), str(row.digest)) for row in rows}
        for key_id in ids - found.keys():
            self._held.pop(key_id, None)
        self._held |= {key_id: (read_at, each) for key_id, each in found.items()}
        return found

    def at_hand(self, text: str) -> bool:
        """Whether `check` needs no query: the key is cached, or the text is malformed."""
        parsed = TEXT.fullmatch(text)
        return parsed is None or self._fresh(parsed[1]) is not None

    def check(self, text: str, looked: Found | None = None) -> Key:
        """The key of this text; an unknown id and a wrong secret take the same path, compared in constant time.

        Args:
            text: as it was sent.
            looked: the result of a `look`; None: use the cache or a query.

        Raises:
            NotAuthorized: the key is unknown, wrong or revoked.
        """
        parsed = TEXT.fullmatch(text)
        held = None
        if parsed:
            held = looked.get(parsed[1]) if looked is not None else self._fresh(parsed[1]) or self._looked(text)
        key, expected = held or (None, _digest(""))
        right = compare_digest(_digest(parsed[2] if parsed else ""), expected)
        if not right or key is None or key.revoked_at is not None:
            raise NotAuthorized("send a valid key as 'Authorization: Bearer KEY'; 'visual-memory keys make' makes one")
        return key

    def _looked(self, text: str) -> tuple[Key, str] | None:
        return next(iter(self.look([text]).values()), None)

    def _fresh(self, key_id: str) -> tuple[Key, str] | None:
        held = self._held.get(key_id)
        return held[1] if held and time.monotonic() - held[0] < FRESH else None


def _found(connection: Connection, key_id: str) -> Key:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).first()
    if row is None:
        raise NotFound(f"there is no key {key_id!r}; 'visual-memory keys list' shows them all")
    return _key(row)


def _key(row: Row[Any]) -> Key:
    return Key.model_validate({name: getattr(row, name) for name in Key.model_fields})


def _text(key: Key, secret: str) -> str:
    return f"vm_{key.id}_{secret}"


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
