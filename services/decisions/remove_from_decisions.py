"""Take removed images out of stored decisions: the decisions' hook of a removal.

A removed neighbour is scrubbed from a decision. A decision is deleted as a whole where

- the picture or the vector of its query is removed, or
- its filter contains a value of the removal's filter, the id, content hash or file name of a removed image, or another
  value that no image has any more.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection, delete, select

from visual_memory.schemas.labels import label_paths
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.decision_mentions import (
    CONTENT,
    IMAGE,
    NAMED,
    decisions_mentioning,
    mention_hash,
    vector_mentions,
)
from visual_memory.services.decisions.scrub_decision import queried_with, scrubbed
from visual_memory.services.decisions.stored_decisions import (
    AT_ONCE,
    StoredDecisions,
    blockable,
    decisions_lock,
    replace_decision,
)
from visual_memory.services.infrastructure.records.database import batches
from visual_memory.services.infrastructure.records.tables import covered_vectors, decision_mentions, decisions, removals
from visual_memory.services.memory.points.point_filters import marked_by
from visual_memory.services.removal.covered_image_records import CoveredImage, CoveredImages
from visual_memory.services.removal.values_named_in_filters import (
    IGNORED_FIELDS,
    field_values,
    named_values,
    value_name,
)

PAGE = 1000
CHUNK = 50_000
"""Removed images for which decisions are searched at once; they take some 50 MB."""
UNIQUE_FIELDS = {"file_name"}
"""Fields that identify one image, like its id and its content hash."""

Change = Callable[[StoredDecision], StoredDecision | None]
"""Returns the decision unchanged, a changed one, or None to delete it."""


@dataclass(frozen=True)
class RemoveFromDecisions:
    """The hook, for every tenant's decisions."""

    stored: StoredDecisions

    def note_vectors(self, tenant: str, removal_id: str) -> None:
        """CoveredImage the vectors of the images that a removal has marked, before they are deleted."""
        database, memory = self.stored.database, self.stored.memory
        for page in memory.images.pages(tenant, [marked_by(removal_id)], PAGE):
            digests_by_image = memory.images.vector_digests(page, with_pictures=True)
            hashes = vector_mentions(tenant, [digest for digests in digests_by_image.values() for digest in digests])
            for batch in batches(sorted(hashes)):
                rows = [{"removal": removal_id, "mention": each} for each in batch]
                with database.write(urgent=True) as connection:
                    connection.execute(database.insert(covered_vectors).values(rows).on_conflict_do_nothing())

    def drop_vectors(self, connection: Connection, _tenant: str, removal_id: str) -> None:
        """Delete these notes, in the transaction that ends the removal."""
        connection.execute(delete(covered_vectors).where(covered_vectors.c.removal == removal_id))

    def remove_covered(self, tenant: str, covered: CoveredImages) -> None:
        """Scrub or delete the decisions that mention removed images."""
        database = self.stored.database
        with database.write(urgent=True) as connection:  # waits for transactions that did not see the removal's notes
            database.serial(connection, decisions_lock(tenant))
        for batch in batches(sorted(self._queried_with_covered(tenant)), AT_ONCE):
            self._change(tenant, batch, lambda _stored: None)
        names = named_values(covered.filter)
        naming = decisions_mentioning(database, (mention_hash(tenant, NAMED, name) for name in names))
        for batch in batches(sorted(naming), AT_ONCE):
            self._change(tenant, batch, lambda stored: None if named_values(stored.options.filter) & names else stored)
        for chunk in _chunks(tenant, covered):
            for batch in batches(sorted(decisions_mentioning(database, chunk.mentions())), AT_ONCE):
                self._change(tenant, batch, partial(self._without, tenant, chunk))

    def reconcile_all(self) -> int:
        """Compare all decisions with the memory after a restore, and scrub neighbours that are not in it any more.

        A backup may be older than some removals.

        Returns:
            the number of deleted decisions.
        """
        last, deleted = 0, 0
        while True:
            query = select(decisions.c.number, decisions.c.tenant).where(decisions.c.number > last)
            with self.stored.database.read() as connection:
                rows = connection.execute(query.order_by(decisions.c.number).limit(AT_ONCE)).all()
            if not rows:
                return deleted
            last = rows[-1].number
            for row in rows:
                deleted += self._change(row.tenant, [row.number], partial(self._reconciled, row.tenant))

    def _reconciled(self, tenant: str, stored: StoredDecision) -> StoredDecision | None:
        """A decision without neighbours that do not exist, or that were accepted after the query."""
        if self.stored.blocks.is_any_blocked(tenant, blockable(stored)):
            return None
        ids = {each.image_id for each in stored.decision.neighbours}
        images = self.stored.memory.images.get(tenant, ids)
        gone = {each for each in ids if each not in images or images[each].accepted_at > stored.asked_at}
        return scrubbed(stored, gone)

    def _without(self, tenant: str, chunk: "_Chunk", stored: StoredDecision) -> StoredDecision | None:
        """A decision without some removed images; None where it must be deleted."""
        if stored.content_hash in chunk.content_hashes or queried_with(stored, chunk.image_ids):
            return None
        for field_name, value in field_values(stored.options.filter):
            name = value_name(field_name, value)
            if name in chunk.own_names:
                return None
            if (field_name, name) in chunk.shared_names and not self.stored.memory.images.has_value(
                tenant, field_name, value
            ):
                return None
        return scrubbed(stored, chunk.image_ids)

    def _queried_with_covered(self, tenant: str) -> set[int]:
        """The numbers of decisions on the vector of an image that a running removal covers."""
        vectors = removals.join(covered_vectors)
        both = vectors.join(decision_mentions, decision_mentions.c.mention == covered_vectors.c.mention)
        query = select(decision_mentions.c.decision).select_from(both).where(removals.c.tenant == tenant)
        with self.stored.database.read() as connection:
            return set(connection.execute(query).scalars())

    def _change(self, tenant: str, numbers: Collection[int], change: Change) -> int:
        """Change decisions; retry those that were changed by another process meanwhile.

        Returns:
            the number of deleted decisions.
        """
        left, deleted = set(numbers), 0
        while left:
            query = select(decisions.c.number, decisions.c.tenant, decisions.c.version, decisions.c.body)
            with self.stored.database.read() as connection:
                rows = connection.execute(query.where(decisions.c.number.in_(left))).all()
            own = (row for row in rows if row.tenant == tenant)  # hashes of mentions may collide
            read = [(row, StoredDecision.model_validate_json(row.body)) for row in own]
            changed = [(row, stored, change(stored)) for row, stored in read]
            left = set()
            with self.stored.database.write(urgent=True) as connection:
                for row, stored, new in changed:
                    if new is stored:
                        continue
                    if not replace_decision(connection, tenant, row.number, row.version, new):
                        left.add(row.number)
                    elif new is None:
                        deleted += 1
        return deleted


@dataclass
class _Chunk:
    """Some of the removed images.

    Attributes:
        own_names: values that identify one of them.
        shared_names: fields and values that other images may have too.
    """

    tenant: str
    image_ids: set[str] = field(default_factory=set)
    content_hashes: set[str] = field(default_factory=set)
    own_names: set[str] = field(default_factory=set)
    shared_names: set[tuple[str, str]] = field(default_factory=set)

    def add(self, notes: Sequence[CoveredImage]) -> None:
        for note in notes:
            self.image_ids.add(note.image_id)
            self.content_hashes.add(note.content_hash)
            self.own_names.update((value_name("image_id", note.image_id), note.content_hash))
            for name, value in _fields(note):
                if name in UNIQUE_FIELDS:
                    self.own_names.add(value_name(name, value))
                elif name not in IGNORED_FIELDS:
                    self.shared_names.add((name, value_name(name, value)))

    def mentions(self) -> Iterator[int]:
        """The hashes of everything that decisions may mention of these images."""
        yield from (mention_hash(self.tenant, IMAGE, each) for each in self.image_ids)
        yield from (mention_hash(self.tenant, CONTENT, each) for each in self.content_hashes)
        names = self.own_names.union(name for _, name in self.shared_names)
        yield from (mention_hash(self.tenant, NAMED, each) for each in names)


def _chunks(tenant: str, covered: CoveredImages) -> Iterator[_Chunk]:
    """The covered images in chunks of about `CHUNK`."""
    chunk = _Chunk(tenant)
    for page in covered:
        chunk.add(page)
        if len(chunk.image_ids) >= CHUNK:
            yield chunk
            chunk = _Chunk(tenant)
    if chunk.image_ids:
        yield chunk


def _fields(note: CoveredImage) -> Iterator[tuple[str, object]]:
    """The fields of an image that filters can name, each with one value."""
    for name, value in note.fields.items():
        if name == "labels":
            yield from (("labels", path) for path in label_paths(value))
        elif name == "metadata":
            yield from ((f"metadata.{key}", each) for key, each in value.items())
        elif isinstance(value, str):
            yield name, value
