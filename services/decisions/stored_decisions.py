"""Store, load, list and trim decisions.

A decision is one row; a second table indexes what it mentions (`services.decisions.decision_mentions`), so that a
removal finds it (`services.decisions.remove_from_decisions`). A query is not stored where a removal blocks its
picture, its vector, or a subject in its filter.

A removal may run while a decision is being stored. The transaction that writes the decision compares it with the
images that running removals have noted (`services.decisions.concurrent_removals`).
"""

import base64
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, repeat
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import Blocked, NotFound, TooLarge
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision
from visual_memory.services.decisions.concurrent_removals import ConcurrentRemovals, RequestStart
from visual_memory.services.decisions.decision_mentions import (
    IMAGE,
    NAMED,
    decisions_mentioning,
    insert_mentions,
    mention_hash,
    mentions_of,
    replace_mentions,
)
from visual_memory.services.decisions.scrub_decision import FLOATS, query_vector, scrubbed
from visual_memory.services.infrastructure.records.database import Database, Within, batches, nothing_else
from visual_memory.services.infrastructure.records.keyset_pages import LatestFirst
from visual_memory.services.infrastructure.records.tables import decisions
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.removal.blocklist import CONTENT, SUBJECT, VECTOR, Blocklist
from visual_memory.services.removal.values_named_in_filters import field_values
from visual_memory.services.vector_engines.engine_contract import Vectors

LIST = LatestFirst(ListCursors("decisions", tuple[CursorText]), (decisions.c.id,))
AT_ONCE = 32
"""Decisions that are read at once, each of at most `MAX_BYTES`."""
TRIMS = 100
"""Trimming runs each time a tenant's decisions have grown by this fraction, 1 / `TRIMS`, of the limit."""
MAX_BYTES = 2**20
"""Of one decision: a thousand neighbours with a label or two take a quarter of it."""


@dataclass(frozen=True)
class StoredDecisions:
    """The records of every tenant's decisions.

    Attributes:
        memory: says which images exist.
        keep: the most decisions of each tenant; the oldest are deleted.
        keep_bytes: the most bytes of each tenant's decisions; the oldest are deleted.
    """

    database: Database
    memory: Memory
    blocks: Blocklist
    keep: int
    keep_bytes: int
    _grown: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, tenant: str) -> RequestStart:
        """Called before the search for neighbours; `store` needs the result."""
        return self._removals.begin(tenant)

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
        """Store decisions; durable on return.

        Args:
            tenant: whose memory voted.
            asked_by: who sent the queries, as the API knows them.
            begun: the result of `begin` before the search.
            pictures: of the queries; empty where vectors were sent.
            vectors: float32 [n, dimension], of the queries.
            options: as they were applied.
            made: n decisions, each with all its neighbours.

        Returns:
            the decisions with their ids.

        Raises:
            Blocked: a removal blocks a picture, a vector or a subject of the filter.
            BeingRemoved: a running removal covers a query, or a value of the filter.
            Unavailable: a removal was done since `begin`; the query must be sent again.
            TooLarge: a decision is larger than `MAX_BYTES`; none is stored.
            OutOfSpace: the disk has no space for them.
        """
        hashes = [sha256(picture).hexdigest() for picture in pictures] or repeat(None, len(made))
        stored = [
            StoredDecision(
                asked_at=begun.at,
                asked_by=asked_by,
                query=base64.b64encode(vector.astype(FLOATS).tobytes()).decode(),
                content_hash=content_hash,
                options=options,
                decision=decision.model_copy(update={"id": _new_id()}),
            )
            for vector, content_hash, decision in zip(vectors, hashes, made, strict=True)
        ]
        self._write(tenant, begun, stored, options)
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
        """The latest decisions, the latest first; read in batches."""
        before = None
        while limit > 0:
            older = () if before is None else (decisions.c.id < before,)
            query = select(decisions.c.id, decisions.c.body).where(decisions.c.tenant == tenant, *older)
            with self.database.read() as connection:
                rows = connection.execute(query.order_by(decisions.c.id.desc()).limit(min(limit, AT_ONCE))).all()
            yield from (StoredDecision.model_validate_json(row.body) for row in rows)
            if not rows:
                return
            before, limit = rows[-1].id, limit - len(rows)

    def mentioning(self, tenant: str, image_ids: Iterable[str], names: Iterable[str]) -> Iterator[StoredDecision]:
        """The decisions in which some images voted, or whose filters contain some values; the latest last."""
        hashes = {mention_hash(tenant, IMAGE, image_id) for image_id in image_ids}
        hashes |= {mention_hash(tenant, NAMED, name) for name in names}
        for batch in batches(sorted(decisions_mentioning(self.database, hashes))):
            own = (decisions.c.tenant == tenant) & decisions.c.number.in_(batch)
            with self.database.read() as connection:
                bodies = connection.execute(select(decisions.c.body).where(own).order_by(decisions.c.number)).scalars()
                found = [StoredDecision.model_validate_json(body) for body in bodies]
            yield from found

    def summaries(
        self, tenant: str, asked: PageRequest = FIRST_PAGE, label: str | None = None
    ) -> Page[DecisionSummary]:
        """A page of the decisions without neighbours and options, the latest first; of one label if it is given.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        columns = [decisions.c[name] for name in DecisionSummary.model_fields]
        of_label = () if label is None else (decisions.c.label == label,)
        query = select(*columns).where(decisions.c.tenant == tenant, *of_label)
        with self.database.read() as connection:
            return LIST.page(connection, query, asked, lambda row: DecisionSummary(**row._mapping))  # noqa: SLF001

    def bytes_of_latest(self, tenant: str, limit: int) -> int:
        """The size of the latest decisions in bytes."""
        sizes = select(decisions.c.size).where(decisions.c.tenant == tenant)
        latest = sizes.order_by(decisions.c.id.desc()).limit(limit).subquery()
        with self.database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(latest.c.size), 0))).scalar_one())

    def delete(self, tenant: str, decision_id: str, within: Within = nothing_else) -> None:
        """Delete a decision; no error where there is none."""
        this = (decisions.c.tenant == tenant) & (decisions.c.id == decision_id)
        with self.database.write(urgent=True) as connection:
            connection.execute(delete(decisions).where(this))
            within(connection, decision_id)

    @property
    def _removals(self) -> ConcurrentRemovals:
        return ConcurrentRemovals(self.database)

    def _write(
        self, tenant: str, begun: RequestStart, stored: Sequence[StoredDecision], options: ClassifyOptions
    ) -> None:
        sizes = [len(each.model_dump_json().encode()) for each in stored]
        if max(sizes, default=0) > MAX_BYTES:
            raise TooLarge(
                f"a decision with all its neighbours takes {max(sizes):,} bytes; at most {MAX_BYTES:,} are stored of"
                " one: use a smaller k, or do not store it"
            )
        if self.blocks.is_any_blocked(tenant, chain.from_iterable(map(blockable, stored))):
            raise Blocked(
                "a removal blocks this content, this vector or a subject of the filter, so the decision is not stored:"
                " send the request without `store`"
            )
        mentions = [mentions_of(tenant, each) for each in stored]
        unused_value = self._names_unused_value(tenant, options) if self._removals.are_any(tenant) else False
        with self.database.write() as connection:
            self.database.serial(connection, decisions_lock(tenant), shared=True)
            covered = self._removals.covered(connection, tenant, begun, stored, mentions, unused_value=unused_value)
            for each, hashes_of_it in zip(stored, mentions, strict=True):
                left = scrubbed(each, covered)
                insert_decision(connection, tenant, left, hashes_of_it if left is each else None)
        self._trim_sometimes(tenant, len(stored) / self.keep + sum(sizes) / self.keep_bytes)

    def _names_unused_value(self, tenant: str, options: ClassifyOptions) -> bool:
        """Whether a filter contains a value that no image has: a removal may have deleted all that had it."""
        values = ((name, value) for name, value in field_values(options.filter) if isinstance(value, str))
        return any(not self.memory.images.has_value(tenant, name, value) for name, value in values)

    def _trim_sometimes(self, tenant: str, growth: float) -> None:
        """Trim a tenant's decisions where their growth, as a fraction of the limit, adds up to enough."""
        with self._lock:
            before = self._grown.get(tenant, 0.0)
            self._grown[tenant] = before + growth
        if before == 0 or int(before * TRIMS) != int((before + growth) * TRIMS):
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


def decisions_lock(tenant: str) -> str:
    """The name of the lock that transactions storing decisions share, and that a removal takes alone."""
    return f"decisions:{tenant}"


def blockable(stored: StoredDecision) -> Iterator[tuple[str, str]]:
    """The kinds and values of a decision that removals may block: its query, and the subjects of its filter."""
    if stored.content_hash is not None:
        yield CONTENT, stored.content_hash
    yield from ((VECTOR, digest) for digest in vector_digests(query_vector(stored)[None])[0])
    values = field_values(stored.options.filter)
    yield from ((SUBJECT, value) for field_name, value in values if field_name == "subject")


def insert_decision(
    connection: Connection, tenant: str, stored: StoredDecision, mentions: Collection[int] | None = None
) -> None:
    """Write a new decision with its mentions; None: compute them."""
    row = insert(decisions).values(tenant=tenant, **_columns(stored)).returning(decisions.c.number)
    number = connection.execute(row).scalar_one()
    insert_mentions(connection, number, mentions_of(tenant, stored) if mentions is None else mentions)


def replace_decision(
    connection: Connection, tenant: str, number: int, version: int, new: StoredDecision | None
) -> bool:
    """Write a changed decision, or delete it where `new` is None; False where it was changed since it was read."""
    as_read: ColumnElement[bool] = (decisions.c.number == number) & (decisions.c.version == version)
    if new is None:
        row = select(decisions.c.number).where(decisions.c.number == number)
        deleted = connection.execute(delete(decisions).where(as_read)).rowcount == 1
        return deleted or connection.execute(row).first() is None
    written = update(decisions).where(as_read).values(version=version + 1, **_columns(new))
    if connection.execute(written).rowcount != 1:
        return False
    replace_mentions(connection, number, mentions_of(tenant, new))
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
