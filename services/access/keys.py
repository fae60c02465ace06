"""API keys: made, listed, revoked, rotated, and checked for every request.

Kept is the SHA-256 of a secret of 256 random bits. A slow hash with salt protects what people choose; nobody can
guess or tabulate 256 random bits, so a plain digest gives nothing away and costs a request nothing.
"""

import re
import secrets
import time
from hashlib import sha256
from hmac import compare_digest

from schemas.errors import NotAuthorized, NotFound
from schemas.image import now
from schemas.key import Key, KeyRequest, NewKey
from services.memory.ledger import Ledger

FRESH = 1.0
"""Seconds for which a record is taken from memory: so long, at most, does a revoked key go on opening."""
TEXT = re.compile(r"vm_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_PREFIX = "keys/"


class _Record(Key):
    digest: str

    def told(self) -> Key:
        return Key.model_validate(self.model_dump(exclude={"digest"}))


class Keys:
    """The keys of every tenant, in the ledger that all machines share.

    Every method raises `schemas.errors.Unavailable` where the ledger does not answer.

    Args:
        ledger: keeps them, under ``keys/ID``.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids: frozenset[str] = frozenset()
        self._held: dict[str, tuple[float, Key, str]] = {}

    def make(self, wanted: KeyRequest) -> NewKey:
        """Make a key; its text is not kept."""
        return self._renew(Key(**wanted.model_dump(), id=secrets.token_hex(6), created_at=now()))

    def all(self) -> list[Key]:
        """Every key, revoked ones too, the oldest first."""
        records = (self._read(key.removeprefix(_PREFIX)) for key in self._ledger.list(_PREFIX))
        return sorted((record.told() for record in records if record), key=lambda key: key.created_at)

    def revoke(self, key_id: str) -> Key:
        """Let a key open nothing any more, for ever; done within `FRESH` seconds everywhere.

        Raises:
            NotFound: there is no such key.
        """
        record = self._found(key_id)
        revoked = record.model_copy(update={"revoked_at": record.revoked_at or now()})
        self._write(revoked)
        return revoked.told()

    def rotate(self, key_id: str) -> NewKey:
        """Give a key a new secret; the old one opens nothing within `FRESH` seconds.

        Raises:
            NotFound: there is no such key, or it is revoked.
        """
        record = self._found(key_id)
        if record.revoked_at is not None:
            raise NotFound(f"key {key_id} is revoked: make a new one")
        return self._renew(record.told())

    def look(self) -> None:
        """Look which keys there are, for `knows`."""
        self._ids = frozenset(key.removeprefix(_PREFIX) for key in self._ledger.list(_PREFIX))

    def knows(self, text: str) -> str | None:
        """The id in the text of a key, where there was one of this id at the last `look`."""
        parsed = TEXT.fullmatch(text)
        return parsed[1] if parsed and parsed[1] in self._ids else None

    def at_hand(self, text: str) -> bool:
        """Whether `check` would not have to ask the ledger."""
        parsed = TEXT.fullmatch(text)
        return parsed is None or self._fresh(parsed[1]) is not None

    def check(self, text: str) -> Key:
        """The key of this text. An id that nobody has and a wrong secret go the same way, compared in constant time.

        Raises:
            NotAuthorized: it opens nothing.
        """
        parsed = TEXT.fullmatch(text)
        key, expected = (self._recent(parsed[1]) if parsed else None) or (None, _digest(""))
        right = compare_digest(_digest(parsed[2] if parsed else ""), expected)
        if not right or key is None or key.revoked_at is not None:
            raise NotAuthorized("send a valid key as 'Authorization: Bearer KEY'; 'visual-memory keys make' makes one")
        return key

    def _recent(self, key_id: str) -> tuple[Key, str] | None:
        """A key and its digest, as they were within the last `FRESH` seconds."""
        fresh = self._fresh(key_id)
        if fresh is None:
            asked, record = time.monotonic(), self._read(key_id)
            if record is None:
                self._held.pop(key_id, None)
                return None
            fresh = self._held[key_id] = asked, record.told(), record.digest
        return fresh[1:]

    def _fresh(self, key_id: str) -> tuple[float, Key, str] | None:
        held = self._held.get(key_id)
        return held if held and time.monotonic() - held[0] < FRESH else None

    def _renew(self, key: Key) -> NewKey:
        secret = secrets.token_urlsafe(32)
        self._write(_Record(**key.model_dump(), digest=_digest(secret)))
        return NewKey(key=key, text=f"vm_{key.id}_{secret}")

    def _found(self, key_id: str) -> _Record:
        record = self._read(key_id) if re.fullmatch("[0-9a-f]{12}", key_id) else None
        if record is None:
            raise NotFound(f"there is no key {key_id!r}; 'visual-memory keys list' shows them all")
        return record

    def _read(self, key_id: str) -> _Record | None:
        try:
            return _Record.model_validate(self._ledger.get(f"{_PREFIX}{key_id}"))
        except NotFound:
            return None

    def _write(self, record: _Record) -> None:
        self._ledger.put(f"{_PREFIX}{record.id}", record.model_dump(mode="json"))
        self._held.pop(record.id, None)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
