"""The contract over Qdrant Edge: the server's engine inside this process, in a folder that it holds alone."""

import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from schemas.errors import OutOfSpace, Unavailable
from services.memory.engine import Index, Payload, Scored, Search, Shape, Vectors

ALL = 2**31 - 1
FLUSH_SECONDS = 2.0
log = logging.getLogger(__name__)
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

    Raises:
        Unavailable: another process holds the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._home = folder / "collection"
        self._lock = _hold(folder / "lock")
        self._writing = threading.Lock()  # an operation by filter must not meet half of another write
        self._commit = GroupCommit(self._sync_log)
        self._shard = edge.EdgeShard.load(str(self._home / "shard")) if self._home.exists() else None
        self._unflushed = threading.Event()
        self._ending = threading.Event()
        self._flusher = threading.Thread(target=self._flush_now_and_then, name="flusher", daemon=True)
        self._flusher.start()

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        if self._shard is None:
            return None
        vectors = json.loads((self._home / "vectors.json").read_text())
        kinds = {str(kind): name for name, kind in _INDEXES.items()}
        schema = self._shard.info().payload_schema
        return Shape(vectors, {field: kinds[str(index.data_type)] for field, index in schema.items()})

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        with self._writing, _translated():
            if self._shard is None:
                self._build({vector: size})
                self._shard = edge.EdgeShard.load(str(self._home / "shard"))
        self.index(indexes)

    def _build(self, vectors: dict[str, int]) -> None:
        """Make the collection aside and rename it: after a crash it is there whole or not at all."""
        draft = self._home.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "shard").mkdir(parents=True)
        (draft / "vectors.json").write_text(json.dumps(vectors))
        params = {name: edge.EdgeVectorParams(size, edge.Distance.Cosine) for name, size in vectors.items()}
        shard = edge.EdgeShard.create(str(draft / "shard"), edge.EdgeConfig(vectors=params))
        shard.flush()
        shard.close()
        for place in (*draft.rglob("*"), draft):
            _sync(place)
        draft.rename(self._home)
        _sync(self._home.parent)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        for field, schema in indexes.items():
            self._apply(edge.UpdateOperation.create_field_index(field, _index(schema)))
        self._commit()

    def insert(self, points: Sequence[models.PointStruct]) -> None:
        """See `Engine.insert`."""
        given = [_point(point) for point in points]
        self._write(edge.UpdateOperation.upsert_points(given, update_mode=edge.UpdateMode.InsertOnly))

    def replace(self, points: Sequence[models.PointStruct], where: models.Filter) -> None:
        """See `Engine.replace`."""
        given = [_point(point) for point in points]
        self._write(edge.UpdateOperation.upsert_points(given, _filter(where), edge.UpdateMode.UpdateOnly))

    def set_payload(self, payload: Payload, where: models.Filter) -> None:
        """See `Engine.set_payload`."""
        self._write(edge.UpdateOperation.set_payload_by_filter(_filter(where), payload))

    def update_vectors(self, name: str, ids: Sequence[str], vectors: Vectors, where: models.Filter) -> None:
        """See `Engine.update_vectors`."""
        with self._writing:  # nothing is deleted between the look and the write
            there = {
                str(record.id) for record in self._open().retrieve(list(ids), with_payload=False, with_vector=False)
            }
            given = [
                edge.PointVectors(point, {name: row})
                for point, row in zip(ids, vectors.tolist(), strict=True)
                if point in there
            ]
            if given:
                with _translated():
                    self._open().update(edge.UpdateOperation.update_vectors(given, _filter(where)))
        self._commit()

    def delete(self, where: models.Filter) -> None:
        """See `Engine.delete`."""
        self._write(edge.UpdateOperation.delete_points_by_filter(_filter(where)))

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        records = self._open().retrieve(list(ids), with_payload=True, with_vector=False)
        return [record.payload or {} for record in records]

    def scroll(self, where: models.Filter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        request = edge.ScrollRequest(offset=cursor, limit=limit, filter=_filter(where), with_payload=True)
        records, following = self._open().scroll(request)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def count(self, where: models.Filter) -> int:
        """See `Engine.count`."""
        return self._open().count(edge.CountRequest(exact=True, filter=_filter(where)))

    def facet(self, field: str, where: models.Filter) -> dict[str, int]:
        """See `Engine.facet`."""
        request = edge.FacetRequest(field, limit=ALL, exact=True, filter=_filter(where))
        return {str(hit.value): hit.count for hit in self._open().facet(request).hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[list[Scored]]:
        """See `Engine.query_batch`."""
        requests = [
            edge.QueryRequest(
                limit=search.k,
                query=edge.Query.Nearest(row, using=search.name),
                filter=_filter(search.where),
                params=edge.SearchParams(exact=search.exact),
                with_payload=list(search.fields),
            )
            for row in vectors.tolist()
        ]
        answers = self._open().query_batch(edge.QueryBatchRequest(requests))
        return [[Scored(point.score, point.payload or {}) for point in answer] for answer in answers]

    def ping(self) -> None:
        """See `Engine.ping`."""
        if self._shard is not None:
            self._shard.info()

    def close(self) -> None:
        """See `Engine.close`."""
        self._ending.set()
        self._flusher.join()
        with self._writing:
            if self._shard is not None:
                self._shard.flush()
                self._shard.close()
            os.close(self._lock)

    def _sync_log(self) -> None:
        """Make the write-ahead log durable: what it holds is applied again when the shard is loaded.

        `flush` would write the segments too, which takes 40 times as long with a dozen payload indexes.
        """
        self._unflushed.set()
        folder = self._home / "shard" / "wal"
        logs = list(folder.glob("open-*"))
        if not logs:  # another version of the engine, with another layout
            self._open().flush()
            return
        for place in (*logs, folder):
            _sync(place)

    def _flush_now_and_then(self) -> None:
        """Write the segments, so that the log stays short."""
        while not self._ending.wait(FLUSH_SECONDS):
            if self._unflushed.is_set():
                self._unflushed.clear()
                try:
                    self._open().flush()
                except Exception:
                    self._unflushed.set()
                    log.exception("the segments could not be written; the log holds what they lack")

    def _open(self) -> edge.EdgeShard:
        if self._shard is None:
            raise Unavailable("the collection is not created yet")
        return self._shard

    def _write(self, operation: edge.UpdateOperation) -> None:
        self._apply(operation)
        self._commit()

    def _apply(self, operation: edge.UpdateOperation) -> None:
        with self._writing, _translated():
            self._open().update(operation)


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


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Edge raises nothing more particular
        if "No space left" in str(error):
            raise OutOfSpace("the disk is full; make room, then send it again") from error
        raise


def _index(schema: Index) -> Any:
    if isinstance(schema, models.KeywordIndexParams):
        return edge.KeywordIndexParams(is_tenant=schema.is_tenant)
    return _INDEXES[schema.value]


def _point(point: models.PointStruct) -> edge.Point:
    return edge.Point(
        str(point.id), dict[str, Any](point.vector) if isinstance(point.vector, dict) else {}, point.payload
    )


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
