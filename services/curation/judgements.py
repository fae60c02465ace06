"""The records of judgements, and which of them counts.

Whatever is computed from a tenant's images depends on each of them, so a removal must take it away before its receipt,
and also what is being computed at that moment from images that were read before they went. So a pass registers before
it reads, under ``judgements/TENANT/ID``, and its judgement, ``judgements/TENANT/ID.found``, counts only while that
registration is there. A removal deletes every registration after its points are gone: a pass that had read any of
them can never count, and one that registers later reads none. A registration is created once and never written again,
so nothing brings it back.
"""

import uuid
from datetime import datetime
from functools import lru_cache

from schemas.errors import NotFound
from schemas.image import now
from schemas.judgement import Judgement
from services.memory.ledger import Ledger

RECORDS = "judgements/"
FOUND = ".found"
MOST_HELD = 4
"""Judgements of so many tenants are held by each process; one of 100,000 images takes some 30 MB."""


class Judgements:
    """The judgements of every tenant."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._load = lru_cache(MOST_HELD)(self._read)  # what was found under an id never changes

    def register(self, tenant: str) -> str:
        """Register a pass that has read nothing yet; returns the id of its judgement."""
        registration = f"{now():%Y%m%d%H%M%S%f}-{uuid.uuid4().hex[:8]}"
        self._ledger.create(_key(tenant, registration), True)
        return registration

    def is_valid(self, tenant: str, registration: str) -> bool:
        """Whether no removal voided it since it was registered."""
        return self._ledger.exists(_key(tenant, registration))

    def keep(self, tenant: str, judgement: Judgement) -> bool:
        """Let a judgement count instead of those before it; False where a removal came in between."""
        found = _key(tenant, judgement.id) + FOUND
        self._ledger.put(found, judgement.model_dump(mode="json"))
        if not self.is_valid(tenant, judgement.id):
            self._ledger.delete(found)
            return False
        for key in self._ledger.list(_key(tenant, "")):
            if key < _key(tenant, judgement.id):
                self._ledger.delete(key)
        return True

    def current(self, tenant: str) -> Judgement | None:
        """The latest judgement that counts; one look into the records, and what was found is read once per process."""
        keys = set(self._ledger.list(_key(tenant, "")))
        valid = [key for key in keys if key + FOUND in keys]
        try:
            return self._load(max(valid)) if valid else None
        except NotFound:  # it was voided at this moment
            return None

    def void(self, tenant: str) -> None:
        """Let none of a tenant's judgements count, nor any that is being made; then delete what they say."""
        keys = self._ledger.list(_key(tenant, ""))
        for key in sorted(keys, key=lambda key: key.endswith(FOUND)):
            self._ledger.delete(key)

    def tidy(self, _before: datetime | None = None, _since: datetime | None = None) -> int:
        """Delete what a pass left that was killed right after a removal had voided it; returns how much."""
        left = [key for key in self._ledger.list(RECORDS) if key.endswith(FOUND)]
        return sum(self._ledger.delete(key) for key in left if not self._ledger.exists(key.removesuffix(FOUND)))

    def _read(self, key: str) -> Judgement:
        return Judgement.model_validate(self._ledger.get(key + FOUND))


def _key(tenant: str, registration: str) -> str:
    return f"{RECORDS}{tenant}/{registration}"
