"""The contract over Qdrant Edge: the server's engine inside this process, in a folder that it holds alone."""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from schemas.errors import OutOfSpace, Unavailable
from services.memory.copying import Copy
from services.memory.engine import Answer, Compaction, Index, Named, Payload, Search, Shape, Vectors
from services.memory.indexing import IndexFailed, build_index
from services.memory.shards import Shard, Shards, settle, sync
from services.memory.space import DELETE, FINISH, NEW, REMOVE, check_room
from services.memory.tuning import REACH

ALL = 2**31 - 1
FLUSH_SECONDS = 2.0
FLUSH_REST = 4
"""How long to wait between two flushes: at least so many times as long as the last one took, for nobody else gets
anything done meanwhile; on a busy disk one took 0.8 s."""
ROUNDS = 10
FEW = 100
"""A compaction copies what was written meanwhile in rounds, until they are few or it has done so many times."""
LOOK_SECONDS = 30.0
REST_SECONDS = 3600.0
"""How often to ask whether an index is due, and how long after one that could not be built."""
BUSY = 10_000
MOST_PUT_OFF = 10
"""While more points than that are written from one look to the next, only every tenth look counts: an index would take
the cores from those who write, and be too small when it is done."""
FEWEST_PLAIN = 20_000
PLAIN_PART = 5
"""An index is due when so many points are outside of it, and a fifth of those within; all of them are compared."""
PER_POINT = 512
"""Bytes; a mark on each of 20,000 points took 275 a point, a deletion 17."""
PER_NEW = 4096
COPIES = 2
"""A new point with its vector takes so much at most, and its vector twice: in the log and in a segment."""
BLOCK = 512
"""Bytes of a block, as `os.stat` counts them."""
LONGEST_LOG = 128 * 2**20
"""Bytes; the engine keeps one closed file of 32 MiB, one in use, one ahead, and what came since the last flush."""
log = logging.getLogger(__name__)
Ids = set[str]
_INDEXES: Mapping[str, edge.PayloadSchemaType] = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
}


class EdgeEngine:
    """One collection in a folder of this machine.

    Args:
        folder: created where missing; held by one process at a time.
        floor: bytes that must stay free on its disk, see `services.memory.space`; a full disk would end the process.
            With too few to open the collection every call raises `OutOfSpace`, until there is room.

    Raises:
        Unavailable: another process holds the folder.
    """

    def __init__(self, folder: Path, floor: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._floor = floor
        self._lock = _hold(folder / "lock")
        self._shards = Shards(folder, floor)
        self._writing = threading.Lock()  # an operation by filter must not meet half of another write
        self._touched: Ids | None = None  # while a compaction runs: the points that were written since it looked
        self._written: Ids = set()  # since the shard was opened: they lie outside of its index
        self._commit = GroupCommit(self._sync_log)
        self._rewriting = threading.Lock()
        self._compacted = GroupCommit(self._erase)
        self._unflushed = threading.Event()
        self._ending = threading.Event()
        self._flusher = threading.Thread(target=self._flush_now_and_then, name="flusher", daemon=True)
        self._flusher.start()
        self._indexer = threading.Thread(target=self._index_now_and_then, name="indexer", daemon=True)
        self._indexer.start()

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        vectors = self._shards.vectors()
        if vectors is None:
            return None
        kinds = {str(kind): name for name, kind in _INDEXES.items()}
        with self._shards.use() as shard:
            schema = shard.engine.info().payload_schema
        return Shape(vectors, {field: kinds[str(index.data_type)] for field, index in schema.items()})

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        with self._writing, _translated():
            if self._shards.vectors() is None:
                self._need(NEW)
                self._shards.switch(self._shards.make({vector: size}), {vector: size})
        self.index(indexes)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        with self._writing, self._shards.use() as shard, _translated():
            self._need(NEW)
            for field, schema in indexes.items():
                shard.engine.update(edge.UpdateOperation.create_field_index(field, _index(schema)))
        self._commit()

    def insert(self, points: Sequence[models.PointStruct], vectors: Named | None = None) -> None:
        """See `Engine.insert`."""

        def absent(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            given = [str(point.id) for point in points]
            ids = {*given} - _ids(shard.engine.retrieve([*given], False, False))
            return ids, edge.UpdateOperation.upsert_points(_points(points, vectors, ids))

        self._write(absent, NEW, vectors)

    def replace(self, points: Sequence[models.PointStruct], where: models.Filter, vectors: Named | None = None) -> None:
        """See `Engine.replace`."""

        def present(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where, [str(point.id) for point in points])
            return ids, edge.UpdateOperation.upsert_points(_points(points, vectors, ids))

        self._write(present, NEW, vectors)

    def set_payload(self, payload: Payload, where: models.Filter, urgent: bool = False) -> None:
        """See `Engine.set_payload`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where)
            return ids, edge.UpdateOperation.set_payload([*ids], payload)

        self._write(met, REMOVE if urgent else FINISH)

    def update_vectors(self, name: str, ids: Sequence[str], vectors: Vectors, where: models.Filter) -> None:
        """See `Engine.update_vectors`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            there = _meeting(shard, where, ids)
            rows = zip(ids, vectors.tolist(), strict=True)
            given = [edge.PointVectors(point, {name: row}) for point, row in rows if point in there]
            return there, edge.UpdateOperation.update_vectors(given)

        self._write(met, FINISH)

    def delete(self, where: models.Filter) -> None:
        """See `Engine.delete`."""

        def met(shard: Shard) -> tuple[Ids, edge.UpdateOperation]:
            ids = _meeting(shard, where)
            return ids, edge.UpdateOperation.delete_points([*ids])

        self._write(met, DELETE)

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        with self._shards.use() as shard:
            records = shard.engine.retrieve(list(ids), with_payload=True, with_vector=False)
        return [record.payload or {} for record in records]

    def scroll(self, where: models.Filter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=_filter(where), with_payload=True)
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def export(
        self, where: models.Filter | None, limit: int, cursor: str | None
    ) -> tuple[list[models.PointStruct], str | None]:
        """See `Engine.export`."""
        condition = None if where is None else _filter(where)
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=condition, with_payload=True, with_vector=True)
        with self._shards.use() as shard:
            records, following = shard.engine.scroll(request)
        points = [
            models.PointStruct(id=str(record.id), vector=cast(Any, record.vector or {}), payload=record.payload)
            for record in records
        ]
        return points, None if following is None else str(following)

    def count(self, where: models.Filter) -> int:
        """See `Engine.count`."""
        with self._shards.use() as shard:
            return shard.engine.count(edge.CountRequest(exact=True, filter=_filter(where)))

    def facet(self, field: str, where: models.Filter) -> dict[str, int]:
        """See `Engine.facet`."""
        request = edge.FacetRequest(field, limit=ALL, exact=True, filter=_filter(where))
        with self._shards.use() as shard:
            return {str(hit.value): hit.count for hit in shard.engine.facet(request).hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        params, where = _params(search), _filter(search.where)
        requests = [
            edge.QueryRequest(
                limit=search.k,
                query=edge.Query.Nearest(row, using=search.name),
                filter=where,
                params=params,
                with_payload=list(search.fields),
            )
            for row in vectors.tolist()
        ]
        with self._shards.use() as shard:
            answers = shard.engine.query_batch(edge.QueryBatchRequest(requests))
        return [Answer.of(((each.score, each.payload or {}) for each in one), search.fields) for one in answers]

    def compact(self) -> Compaction:
        """See `Engine.compact`."""
        self._compacted()
        return Compaction(erased=True)

    def ping(self) -> None:
        """See `Engine.ping`."""
        if self._shards.vectors() is not None:
            with self._shards.use() as shard:
                shard.engine.info()

    def close(self) -> None:
        """See `Engine.close`."""
        self._ending.set()
        self._flusher.join()
        self._indexer.join()
        self._shards.close()
        os.close(self._lock)

    def _erase(self) -> None:
        with self._rewriting:
            try:
                self._rewrite()
            except (IndexFailed, OutOfSpace):  # no reason to keep what was to be erased
                log.exception("the collection is compacted without an index")
                self._rewrite(index=False)

    def _rewrite(self, *, index: bool = True) -> None:
        """Copy what lives into a new shard and let it take the old one's place: the engine itself only marks.

        Its optimiser skips small segments, and its log keeps old records. With enough points the copy gets an index.
        """
        vectors = self._shards.vectors()
        if vectors is None:
            return
        with self._shards.use() as old:
            index = index and _is_due(_embedded(old, vectors), 0)
            check_room(self._folder, self._floor * NEW, _size_of_copy(old.folder) * (1 + index))
            new = self._shards.make(vectors)
            try:
                self._copy(old, new, vectors, index=index)
            except BaseException:
                self._shards.discard(new)
                raise
        self._shards.discard(old)

    def _copy(self, old: Shard, new: Shard, vectors: Mapping[str, int], *, index: bool) -> None:
        """Copy while others write, then what they wrote, then the last of it while they wait."""
        try:
            copy = Copy(old.engine, new.engine, self._may_copy)
            copy.indexes()  # before the points, and before a graph is built by them
            self._take_touched()
            copy.all()
            if index:
                self._shards.rebuild(new, lambda folder: build_index(folder, vectors, self._may_copy))
                copy = Copy(old.engine, new.engine, self._may_copy)
            for _ in range(ROUNDS):
                touched = self._take_touched()
                copy.again(touched)
                if len(touched) < FEW:
                    break
            settle(new)  # so that little is left to do while they wait
            with self._writing:
                copy.again(self._touched or ())
                copy.indexes()
                self._shards.switch(new, vectors)
                self._touched, self._written = None, set()
        finally:
            with self._writing:
                self._touched = None

    def _take_touched(self) -> Ids:
        """The points that were written since this was called last; from now on they are noted anew."""
        with self._writing:
            touched, self._touched = self._touched or set(), set()
        return touched

    def _may_copy(self) -> None:
        if self._ending.is_set():
            raise Unavailable("the store ends in the middle of the compaction; send it again")
        self._need(NEW)

    def _need(self, share: float, size: int = 0) -> None:
        check_room(self._folder, self._floor * share, size)

    def _sync_log(self) -> None:
        """Make the write-ahead log durable: what it holds is applied again when the shard is loaded.

        `flush` would write the segments too, which takes 40 times as long with a dozen payload indexes.
        """
        self._unflushed.set()
        with self._shards.use() as shard:
            folder = shard.folder / "wal"
            logs = list(folder.glob("open-*"))
            if not logs:  # another version of the engine, with another layout
                shard.engine.flush()
                return
            for place in (*logs, folder):
                sync(place)

    def _flush_now_and_then(self) -> None:
        """Write the segments, so that the log stays short."""
        pause = FLUSH_SECONDS
        while not self._ending.wait(pause):
            begun = time.monotonic()
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    self._need(DELETE)
                    with self._shards.use() as shard:
                        shard.engine.flush()
                except OutOfSpace as error:
                    self._unflushed.set()
                    log.warning("the segments are not written, the log holds what they lack: %s", error)
                except Exception:
                    self._unflushed.set()
                    log.exception("the segments could not be written; the log holds what they lack")
            pause = max(FLUSH_SECONDS, FLUSH_REST * (time.monotonic() - begun))

    def _index_now_and_then(self) -> None:
        """Build the index anew when too many points are outside of it: they are compared one by one."""
        pause, before, put_off = LOOK_SECONDS, 0, 0
        while not self._ending.wait(pause):
            written = len(self._written)
            busy, before = written - before > BUSY, written
            put_off = put_off + 1 if busy else 0
            if busy and put_off % MOST_PUT_OFF:
                continue
            try:
                with self._rewriting:
                    if self._index_is_due():
                        self._rewrite()
            except Exception as error:
                if self._ending.is_set():
                    return
                pause = REST_SECONDS
                log.warning("no index is built, every search compares what is outside: %s", error, exc_info=error)
            else:
                pause = LOOK_SECONDS

    def _index_is_due(self) -> bool:
        vectors = self._shards.vectors()
        if vectors is None:
            return False
        with self._shards.use() as shard:
            info, written = shard.engine.info(), len(self._written)
            indexed = info.indexed_vectors_count  # those that were deleted or moved since are among them
            if not _is_due(max(written, info.points_count - indexed), indexed):
                return False
            return _is_due(max(written, _embedded(shard, vectors) - indexed), indexed)

    def _write(
        self, decide: Callable[[Shard], tuple[Ids, edge.UpdateOperation]], share: float, vectors: Named | None = None
    ) -> None:
        """Decide which points are written and how, and write them, while nobody else does.

        The log then holds points by their ids: it is applied again after a crash, to segments of which a part may be
        newer than the rest, where a condition could find something else than it did.
        """
        with self._writing, self._shards.use() as shard, _translated():
            self._need(share)
            ids, operation = decide(shard)
            if ids:
                if (size := len(ids) * _size_of(vectors)) > self._floor * DELETE:  # less is within the floors' own room
                    self._need(share, size)
                self._written |= ids
                if self._touched is not None:
                    self._touched |= ids
                shard.engine.update(operation)
        self._commit()  # even without a write: what made the condition fail may not be durable yet


class GroupCommit:
    """One sync for many writers: each waits for the first sync that began after its write.

    Args:
        sync: makes durable all that was written before it was called.
    """

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._turn = threading.Condition()
        self._begun = 0
        self._done = 0
        self._busy = False

    def __call__(self) -> None:
        """Return once a sync that began after this call has ended well; raise what the own sync raises."""
        with self._turn:
            needed = self._begun + 1
            while self._done < needed:
                if self._busy:
                    self._turn.wait()
                else:
                    self._lead()

    def _lead(self) -> None:
        self._begun += 1
        number, self._busy = self._begun, True
        self._turn.release()
        try:
            with _translated():
                self._sync()
        except BaseException:
            number = 0  # those who wait for it must sync for themselves
            raise
        finally:
            self._turn.acquire()
            self._done, self._busy = max(self._done, number), False
            self._turn.notify_all()


def _hold(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Unavailable(f"another process holds {path.parent}; stop it first") from None
    return lock


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Edge raises nothing more particular
        if "No space left" in str(error):
            raise OutOfSpace("the disk is full; make room, then send it again") from error
        raise


def _size_of_copy(folder: Path) -> int:
    """Bytes that the copy of a shard may take: its segments, and a log of what is put into it."""
    segments = sum(place.stat().st_blocks * BLOCK for place in (folder / "segments").rglob("*"))
    return segments + min(segments, LONGEST_LOG)


def _is_due(outside: int, indexed: int) -> bool:
    """Whether so many points outside of an index are too many."""
    return outside > FEWEST_PLAIN and outside * PLAIN_PART > indexed


def _embedded(shard: Shard, vectors: Iterable[str]) -> int:
    """How many points have a vector."""
    some = edge.Filter(should=[edge.HasVectorCondition(name) for name in vectors])
    return shard.engine.count(edge.CountRequest(exact=True, filter=some))


def _params(search: Search) -> edge.SearchParams:
    reach = REACH.get(search.effort)
    if reach is None:
        return edge.SearchParams(exact=True)
    compared = edge.QuantizationSearchParams(rescore=True, oversampling=reach.oversampling(search.k))
    return edge.SearchParams(hnsw_ef=reach.ef(far=search.far), quantization=compared)


def _size_of(vectors: Named | None) -> int:
    """Bytes that the change of a point may take; with its vector, where it is new."""
    return PER_POINT if vectors is None else PER_NEW + COPIES * vectors.rows.itemsize * vectors.rows.shape[1]


def _ids(records: Iterable[edge.Record]) -> Ids:
    return {str(record.id) for record in records}


def _meeting(shard: Shard, where: models.Filter, ids: Sequence[str] | None = None) -> Ids:
    """The points that meet a filter; with `ids`, those of these."""
    among = edge.Filter(must=[edge.HasIdCondition({*ids}), _filter(where)]) if ids is not None else _filter(where)
    records, _ = shard.engine.scroll(edge.ScrollRequest(limit=ALL, filter=among, with_payload=False))
    return _ids(records)


def _index(schema: Index) -> Any:
    if isinstance(schema, models.KeywordIndexParams):
        return edge.KeywordIndexParams(is_tenant=schema.is_tenant)
    return _INDEXES[schema.value]


def _points(points: Sequence[models.PointStruct], vectors: Named | None, ids: Ids) -> list[edge.Point]:
    """Those of these ids in Edge's words."""
    if vectors is None:
        held = (dict[str, Any](point.vector) if isinstance(point.vector, dict) else {} for point in points)
    else:
        held = ({vectors.name: memoryview(row)} for row in vectors.rows)  # Edge reads each number out of it
    given = zip(points, held, strict=True)
    return [edge.Point(str(point.id), vector, point.payload) for point, vector in given if str(point.id) in ids]


def _filter(given: models.Filter) -> edge.Filter:
    """The same filter in Edge's words; a kind of condition that nothing here builds is a TypeError."""

    def side(conditions: Any) -> list[Any] | None:
        return None if conditions is None else [_condition(condition) for condition in conditions]

    return edge.Filter(must=side(given.must), should=side(given.should), must_not=side(given.must_not))


def _condition(given: object) -> Any:
    match given:
        case models.Filter():
            return _filter(given)
        case models.HasVectorCondition():
            return edge.HasVectorCondition(given.has_vector)
        case models.FieldCondition(match=models.MatchValue() as match):
            # a Python bool would be taken for the number 0 or 1, and match no payload
            value: Any = np.bool_(match.value) if isinstance(match.value, bool) else match.value
            return edge.FieldCondition(given.key, match=edge.MatchValue(value))
        case models.FieldCondition(match=models.MatchAny() as match):
            return edge.FieldCondition(given.key, match=edge.MatchAny(list(match.any)))  # type: ignore[arg-type]
        case models.FieldCondition(range=models.Range() as bounds):
            return edge.FieldCondition(given.key, range=edge.RangeFloat(**bounds.model_dump()))
        case models.FieldCondition(range=models.DatetimeRange() as bounds):
            return edge.FieldCondition(given.key, range=edge.RangeDateTime(**bounds.model_dump(mode="json")))
    raise TypeError(f"no such condition on Edge: {given!r}")
