"""Forget: from a removal request to its receipt.

The record is durable before anything goes, and names the step that comes next. Whoever finds it unfinished carries on
from there; every step may be done twice:

    mark    block the subjects, then mark every point that meets the filter, in one operation of the engine:
            this fixes what the removal covers
    note    write down the marked points (state, content, picture) beside the record; block their contents
    delete  delete the marked points, in one operation; then their pictures; then verify that nothing is left

A late worker gives its vector only to a point that still has the same picture key, so nothing comes back.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, TypeAdapter

from schemas.errors import NotFound, Unavailable
from schemas.filter import Clause, FieldType, Filter
from schemas.image import State, StoredImage, now
from schemas.removal import Removal, RemovalPreview, RemovalRequest, RemovalStatus
from services import metrics
from services.blocks import Blocks
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures

PAGE = 1000
SAMPLE = 10

log = logging.getLogger(__name__)


class _Step(StrEnum):
    MARK = "mark"
    NOTE = "note"
    DELETE = "delete"


class _Journal(BaseModel):
    """A removal with what is needed to carry it on; `turn` counts how often it had to mark anew."""

    model_config = ConfigDict(frozen=True)

    removal: Removal
    tenant: str
    step: _Step = _Step.MARK
    turn: int = 0


class _Note(BaseModel):
    """What must be known of a point after it is gone."""

    state: State
    content_hash: str
    picture: str


_NOTES = TypeAdapter(list[_Note])


@dataclass(frozen=True)
class Forget:
    """The use case, with the parts that it needs.

    Attributes:
        lease: how long an unfinished removal is left to whoever works on it.
    """

    memory: Memory
    pictures: Pictures
    blocks: Blocks
    ledger: Ledger
    lease: timedelta

    def preview(self, tenant: str, request: RemovalRequest) -> RemovalPreview:
        """Count what a removal would cover, and show some of it; changes nothing."""
        clauses = request.filter.clauses(self.memory.metadata)
        by_state = self.memory.counts_by_state(tenant, clauses)
        sample, _ = self.memory.page(tenant, clauses, SAMPLE, None)
        return RemovalPreview(
            images=sum(by_state.values()), by_state=by_state, sample=[image.image_id for image in sample]
        )

    def request(self, tenant: str, request: RemovalRequest, requested_by: str) -> Removal:
        """Make the durable record of a removal; `carry_on` then does it.

        Raises:
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
        """
        request.filter.clauses(self.memory.metadata)
        removal = Removal(
            id=str(uuid.uuid4()),
            **request.model_dump(exclude={"dry_run"}),
            requested_by=requested_by,
            requested_at=now(),
        )
        self._touch(tenant, removal.id)
        self._save(_Journal(removal=removal, tenant=tenant))
        return removal

    def get(self, tenant: str, removal_id: str) -> Removal:
        """The record of a removal; its receipt, once it is done.

        Raises:
            NotFound: there is no such removal.
        """
        return self._load(tenant, removal_id).removal

    def all(self, tenant: str) -> list[Removal]:
        """All removals, the latest first."""
        ids = [key.rsplit("/", 1)[1] for key in self.ledger.list(f"removals/{tenant}/")]
        return sorted((self.get(tenant, each) for each in ids), key=lambda removal: removal.requested_at, reverse=True)

    def carry_on(self, tenant: str, removal_id: str) -> Removal:
        """Do what is left of a removal; returns its receipt.

        Raises:
            Unavailable: a part does not answer; the removal is carried on by `carry_on_all` later.
        """
        journal = self._load(tenant, removal_id)
        steps = {_Step.MARK: self._mark, _Step.NOTE: self._note, _Step.DELETE: self._delete}
        with metrics.stage("forget"):
            while journal.removal.status is not RemovalStatus.DONE:
                self._touch(tenant, removal_id)
                journal = steps[journal.step](journal)
                self._save(journal)
        for key in self.ledger.list(f"notes/{tenant}/{removal_id}."):
            self.ledger.delete(key)
        self.ledger.delete(_open_key(tenant, removal_id))
        return journal.removal

    def carry_on_all(self) -> int:
        """Carry on what nobody has worked on for the length of the lease; returns how many were finished."""
        finished = 0
        for key in self.ledger.list("open/"):
            _, tenant, removal_id = key.split("/")
            touched = datetime.fromisoformat(self.ledger.get(key)["touched"])
            if touched > now() - self.lease:
                continue
            try:
                self.carry_on(tenant, removal_id)
                finished += 1
            except NotFound:  # the record was never written, so nobody was promised anything
                self.ledger.delete(key)
            except Unavailable:
                raise
            except Exception:
                log.exception("removal %s cannot be carried on; the others are", removal_id)
        return finished

    def _mark(self, journal: _Journal) -> _Journal:
        removal = journal.removal
        if removal.block:
            self.blocks.block_subjects(journal.tenant, _subjects(removal.filter), removal.id)
        self.memory.mark(journal.tenant, self._clauses(journal), removal.id)
        return journal.model_copy(update={"step": _Step.NOTE})

    def _note(self, journal: _Journal) -> _Journal:
        removal, prefix = journal.removal, _notes_prefix(journal)
        for stale in self.ledger.list(prefix):
            self.ledger.delete(stale)
        by_state = Counter(removal.by_state)
        for number, page in enumerate(self._marked(journal)):
            notes = [_Note.model_validate(image, from_attributes=True) for image in page]
            self.ledger.put(f"{prefix}{number:06d}", _NOTES.dump_python(notes, mode="json"))
            by_state.update(note.state for note in notes)
            if removal.block:
                self.blocks.block_contents(journal.tenant, {note.content_hash for note in notes}, removal.id)
            self._touch(journal.tenant, removal.id)
        total = by_state.total()
        counted = removal.model_copy(update={"images": total, "by_state": dict(by_state), "pictures": total})
        return journal.model_copy(update={"removal": counted, "step": _Step.DELETE})

    def _delete(self, journal: _Journal) -> _Journal:
        removal, tenant = journal.removal, journal.tenant
        self.memory.delete_marked(tenant, removal.id)
        for key in self.ledger.list(_notes_prefix(journal)):
            self.pictures.delete([note.picture for note in _NOTES.validate_python(self.ledger.get(key))])
            self._touch(tenant, removal.id)
        before = Clause("accepted_at", FieldType.DATETIME, bounds={"lte": removal.requested_at})
        left = self.memory.count(tenant, [*self._clauses(journal), before])
        if left or self.memory.count(tenant, [], marked_by=removal.id):
            log.info("removal %s: %d images came in meanwhile, they are removed too", removal.id, left)
            return journal.model_copy(update={"step": _Step.MARK, "turn": journal.turn + 1})
        metrics.REMOVED.labels(tenant).inc(removal.images)
        done = {"status": RemovalStatus.DONE, "verified_at": now()}
        return journal.model_copy(update={"removal": removal.model_copy(update=done)})

    def _marked(self, journal: _Journal) -> Iterator[Sequence[StoredImage]]:
        cursor = None
        while True:
            page, cursor = self.memory.marked(journal.tenant, journal.removal.id, PAGE, cursor)
            yield page
            if cursor is None:
                return

    def _clauses(self, journal: _Journal) -> list[Clause]:
        return journal.removal.filter.clauses(self.memory.metadata)

    def _load(self, tenant: str, removal_id: str) -> _Journal:
        try:
            uuid.UUID(removal_id)  # it comes from a URL and becomes part of a key
            return _Journal.model_validate(self.ledger.get(_record_key(tenant, removal_id)))
        except (NotFound, ValueError):
            raise NotFound(f"there is no removal {removal_id!r}") from None

    def _save(self, journal: _Journal) -> None:
        self.ledger.put(_record_key(journal.tenant, journal.removal.id), journal.model_dump(mode="json"))

    def _touch(self, tenant: str, removal_id: str) -> None:
        self.ledger.put(_open_key(tenant, removal_id), {"touched": now().isoformat()})


def _record_key(tenant: str, removal_id: str) -> str:
    return f"removals/{tenant}/{removal_id}"


def _open_key(tenant: str, removal_id: str) -> str:
    return f"open/{tenant}/{removal_id}"


def _notes_prefix(journal: _Journal) -> str:
    return f"notes/{journal.tenant}/{journal.removal.id}.{journal.turn:06d}."


def _subjects(condition: Filter) -> Iterator[str]:
    """The subjects that a filter names outright."""
    named = condition.root.get("subject", [])
    yield from (subject for subject in (named if isinstance(named, list) else [named]) if isinstance(subject, str))
