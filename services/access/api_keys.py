"""API keys: make, list, revoke, rotate and check them.

Only the SHA-256 of a secret is stored. A slow salted hash protects passwords that people choose; a secret of 256 random
bits can be neither guessed nor tabulated, so a plain digest is safe and fast.
"""

import hmac
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from visual_memory.schemas.api_key import Key, KeyRequest, NewKey
from visual_memory.schemas.errors import NotAuthorized, NotFound
from visual_memory.schemas.moments import now
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import keys, login_links, sessions

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

    def make(self, wanted: KeyRequest, within: Within = _nothing_else, secret: str | None = None) -> NewKey:
        """Make a key; its text is returned and not stored.

        Args:
            wanted: the key.
            within: called in its transaction.
            secret: 43 characters of base64url, of 256 bits that nobody can guess; None: random ones.
        """
        key = Key(**wanted.model_dump(), id=secrets.token_hex(6), created_at=now())
        secret = secret or secrets.token_urlsafe(32)
        with self._database.write() as connection:
            connection.execute(insert(keys).values(**key.model_dump(), digest=_digest(secret)))
            within(connection, key)
        return NewKey(key=key, text=_text(key, secret))

    def all(self, tenant: str | None = None) -> list[Key]:
        """All keys, or those of a tenant, including revoked ones, the oldest first."""
        query = select(keys).order_by(keys.c.created_at, keys.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query if tenant is None else query.where(keys.c.tenant == tenant))
            return [key_of(row) for row in rows]

    def load(self, key_id: str, tenant: str | None = None) -> Key:
        """The key with this id, revoked or not.

        Args:
            key_id: its id.
            tenant: the tenant that it must belong to; None: any.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.read() as connection:
            return _found(connection, key_id, tenant)

    def with_secret(self, key_id: str, secret: str) -> NewKey | None:
        """A key with its text; None if it is revoked, or does not have this secret any more."""
        with self._database.read() as connection:
            row = connection.execute(select(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))).first()
        if row is None or row.digest != _digest(secret):
            return None
        return NewKey(key=key_of(row), text=_text(key_of(row), secret))

    def exist(self) -> bool:
        """Whether any key was ever made."""
        with self._database.read() as connection:
            return connection.execute(select(keys.c.id).limit(1)).first() is not None

    def revoke(self, key_id: str, within: Within = _nothing_else, tenant: str | None = None) -> Key:
        """Revoke a key permanently, and end its sessions; every process refuses them within `FRESH` seconds.

        Args:
            key_id: its id.
            within: called in its transaction.
            tenant: the tenant that it must belong to; None: any.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write(urgent=True) as connection:
            still_open = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            _found(connection, key_id, tenant)
            connection.execute(update(keys).where(still_open).values(revoked_at=now()))
            _end_sessions(connection, key_id)
            revoked = _found(connection, key_id)
            within(connection, revoked)
        self._held.pop(key_id, None)
        return revoked

    def revoke_all(self) -> int:
        """Revoke all keys, as after a restore; returns how many were not revoked before."""
        with self._database.write(urgent=True) as connection:
            for table in (sessions, login_links):
                connection.execute(delete(table))
            return connection.execute(update(keys).where(keys.c.revoked_at.is_(None)).values(revoked_at=now())).rowcount

    def rotate(self, key_id: str, within: Within = _nothing_else, tenant: str | None = None) -> NewKey:
        """Give a key a new secret, and end its sessions; every process refuses the old one within `FRESH` seconds.

        Args:
            key_id: its id.
            within: called in its transaction.
            tenant: the tenant that it must belong to; None: any.

        Raises:
            NotFound: there is no such key, or it is revoked.
        """
        secret = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            still_open = (keys.c.id == key_id) & keys.c.revoked_at.is_(None)
            changed = connection.execute(update(keys).where(still_open).values(digest=_digest(secret))).rowcount
            key = _found(connection, key_id, tenant)
            if not changed:
                raise NotFound(f"key {key_id} is revoked: make a new one")
            _end_sessions(connection, key_id)
            within(connection, key)
        self._held.pop(key_id, None)
        return NewKey(key=key, text=_text(key, secret))

    def look(self, texts: Collection[str]) -> Found:
        """Read the keys of these texts with one query, and cache them; unknown ids are not cached."""
        ids = {parsed[1] for text in texts if (parsed := TEXT.fullmatch(text))}
        read_at = time.monotonic()
        with self._database.read() as connection:
            rows = connection.execute(select(keys).where(keys.c.id.in_(ids))).all() if ids else []
        found = {row.id: (key_of(row), str(row.digest)) for row in rows}
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
        right = hmac.compare_digest(_digest(parsed[2] if parsed else ""), expected)
        if not right or key is None or key.revoked_at is not None:
            raise NotAuthorized("send a valid key as 'Authorization: Bearer KEY'; 'visual-memory keys make' makes one")
        return key

    def _looked(self, text: str) -> tuple[Key, str] | None:
        return next(iter(self.look([text]).values()), None)

    def _fresh(self, key_id: str) -> tuple[Key, str] | None:
        held = self._held.get(key_id)
        return held[1] if held and time.monotonic() - held[0] < FRESH else None


def derive_key_secret(secret: Secret, request: str | None) -> str:
    """The secret of the key that a request makes: 43 characters of base64url.

    Args:
        secret: of the service.
        request: names the request and its sender; the same one gets the same secret, so that it can be repeated and
            answered alike. None: a random secret.
    """
    if request is None:
        return secrets.token_urlsafe(32)
    digest = hmac.digest(secret.key("secrets of API keys"), request.encode(), sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _found(connection: Connection, key_id: str, tenant: str | None = None) -> Key:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).first()
    if row is None or tenant not in {None, row.tenant}:
        raise NotFound(f"there is no key {key_id!r}; 'visual-memory keys list' shows them all")
    return key_of(row)


def _end_sessions(connection: Connection, key_id: str) -> None:
    for table in (sessions, login_links):
        connection.execute(delete(table).where(table.c.key == key_id))


def key_of(row: Row[Any]) -> Key:
    """The key of a row with the columns of its table."""
    return Key.model_validate({name: getattr(row, name) for name in Key.model_fields})


def _text(key: Key, secret: str) -> str:
    return f"vm_{key.id}_{secret}"


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
