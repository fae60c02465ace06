"""Stored decisions: kept so that they can be looked up and asked again; nothing that was removed stays in them.

A decision is one record under ``decisions/TENANT/ID``; ids sort by time. Where one is deleted, a mark under
``decisions-gone/`` keeps a backup, or whoever is about to rewrite it at this moment, from bringing it back.

What a removal covers is found by reading the tenant's decisions, each of which is a file of its own: 10,000 of 17 kB
take about a second, and an index would cost every classification a second write. A neighbour that was removed leaves
no trace: the votes are counted again without it, so that the decision stays a pure function of the neighbours that it
shows, and no share or label tells what only the removed had said. So the label may become another, and `scrubbed` says
that this happened; what would be decided today, with others in their place, a replay tells.

The decision goes as a whole where the picture that was asked with is removed, or where its filter names what is.
"""

import base64
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice, repeat
from typing import Any

import numpy as np

from schemas.decision import ClassifyOptions, Decision
from schemas.errors import Blocked, NotFound, TooLarge
from schemas.image import StoredImage, now
from schemas.question import StoredDecision
from services.decision.votes import decide
from services.forgetting.blocks import Blocks
from services.forgetting.covered_images import CoveredImages
from services.memory.engine import Vectors
from services.memory.ledger import Ledger
from services.memory.memory import Memory

ID = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")
FLOATS = "<f4"
AT_ONCE = 32
"""Decisions that are read at once, each of at most `MAX_BYTES`."""
SOUGHT_AT_ONCE = 50_000
"""Removed images for which the decisions are read once; they take some 25 MB meanwhile."""
TRIMS = 100
"""Decisions over the bound are deleted when a hundredth of it has come in, so that few calls list them."""
MAX_BYTES = 2**20
"""Of one decision: a thousand neighbours with a label or two take a quarter of it."""


@dataclass(frozen=True)
class StoredDecisions:
    """The records of every tenant's decisions.

    Attributes:
        ledger: reads, scrubs and deletes them, with the room on the disk that is kept for removals.
        roomy: the same, for what is new.
        memory: tells which images are there.
        keep: how many of each tenant; the oldest go.
        keep_bytes: how many bytes of each tenant's; the oldest go.
    """

    ledger: Ledger
    roomy: Ledger
    memory: Memory
    blocks: Blocks
    keep: int
    keep_bytes: int
    _grown: dict[str, float] = field(default_factory=dict)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def store(
        self,
        tenant: str,
        asked_by: str,
        asked_at: datetime,
        pictures: Sequence[bytes],
        vectors: Vectors,
        options: ClassifyOptions,
        decisions: Sequence[Decision],
    ) -> list[Decision]:
        """Keep decisions; durable when it returns.

        Args:
            tenant: whose memory was asked.
            asked_by: who asked, as the API knows them.
            asked_at: a moment before their neighbours were searched for.
            pictures: that were asked with; empty where vectors were.
            vectors: float32 [n, dimension], that were asked with.
            options: as they were applied.
            decisions: n, each with all its neighbours.

        Returns:
            the decisions with their ids.

        Raises:
            Blocked: a removal refuses a picture's content from now on.
            TooLarge: one is larger than `MAX_BYTES`; none is kept.
            OutOfSpace: there is no room for them.
        """
        hashes = [sha256(picture).hexdigest() for picture in pictures]
        stored = [
            StoredDecision(
                asked_at=asked_at,
                asked_by=asked_by,
                query=base64.b64encode(vector.astype(FLOATS).tobytes()).decode(),
                content_hash=content_hash,
                options=options,
                decision=decision.model_copy(update={"id": _new_id()}),
            )
            for vector, content_hash, decision in zip(
                vectors, hashes or repeat(None, len(decisions)), decisions, strict=True
            )
        ]
        ids, sizes = [each.id for each in stored], [len(each.model_dump_json().encode()) for each in stored]
        if max(sizes, default=0) > MAX_BYTES:
            raise TooLarge(
                f"a decision with all its neighbours takes {max(sizes):,} bytes, and at most {MAX_BYTES:,} are kept of"
                " one: ask for a smaller k, or without store"
            )
        try:
            for each in stored:
                self.roomy.put(_key(tenant, each.id), each.model_dump(mode="json"))
            # A removal deletes its points, and looks for decisions then. If it looked before these were written, its
            # points are gone by now, which is seen here; if it looks later, it sees these.
            if self.settle(tenant, ids):
                raise Blocked("a removal refuses this content from now on, so nothing of it is kept: ask without store")
        except BaseException:
            for decision_id in ids:
                self.ledger.delete(_key(tenant, decision_id))
            raise
        self._trim_now_and_then(tenant, len(ids) / self.keep + sum(sizes) / self.keep_bytes)
        return [each.decision for each in stored]

    def load(self, tenant: str, decision_id: str) -> StoredDecision:
        """A decision.

        Raises:
            NotFound: there is none of this id.
        """
        if ID.fullmatch(decision_id):  # it comes from a URL and becomes part of a key
            for _, record in self.ledger.get_some([_key(tenant, decision_id)]):
                return StoredDecision.model_validate(record)
        raise NotFound(f"there is no stored decision {decision_id!r}")

    def latest(self, tenant: str, limit: int, label: str | None = None) -> Iterator[StoredDecision]:
        """The latest decisions, of a label if one is named; the latest first, a few in memory at once."""
        keys = self.ledger.list(_key(tenant, ""))[::-1]
        some = (keys[start : start + AT_ONCE] for start in range(0, len(keys), AT_ONCE))
        records = (record for part in some for _, record in self.ledger.get_some(part))
        wanted = (record for record in records if label in (None, record["decision"]["label"]))
        return map(StoredDecision.model_validate, islice(wanted, limit))

    def bytes_of_latest(self, tenant: str, limit: int) -> int:
        """How many bytes the latest decisions are."""
        sizes = self.ledger.sizes(_key(tenant, ""))
        return sum(sizes[key] for key in sorted(sizes, reverse=True)[:limit])

    def delete(self, tenant: str, decision_id: str) -> None:
        """Delete a decision for good."""
        self.ledger.create(_gone_key(tenant, decision_id), True)
        self.ledger.delete(_key(tenant, decision_id))

    def forget(self, tenant: str, covered: CoveredImages) -> None:
        """Take images that are gone out of the decisions: the removal's hook."""
        for ids, hashes in _sought(covered):
            self._forget(tenant, ids, hashes)

    def _forget(self, tenant: str, ids: AbstractSet[str], hashes: AbstractSet[str]) -> None:
        touched = []
        for key in self.ledger.mentioning(_key(tenant, ""), ids | hashes):
            for _, record in self.ledger.get_some([key]):
                stored = StoredDecision.model_validate(record)
                if stored.content_hash in hashes or _names(stored.options, ids):
                    self.delete(tenant, stored.id)
                elif (left := scrubbed(stored, ids)) != stored:
                    self._write(tenant, left)
                    touched.append(stored.id)
        self.settle(tenant, touched)

    def settle(self, tenant: str, decision_ids: Iterable[str]) -> set[str]:
        """Hold decisions against the memory, and scrub what is not there as it was when they were made.

        Whoever writes a decision calls this afterwards. Of two who rewrite one at once the later may bring back what
        the earlier took out; but it looks again after its write, when that has been gone for long.

        Returns:
            the ids of those that had to go as a whole.
        """
        left, refused = set(decision_ids), set[str]()
        while left:
            batch = sorted(left)[:AT_ONCE]
            records = [record for _, record in self.ledger.get_some(_key(tenant, each) for each in batch)]
            marks = set(self.ledger.list(_gone_key(tenant, "")))
            held = self._held(tenant, records)
            left -= set(batch)
            for record in records:
                decision_id = record["decision"]["id"]
                lost = _lost(record, held)
                if _gone_key(tenant, decision_id) in marks or self._blocked(tenant, record):
                    self.delete(tenant, decision_id)
                    refused.add(decision_id)
                elif lost:
                    self._write(tenant, scrubbed(StoredDecision.model_validate(record), lost))
                    left.add(decision_id)
        return refused

    def settle_all(self, _before: datetime | None = None, since: datetime | None = None) -> int:
        """`settle` the decisions of every tenant: after a restore, and for what a kill left behind after a write.

        Args:
            since: only those that were made since this moment are read; None: all.

        Returns:
            how many had to go as a whole.
        """
        first = "" if since is None else _id_of(since)
        by_tenant: dict[str, list[str]] = {}
        for key in self.ledger.list("decisions/"):
            _, tenant, decision_id = key.split("/")
            if decision_id >= first:
                by_tenant.setdefault(tenant, []).append(decision_id)
        return sum(len(self.settle(tenant, ids)) for tenant, ids in by_tenant.items())

    def _write(self, tenant: str, stored: StoredDecision) -> None:
        self.ledger.put(_key(tenant, stored.id), stored.model_dump(mode="json"))

    def _held(self, tenant: str, records: Iterable[Any]) -> dict[str, StoredImage]:
        """Those of all neighbours that are there."""
        return self.memory.get(tenant, {image_id for record in records for image_id in _neighbours(record)})

    def _blocked(self, tenant: str, record: Any) -> bool:
        content_hash = record["content_hash"]
        return content_hash is not None and self.blocks.blocks_content(tenant, content_hash)

    def _trim_now_and_then(self, tenant: str, more: float) -> None:
        """Trim what is kept of a tenant where it grew by this part of what may be kept, and that adds up to enough."""
        with self._counting:
            before = self._grown.get(tenant, 0.0)
            self._grown[tenant] = before + more
        if before == 0 or int(before * TRIMS) != int((before + more) * TRIMS):
            self._trim(tenant)

    def _trim(self, tenant: str) -> None:
        sizes = self.ledger.sizes(_key(tenant, ""))
        total, oldest = 0, ""
        for number, key in enumerate(sorted(sizes, reverse=True)):
            total += sizes[key]
            if number >= self.keep or total > self.keep_bytes:
                self.ledger.delete(key)
            else:
                oldest = key.rpartition("/")[2]
        for mark in self.ledger.list(_gone_key(tenant, "")):
            if mark < _gone_key(tenant, oldest):
                self.ledger.delete(mark)


def scrubbed(stored: StoredDecision, image_ids: AbstractSet[str]) -> StoredDecision:
    """A decision as if some images had not been among its neighbours."""
    decision = stored.decision
    left = [
        neighbour.model_copy(update={"reliability": 1.0})  # what is gone may have had a part in the wrong votes
        for neighbour in decision.neighbours
        if neighbour.image_id not in image_ids
    ]
    gone = len(decision.neighbours) - len(left)
    counted = decide(left, stored.options, decision.encoder, truncated=decision.truncated)
    counted = counted.model_copy(update={"id": decision.id})
    if not left:
        counted = counted.model_copy(update={"reason": "every image that voted is gone"})
    return stored.model_copy(update={"decision": counted, "scrubbed": stored.scrubbed + gone}) if gone else stored


def vector_of(stored: StoredDecision) -> Vectors:
    """The vector that was asked with, float32 [dimension]."""
    return np.frombuffer(base64.b64decode(stored.query), FLOATS).astype(np.float32)


def _sought(covered: CoveredImages) -> Iterator[tuple[set[str], set[str]]]:
    """The ids and content hashes of covered images, of at most `SOUGHT_AT_ONCE` and a page at once."""
    ids, hashes = set[str](), set[str]()
    for page in covered:
        ids.update(note.image_id for note in page)
        hashes.update(note.content_hash for note in page)
        if len(ids) >= SOUGHT_AT_ONCE:
            yield ids, hashes
            ids, hashes = set(), set()
    if ids:
        yield ids, hashes


def _neighbours(record: Any) -> Iterator[str]:
    return (neighbour["image_id"] for neighbour in record["decision"]["neighbours"])


def _lost(record: Any, held: Mapping[str, StoredImage]) -> set[str]:
    """The neighbours that are not there any more, or that came after the question."""
    asked_at = datetime.fromisoformat(record["asked_at"])
    return {each for each in _neighbours(record) if each not in held or held[each].accepted_at > asked_at}


def _names(options: ClassifyOptions, image_ids: AbstractSet[str]) -> bool:
    """Whether the filter of a question names an image."""
    return not image_ids.isdisjoint(options.filter.model_dump_json().split('"'))


def _new_id() -> str:
    return f"{_id_of(now())}-{secrets.token_hex(4)}"


def _id_of(moment: datetime) -> str:
    """What the ids begin with of decisions that are made at a moment."""
    return f"{moment:%Y%m%dT%H%M%S%f}"


def _key(tenant: str, decision_id: str) -> str:
    return f"decisions/{tenant}/{decision_id}"


def _gone_key(tenant: str, decision_id: str) -> str:
    return f"decisions-gone/{tenant}/{decision_id}"
