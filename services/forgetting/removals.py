"""The records of removals: what is asked, how far it is, what it covered; they outlive the collection.

Under ``removals/`` lies each removal with the step that comes next, under ``open/`` a mark for each that is not done,
under ``notes/`` what must be known of covered images while they go, under ``unerased/`` a mark for each that no
compaction followed yet. What stays under ``buried/`` are digests of the picture keys that were covered: by them
anything that comes back is known again. A key is new with each acceptance and random, so its digest tells nothing.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from heapq import nlargest

from pydantic import BaseModel, ConfigDict, TypeAdapter

from schemas.errors import NotFound, Unavailable
from schemas.image import now
from schemas.removal import Removal
from services.forgetting.covered_images import Note
from services.memory.ledger import Ledger
from services.runtime.moments import is_over


class Step(StrEnum):
    """What comes next."""

    MARK = "mark"
    NOTE = "note"
    DELETE = "delete"
    SEAL = "seal"
    NOTHING = "nothing"


class Journal(BaseModel):
    """A removal with what is needed to carry it on; `turn` counts how often it had to mark anew."""

    model_config = ConfigDict(frozen=True)

    removal: Removal
    tenant: str
    step: Step = Step.MARK
    turn: int = 0


_NOTES = TypeAdapter(list[Note])


class Removals:
    """The records of every tenant's removals."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def save(self, journal: Journal) -> None:
        """Write how far a removal is; durable when it returns."""
        self._ledger.put(_key(journal.tenant, journal.removal.id), journal.model_dump(mode="json"))

    def load(self, tenant: str, removal_id: str) -> Journal:
        """How far a removal is.

        Raises:
            NotFound: there is no such removal.
            ValueError: its record is damaged.
        """
        missing = NotFound(f"there is no removal {removal_id!r}")
        try:
            key = _key(tenant, str(uuid.UUID(removal_id)))  # it comes from a URL
        except ValueError:
            raise missing from None
        try:
            record = self._ledger.get(key)
        except NotFound:
            raise missing from None
        return Journal.model_validate(record)

    def ids(self, tenant: str) -> list[str]:
        """The ids of a tenant's removals."""
        return [key.rsplit("/", 1)[1] for key in self._ledger.list(f"removals/{tenant}/")]

    def all(self, tenant: str) -> list[Removal]:
        """A tenant's removals, the latest first."""
        removals = [self.load(tenant, each).removal for each in self.ids(tenant)]
        return sorted(removals, key=lambda removal: removal.requested_at, reverse=True)

    def latest(self, tenant: str, limit: int, before: datetime | None = None) -> list[Removal]:
        """So many of a tenant's removals at most, the latest first; only those that were asked for before a moment."""
        records = self._ledger.get_some(self._ledger.list(f"removals/{tenant}/"))
        removals = (Journal.model_validate(record).removal for _, record in records)
        wanted = (each for each in removals if before is None or each.requested_at < before)
        return nlargest(limit, wanted, key=lambda removal: removal.requested_at)

    def tenants(self) -> list[str]:
        """Everybody who ever asked for one."""
        return sorted({key.split("/")[1] for kind in ("removals", "log") for key in self._ledger.list(f"{kind}/")})

    def touch(self, tenant: str, removal_id: str) -> None:
        """Say that somebody works on it at this moment."""
        self._ledger.put(_open_key(tenant, removal_id), {"touched": now().isoformat()})

    def abandoned(self, lease: timedelta) -> Iterator[tuple[str, str]]:
        """The removals that are not done and that nobody has worked on for the length of a lease: tenant and id."""
        for tenant, removal_id in self._marks("open"):
            if self._is_over(_open_key(tenant, removal_id), "touched", lease, now()):
                yield tenant, removal_id

    def running(self, tenant: str) -> Iterator[Removal]:
        """A tenant's removals that are not done, those with a record that can be read."""
        for key in self._ledger.list(f"open/{tenant}/"):
            with suppress(NotFound, ValueError):
                yield self.load(tenant, key.rsplit("/", 1)[1]).removal

    def close(self, tenant: str, removal_id: str) -> None:
        """Say that there is nothing left to be done."""
        for key in self._ledger.list(f"notes/{tenant}/{removal_id}."):
            self._ledger.delete(key)
        self._ledger.delete(_open_key(tenant, removal_id))

    def note(self, journal: Journal, pages: Iterable[Sequence[Note]]) -> Iterator[Sequence[Note]]:
        """Write down what is covered in this turn, page by page, instead of what was before; yields what is written."""
        for stale in self._ledger.list(_notes_prefix(journal)):
            self._ledger.delete(stale)
        for number, page in enumerate(pages):
            self._ledger.put(f"{_notes_prefix(journal)}{number:06d}", _NOTES.dump_python(list(page), mode="json"))
            buried = [burial(note.picture) for note in page]
            self._ledger.put(f"buried/{_page_name(journal)}{number:06d}", buried)
            yield page

    def notes(self, journal: Journal) -> Iterator[list[Note]]:
        """What is covered in this turn, page by page."""
        for key in self._ledger.list(_notes_prefix(journal)):
            yield _NOTES.validate_python(self._ledger.get(key))

    def buried(self, tenant: str) -> set[str]:
        """The digests of everything that a tenant's removals ever covered, some 120 bytes of memory each.

        Only what an operator runs by hand reads them: a verification, and a restore.
        """
        return {digest for key in self._ledger.list(f"buried/{tenant}/") for digest in self._ledger.get(key)}

    def expect_erasure(self, tenant: str, removal_id: str) -> None:
        """Mark that no compaction was done since this moment."""
        self._ledger.put(_unerased_key(tenant, removal_id), {"since": now().isoformat()})

    def unerased(self) -> list[tuple[str, str]]:
        """The removals without a compaction since: tenant and id of each."""
        return list(self._marks("unerased"))

    def erased(self, tenant: str, removal_id: str) -> None:
        """Take that mark away."""
        self._ledger.delete(_unerased_key(tenant, removal_id))

    def erasure_is_due(self, wait: timedelta, moment: datetime) -> bool:
        """Whether a removal has been waiting for a compaction for so long at a moment."""
        return any(self._is_over(_unerased_key(*each), "since", wait, moment) for each in self.unerased())

    def _is_over(self, key: str, field: str, duration: timedelta, moment: datetime) -> bool:
        """Whether a duration has passed since a moment in a record; True where that cannot be read."""
        try:
            return is_over(datetime.fromisoformat(self._ledger.get(key)[field]), duration, moment)
        except NotFound:  # it was deleted right now
            return False
        except (KeyError, TypeError, ValueError, Unavailable):  # whoever deals with the removal writes it anew
            return True

    def _marks(self, kind: str) -> Iterator[tuple[str, str]]:
        for key in self._ledger.list(f"{kind}/"):
            _, tenant, removal_id = key.split("/")
            yield tenant, removal_id


def burial(picture: str) -> str:
    """The digest by which a covered picture's key is known again."""
    return sha256(picture.encode()).hexdigest()


def _key(tenant: str, removal_id: str) -> str:
    return f"removals/{tenant}/{removal_id}"


def _open_key(tenant: str, removal_id: str) -> str:
    return f"open/{tenant}/{removal_id}"


def _unerased_key(tenant: str, removal_id: str) -> str:
    return f"unerased/{tenant}/{removal_id}"


def _page_name(journal: Journal) -> str:
    return f"{journal.tenant}/{journal.removal.id}.{journal.turn:06d}."


def _notes_prefix(journal: Journal) -> str:
    return f"notes/{_page_name(journal)}"
