"""Stored decisions: kept so that they can be looked up and asked again; nothing that was removed stays in them.

A decision is one row, beside which stands what it tells of (`services.decisions.decision_mentions`): so a removal finds
those that it must change without reading the others. It takes out neighbours (`services.decisions.scrub_decision`). A
decision goes as a whole where the picture or the vector that was asked with is removed, where its filter names what
the removal's filter does, or an image that is gone, or what only images had that are gone. Where a removal refuses the
picture, the vector or a subject that the filter names from then on, nothing of it is kept again.

What is being stored while a removal runs is held against the removal in the transaction that writes it: the images
that it covers stand in its notes by then, or it looks for decisions later than that.
"""

import base64
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import chain, repeat
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import Blocked, NotFound, TooLarge
from visual_memory.schemas.image import now
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision
from visual_memory.services.decisions.concurrent_removals import ConcurrentRemovals, RequestStart
from visual_memory.services.decisions.decision_mentions import (
    IMAGE,
    NAMED,
    mention_number,
    mentions_of,
    vector_mentions,
)
from visual_memory.services.decisions.find_covered_decisions import CoveredChunk, chunks
from visual_memory.services.decisions.scrub_decision import FLOATS, queried_with, query_vector, scrubbed
from visual_memory.services.infrastructure.records.database import Database, Within, batches, nothing_else
from visual_memory.services.infrastructure.records.tables import covered_vectors, decision_mentions, decisions, removals
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.removal.blocklist import CONTENT, SUBJECT, VECTOR, Blocklist
from visual_memory.services.removal.covered_images import CoveredImages
from visual_memory.services.removal.values_named_in_filters import field_values, named_values, value_name
from visual_memory.services.vector_engines.engine_contract import Vectors

AT_ONCE = 32
"""Decisions that are read at once, each of at most `MAX_BYTES`."""
PAGE = 1000
TRIMS = 100
"""Decisions over the bound are deleted when a hundredth of it has come in, so that few calls look for them."""
MAX_BYTES = 2**20
"""Of one decision: a thousand neighbours with a label or two take a quarter of it."""

Change = Callable[[StoredDecision], StoredDecision | None]
"""What becomes of a decision: the same one, another, or None, where it goes."""


@dataclass(frozen=True)
class StoredDecisions:
    """The records of every tenant's decisions.

    Attributes:
        memory: tells which images are there.
        keep: how many of each tenant; the oldest go.
        keep_bytes: how many bytes of each tenant's; the oldest go.
    """

    database: Database
    memory: Memory
    blocks: Blocklist
    keep: int
    keep_bytes: int
    _grown: dict[str, float] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, tenant: str) -> RequestStart:
        """What `store` must know; called before neighbours are searched for."""
        return self._running.begin(tenant)

    def store(
        self,
        tenant: str,
        asked_by: str,
        begun: RequestStart,
        pictures: Sequence[bytes],
        vectors: Vectors,
        options: ClassifyOptions,
        made: Sequence[Decision],
    ) -> list[Decision]:
        """Keep decisions; durable when it returns.

        Args:
            tenant: whose memory was asked.
            asked_by: who asked, as the API knows them.
            begun: what `begin` said before their neighbours were searched for.
            pictures: that were asked with; empty where vectors were.
            vectors: float32 [n, dimension], that were asked with.
            options: as they were applied.
            made: n decisions, each with all its neighbours.

        Returns:
            the decisions with their ids.

        Raises:
            Blocked: a removal refuses a picture, a vector or a subject that the filter names from now on.
            BeingRemoved: a removal takes what was asked with, or what the filter names.
            Unavailable: a removal was done meanwhile; ask once more.
            TooLarge: one is larger than `MAX_BYTES`; none is kept.
            OutOfSpace: there is no room for them.
        """
        hashes = [sha256(picture).hexdigest() for picture in pictures]
        stored = [
            StoredDecision(
                asked_at=begun.at,
                asked_by=asked_by,
                query=base64.b64encode(vector.astype(FLOATS).tobytes()).decode(),
                content_hash=content_hash,
                options=options,
                decision=decision.model_copy(update={"id": _new_id()}),
            )
            for vector, content_hash, decision in zip(vectors, hashes or repeat(None, len(made)), made, strict=True)
        ]
        sizes = [len(each.model_dump_json().encode()) for each in stored]
        if max(sizes, default=0) > MAX_BYTES:
            raise TooLarge(
                f"a decision with all its neighbours takes {max(sizes):,} bytes, and at most {MAX_BYTES:,} are kept of"
                " one: ask for a smaller k, or without store"
            )
        if self.blocks.block_any(tenant, chain.from_iterable(map(_refusable, stored))):
            raise Blocked(
                "a removal refuses this content, this vector or a subject that the filter names from now on, so nothing"
                " of it is kept: ask without store"
            )
        told = [mentions_of(tenant, each) for each in stored]
        unheld = self._names_nothing_has(tenant, options) if self._running.are_any(tenant) else False
        with self.database.write() as connection:
            self.database.serial(connection, f"decisions:{tenant}", shared=True)
            covered = self._running.covered(connection, tenant, begun, stored, told, unheld=unheld)
            for each, mentions in zip(stored, told, strict=True):
                left = scrubbed(each, covered)
                insert_decision(connection, tenant, left, mentions if left is each else None)
        self._trim_now_and_then(tenant, len(stored) / self.keep + sum(sizes) / self.keep_bytes)
        return [each.decision for each in stored]

    def load(self, tenant: str, decision_id: str) -> StoredDecision:
        """A decision.

        Raises:
            NotFound: there is none of this id.
        """
        query = select(decisions.c.body).where(decisions.c.tenant == tenant, decisions.c.id == decision_id)
        with self.database.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        if body is None:
            raise NotFound(f"there is no stored decision {decision_id!r}")
        return StoredDecision.model_validate_json(body)

    def latest(self, tenant: str, limit: int) -> Iterator[StoredDecision]:
        """The latest decisions; the latest first, a few in memory at once."""
        before = None
        while limit > 0:
            older = () if before is None else (decisions.c.id < before,)
            query = select(decisions.c.id, decisions.c.body).where(decisions.c.tenant == tenant, *older)
            with self.database.read() as connection:
                found = connection.execute(query.order_by(decisions.c.id.desc()).limit(min(limit, AT_ONCE))).all()
            yield from (StoredDecision.model_validate_json(row.body) for row in found)
            if not found:
                return
            before, limit = found[-1].id, limit - len(found)

    def telling_of(self, tenant: str, image_ids: Iterable[str], names: Iterable[str]) -> Iterator[StoredDecision]:
        """The decisions in which some images voted, or whose filters name something; the latest last."""
        images = {mention_number(tenant, IMAGE, image_id) for image_id in image_ids}
        for some in batches(sorted(self._telling(images | {mention_number(tenant, NAMED, name) for name in names}))):
            ours = (decisions.c.tenant == tenant) & decisions.c.number.in_(some)
            with self.database.read() as connection:
                bodies = connection.execute(select(decisions.c.body).where(ours).order_by(decisions.c.number)).scalars()
                found = [StoredDecision.model_validate_json(body) for body in bodies]
            yield from found

    def summaries(self, tenant: str, limit: int, label: str | None = None) -> list[DecisionSummary]:
        """The latest decisions, of a label if one is named, without what they were made of; the latest first."""
        columns = [decisions.c[name] for name in DecisionSummary.model_fields]
        of_label = () if label is None else (decisions.c.label == label,)
        query = select(*columns).where(decisions.c.tenant == tenant, *of_label)
        with self.database.read() as connection:
            found = connection.execute(query.order_by(decisions.c.id.desc()).limit(limit)).mappings()
            return [DecisionSummary.model_validate(dict(row)) for row in found]

    def bytes_of_latest(self, tenant: str, limit: int) -> int:
        """How many bytes the latest decisions are."""
        sizes = select(decisions.c.size).where(decisions.c.tenant == tenant)
        latest = sizes.order_by(decisions.c.id.desc()).limit(limit).subquery()
        with self.database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(latest.c.size), 0))).scalar_one())

    def delete(self, tenant: str, decision_id: str, within: Within = nothing_else) -> None:
        """Delete a decision for good."""
        ours = (decisions.c.tenant == tenant) & (decisions.c.id == decision_id)
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(decisions).where(ours))
            within(connection, decision_id)

    def note_vectors(self, tenant: str, removal_id: str) -> None:
        """Note by what the vectors of images are known again that a removal has marked, before they are deleted."""
        for page in self.memory.marked_pages(tenant, removal_id, PAGE):
            known_by = self.memory.vector_digests(page, with_pictures=True)
            told = vector_mentions(tenant, [digest for digests in known_by.values() for digest in digests])
            for some in batches(sorted(told)):
                rows = [{"removal": removal_id, "mention": each} for each in some]
                with self.database.write(urgent=True) as connection:
                    connection.execute(self.database.insert(covered_vectors).values(rows).on_conflict_do_nothing())

    def drop_vectors(self, connection: Connection, _tenant: str, removal_id: str) -> None:
        """Delete these notes, in the transaction that ends the removal."""
        connection.execute(delete(covered_vectors).where(covered_vectors.c.removal == removal_id))

    def forget(self, tenant: str, covered: CoveredImages) -> None:
        """Take images that are gone out of the decisions: the removal's hook."""
        with self.database.write(urgent=True) as connection:  # waits for those that did not see the notes
            self.database.serial(connection, f"decisions:{tenant}")
        for some in batches(sorted(self._asked_with_covered(tenant)), AT_ONCE):
            self._change(tenant, some, lambda _stored: None)
        names = named_values(covered.filter)
        naming = self._telling(mention_number(tenant, NAMED, name) for name in names)
        for some in batches(sorted(naming), AT_ONCE):
            self._change(tenant, some, lambda stored: None if named_values(stored.options.filter) & names else stored)
        for chunk in chunks(tenant, covered):
            for some in batches(sorted(self._telling(chunk.mentions())), AT_ONCE):
                self._change(tenant, some, partial(self._without, tenant, chunk))

    def settle_all(self) -> int:
        """Hold all decisions against the memory, and scrub what is not there as it was when they were made.

        For a restore: a backup may be older than what was removed since.

        Returns:
            how many had to go as a whole.
        """
        last, gone = 0, 0
        while True:
            query = select(decisions.c.number, decisions.c.tenant).where(decisions.c.number > last)
            with self.database.read() as connection:
                found = connection.execute(query.order_by(decisions.c.number).limit(AT_ONCE)).all()
            if not found:
                return gone
            last = found[-1].number
            for row in found:
                gone += self._change(row.tenant, [row.number], partial(self._held, row.tenant))

    @property
    def _running(self) -> ConcurrentRemovals:
        return ConcurrentRemovals(self.database)

    def _held(self, tenant: str, stored: StoredDecision) -> StoredDecision | None:
        """A decision without the neighbours that are not there any more, or that came after the question."""
        if self.blocks.block_any(tenant, _refusable(stored)):
            return None
        ids = {each.image_id for each in stored.decision.neighbours}
        held = self.memory.get(tenant, ids)
        return scrubbed(stored, {each for each in ids if each not in held or held[each].accepted_at > stored.asked_at})

    def _without(self, tenant: str, chunk: CoveredChunk, stored: StoredDecision) -> StoredDecision | None:
        """A decision without some images that are gone; None where it must go as a whole."""
        ids = chunk.image_ids
        if stored.content_hash in chunk.content_hashes or queried_with(stored, ids):
            return None
        for field_name, value in field_values(stored.options.filter):
            name = value_name(field_name, value)
            if name in chunk.own_names:
                return None
            if (field_name, name) in chunk.shared_names and not self.memory.has(tenant, field_name, value):
                return None
        return scrubbed(stored, ids)

    def _names_nothing_has(self, tenant: str, options: ClassifyOptions) -> bool:
        """Whether a filter names what no image has; what a removal takes votes for nothing any more."""
        named = ((name, value) for name, value in field_values(options.filter) if isinstance(value, str))
        return any(not self.memory.has(tenant, name, value) for name, value in named)

    def _telling(self, mentions: Iterable[int]) -> set[int]:
        """The numbers of the decisions that tell of something."""
        found: set[int] = set()
        for some in batches(mentions):
            query = select(decision_mentions.c.decision).where(decision_mentions.c.mention.in_(some))
            with self.database.read() as connection:
                found.update(connection.execute(query).scalars())
        return found

    def _asked_with_covered(self, tenant: str) -> set[int]:
        """The numbers of the decisions that were asked with the vector of an image which a running removal covers."""
        vectors = removals.join(covered_vectors)
        both = vectors.join(decision_mentions, decision_mentions.c.mention == covered_vectors.c.mention)
        query = select(decision_mentions.c.decision).select_from(both).where(removals.c.tenant == tenant)
        with self.database.read() as connection:
            return set(connection.execute(query).scalars())

    def _change(self, tenant: str, numbers: Collection[int], change: Change) -> int:
        """Change decisions, again where somebody else changed one meanwhile; returns how many are deleted."""
        left, gone = set(numbers), 0
        while left:
            query = select(decisions.c.number, decisions.c.tenant, decisions.c.version, decisions.c.body)
            with self.database.read() as connection:
                found = connection.execute(query.where(decisions.c.number.in_(left))).all()
            ours = (row for row in found if row.tenant == tenant)  # the numbers of mentions may be alike by chance
            read = [(row, StoredDecision.model_validate_json(row.body)) for row in ours]
            changed = [(row, stored, change(stored)) for row, stored in read]
            left = set()
            with self.database.write(urgent=True) as connection:
                for row, stored, new in changed:
                    if new is stored:
                        continue
                    if not _replace(connection, tenant, row.number, row.version, new):
                        left.add(row.number)
                    elif new is None:
                        gone += 1
        return gone

    def _trim_now_and_then(self, tenant: str, more: float) -> None:
        """Trim what is kept of a tenant where it grew by this part of what may be kept, and that adds up to enough."""
        with self._counting:
            before = self._grown.get(tenant, 0.0)
            self._grown[tenant] = before + more
        if before == 0 or int(before * TRIMS) != int((before + more) * TRIMS):
            self._trim(tenant)

    def _trim(self, tenant: str) -> None:
        ordered: dict[str, Any] = {"order_by": decisions.c.id.desc()}
        number = func.row_number().over(**ordered).label("number")
        bytes_ = func.sum(decisions.c.size).over(**ordered).label("bytes")
        ranked = select(decisions.c.id, number, bytes_).where(decisions.c.tenant == tenant).subquery()
        over = (ranked.c.number > self.keep) | (ranked.c.bytes > self.keep_bytes)
        newest = select(func.max(ranked.c.id)).where(over).scalar_subquery()
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(decisions).where(decisions.c.tenant == tenant, decisions.c.id <= newest))


def insert_decision(
    connection: Connection, tenant: str, stored: StoredDecision, mentions: Collection[int] | None = None
) -> None:
    """Write a new decision, with what it tells of."""
    row = insert(decisions).values(tenant=tenant, **_columns(stored)).returning(decisions.c.number)
    number = connection.execute(row).scalar_one()
    _insert_mentions(connection, number, mentions_of(tenant, stored) if mentions is None else mentions)


def _refusable(stored: StoredDecision) -> Iterator[tuple[str, str]]:
    """What blocks may refuse of a decision, each of its kind: what was asked with, and the subjects of the filter."""
    if stored.content_hash is not None:
        yield CONTENT, stored.content_hash
    yield from ((VECTOR, digest) for digest in vector_digests(query_vector(stored)[None])[0])
    named = field_values(stored.options.filter)
    yield from ((SUBJECT, value) for field_name, value in named if field_name == "subject")


def _insert_mentions(connection: Connection, number: int, mentions: Collection[int]) -> None:
    connection.execute(insert(decision_mentions), [{"mention": each, "decision": number} for each in sorted(mentions)])


def _replace(connection: Connection, tenant: str, number: int, version: int, new: StoredDecision | None) -> bool:
    """Write what becomes of a decision that was read; False where somebody else has changed it since."""
    as_read: ColumnElement[bool] = (decisions.c.number == number) & (decisions.c.version == version)
    if new is None:
        there = select(decisions.c.number).where(decisions.c.number == number)
        done = connection.execute(delete(decisions).where(as_read)).rowcount == 1
        return done or connection.execute(there).first() is None
    written = update(decisions).where(as_read).values(version=version + 1, **_columns(new))
    if connection.execute(written).rowcount != 1:
        return False
    connection.execute(delete(decision_mentions).where(decision_mentions.c.decision == number))
    _insert_mentions(connection, number, mentions_of(tenant, new))
    return True


def _columns(stored: StoredDecision) -> dict[str, Any]:
    decision, body = stored.decision, stored.model_dump_json()
    return {
        "id": stored.id,
        "size": len(body.encode()),
        "asked_at": stored.asked_at,
        "asked_by": stored.asked_by,
        "label": decision.label,
        "margin": decision.margin,
        "voters": decision.voters,
        "scrubbed": stored.scrubbed,
        "body": body,
    }


def _new_id() -> str:
    return f"{now():%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"
