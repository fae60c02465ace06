"""The engine contract over a Qdrant server, or over qdrant-client's local mode, which tests use."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, cast

import grpc  # type: ignore[import-untyped]  # it ships no types
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from visual_memory.schemas.errors import EncoderMismatch, OutOfSpace, Unavailable
from visual_memory.services.vector_engines.engine_contract import (
    Answer,
    Compaction,
    Index,
    Insert,
    Order,
    Payload,
    Point,
    PointFilter,
    Position,
    Replace,
    Search,
    Shape,
    UpdateVectors,
    Vectors,
    Write,
    check_vector_names,
)
from visual_memory.services.vector_engines.hnsw_parameters import EF_CONSTRUCT, FULL_SCAN_KIB, HNSW_M, QUANTILE
from visual_memory.services.vector_engines.ordered_pages import Placed, moment_of, ordered_page
from visual_memory.services.vector_engines.qdrant_server_converters import (
    to_operation,
    to_qdrant_filter,
    to_qdrant_index,
    to_search_params,
    without_missing_points,
)
from visual_memory.services.vector_engines.qdrant_server_vacuum import Vacuum
from visual_memory.services.vector_engines.split_server_writes import split_into_requests

ALL = 2**31 - 1
STRONG = models.WriteOrdering.STRONG  # so that a conditional write sees the write before it on every replica
TRIES = 5
_NOT_FOUND = {404, grpc.StatusCode.NOT_FOUND}
_REFUSED = (UnexpectedResponse, grpc.RpcError, KeyError, ValueError)
"""What the client raises for a refused request; local mode raises KeyError for 404, ValueError for 400."""
_CALLER_ERRORS = {400, 404, 409, 422} | {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
}


class QdrantServerEngine:
    """One collection on a Qdrant server.

    Args:
        client: connected to the server, over HTTP or gRPC; closed with the engine.
        collection: its name.
        shards: number of shards of a new collection.
        replicas: number of replicas of each shard; most of them acknowledge a write.
        search_timeout: seconds that a search may take; None: the timeout of the client.
    """

    def __init__(
        self,
        client: QdrantClient,
        collection: str,
        shards: int = 1,
        replicas: int = 1,
        search_timeout: int | None = None,
    ) -> None:
        self._client = client
        self._name = collection
        self._shards = shards
        self._replicas = replicas
        self._search_timeout = search_timeout
        self._vacuum = Vacuum(client, collection)

    def inspect(self) -> Shape | None:
        """See `Engine.inspect`."""
        with _translate_errors():
            if not self._client.collection_exists(self._name):
                return None
            info = self._client.get_collection(self._name)
        vectors = info.config.params.vectors
        named = vectors if isinstance(vectors, dict) else {}
        indexes = {field: str(index.data_type.value) for field, index in info.payload_schema.items()}
        return Shape({name: params.size for name, params in named.items()}, indexes)

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """See `Engine.create`."""
        try:
            with _translate_errors():
                self._client.create_collection(
                    self._name,
                    vectors_config={vector: models.VectorParams(size=size, distance=models.Distance.COSINE)},
                    shard_number=self._shards,
                    replication_factor=self._replicas,
                    hnsw_config=models.HnswConfigDiff(
                        m=HNSW_M, ef_construct=EF_CONSTRUCT, full_scan_threshold=FULL_SCAN_KIB
                    ),
                    quantization_config=models.ScalarQuantization(
                        scalar=models.ScalarQuantizationConfig(
                            type=models.ScalarType.INT8, quantile=QUANTILE, always_ram=True
                        )
                    ),
                    write_consistency_factor=self._replicas // 2 + 1,
                )
        except Exception:
            if self.inspect() is None:  # else another process has created it
                raise
        self.index(indexes)

    def add_vector(self, name: str, size: int) -> None:
        """See `Engine.add_vector`; requires a server from version 1.18 on."""
        existing = self._vectors().get(name)
        if existing is None:
            dense = models.DenseVectorConfig(size=size, distance=models.Distance.COSINE)
            named = models.DenseVectorNameConfig(dense=dense)
            with _translate_errors():
                self._client.create_vector_name(self._name, name, named, wait=True, ordering=STRONG)
        elif existing != size:
            raise EncoderMismatch(f"the collection has vectors {name} of {existing} numbers, not of {size}")

    def drop_vector(self, name: str) -> None:
        """See `Engine.drop_vector`."""
        if {*self._vectors()} == {name}:
            raise ValueError(f"the collection has no vectors but {name}")
        with _translate_errors():
            self._client.delete_vector_name(self._name, name, wait=True, ordering=STRONG)

    def index(self, indexes: Mapping[str, Index]) -> None:
        """See `Engine.index`."""
        with _translate_errors():
            for field, index in indexes.items():
                self._client.create_payload_index(self._name, field, to_qdrant_index(index), wait=True, ordering=STRONG)

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:  # noqa: ARG002
        """See `Engine.write`; the read is a separate request, and large inserts are several requests."""
        for request in split_into_requests(writes):
            self._write(request)
        return self.retrieve(read) if read else []

    def _write(self, writes: Sequence[Write]) -> None:
        left = list(writes)
        for _ in range(TRIES):
            if not left:
                return
            try:
                with _translate_errors():
                    operations = [to_operation(write) for write in left]
                    self._client.batch_update_points(self._name, operations, wait=True, ordering=STRONG)
            except _REFUSED as error:
                known = self._of_known_names(left)
                if len(known) == len(left) and not isinstance(error, KeyError) and _status(error) not in _NOT_FOUND:
                    raise
                # one missing point fails the whole request
                left = without_missing_points(known, self._existing(known))
            else:
                return
        raise Unavailable("points are deleted faster than their vectors can be written; send it again")

    def _of_known_names(self, writes: Sequence[Write]) -> list[Write]:
        """The writes, without updates of vectors whose names the collection does not have.

        Raises:
            Unavailable: points are inserted or replaced with such vectors.
        """
        stored = self._vectors()
        for write in writes:
            if isinstance(write, Insert | Replace):
                check_vector_names(write.names, stored)
        return [write for write in writes if not isinstance(write, UpdateVectors) or write.vectors.name in stored]

    def _vectors(self) -> Mapping[str, int]:
        shape = self.inspect()
        return shape.vectors if shape else {}

    def _existing(self, writes: Sequence[Write]) -> set[str]:
        ids = [point for write in writes if isinstance(write, UpdateVectors) for point in write.ids]
        with _translate_errors():
            records = self._client.retrieve(self._name, ids, with_payload=False)
        return {str(record.id) for record in records}

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """See `Engine.retrieve`."""
        with _translate_errors():
            return [record.payload or {} for record in self._client.retrieve(self._name, list(ids), with_payload=True)]

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """See `Engine.scroll`."""
        records, following = self._scroll(where, limit, offset=cursor)
        return [record.payload or {} for record in records], None if following is None else str(following)

    def scroll_ordered(
        self, where: PointFilter, order: Order, limit: int, start: Position | None = None
    ) -> tuple[list[Payload], Position | None]:
        """See `Engine.scroll_ordered`."""
        return ordered_page(self, where, order, limit, start)

    def read_by_id(self, where: PointFilter, limit: int, first: str | None) -> list[tuple[str, Payload]]:
        """See `OrderedReads.read_by_id`."""
        records, _ = self._scroll(where, limit, offset=first)
        return [(str(record.id), record.payload or {}) for record in records]

    def read_by_moment(self, where: PointFilter, order: Order, limit: int, first: datetime | None) -> list[Placed]:
        """See `OrderedReads.read_by_moment`."""
        direction = models.Direction.DESC if order.descending else models.Direction.ASC
        by = models.OrderBy(key=order.field, direction=direction, start_from=first)
        records, _ = self._scroll(where, limit, order_by=by)
        return [Placed(moment_of(each.order_value or 0), str(each.id), each.payload or {}) for each in records]

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """See `Engine.export`."""
        records, following = self._scroll(where, limit, offset=cursor, with_vectors=True)
        points = [Point(str(each.id), each.payload or {}, cast(Any, each.vector or {})) for each in records]
        return points, None if following is None else str(following)

    def _scroll(self, where: PointFilter, limit: int, **how: Any) -> tuple[list[models.Record], Any]:
        with _translate_errors():
            return self._client.scroll(self._name, to_qdrant_filter(where), limit=limit, with_payload=True, **how)

    def count(self, where: PointFilter) -> int:
        """See `Engine.count`."""
        with _translate_errors():
            return self._client.count(self._name, to_qdrant_filter(where), exact=True).count

    def estimate(self, where: PointFilter) -> int:
        """See `Engine.estimate`."""
        with _translate_errors():
            return self._client.count(self._name, to_qdrant_filter(where), exact=False).count

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """See `Engine.facet`."""
        with _translate_errors():
            hits = self._client.facet(self._name, field, to_qdrant_filter(where), limit=ALL, exact=True).hits
        return {str(hit.value): hit.count for hit in hits}

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """See `Engine.query_batch`."""
        params, where = to_search_params(search), to_qdrant_filter(search.where)
        requests = [
            models.QueryRequest(
                query=row,
                using=search.name,
                filter=where,
                limit=search.k,
                params=params,
                with_payload=list(search.fields),
            )
            for row in vectors.tolist()
        ]
        self.ping()  # a search may take long; a server that is down must be noticed earlier
        try:
            with _translate_errors():
                answers = self._client.query_batch_points(self._name, requests, timeout=self._search_timeout)
        except _REFUSED:
            check_vector_names([search.name], self._vectors())
            raise
        return [Answer.of(((each.score, each.payload or {}) for each in one.points), search.fields) for one in answers]

    def compact(self) -> Compaction:
        """See `Engine.compact`: the server's optimisers vacuum the segments, and report only whether they are idle."""
        with _translate_errors():
            return self._vacuum()

    def recover(self) -> None:
        """See `Engine.recover`."""
        with _translate_errors():
            self._vacuum.recover()

    def ping(self) -> None:
        """See `Engine.ping`."""
        with _translate_errors():
            self._client.collection_exists(self._name)

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate lost connections and errors of the server to the errors of the contract."""
    try:
        yield
    except (ApiException, grpc.RpcError) as error:
        if "No space left" in str(error):
            raise OutOfSpace("the store's disk is full; free some space, then send it again") from error
        if _status(error) in _CALLER_ERRORS:
            raise
        raise Unavailable(f"the store does not answer: {str(error).strip()[:200]}") from error


def _status(error: Exception) -> object:
    if isinstance(error, UnexpectedResponse):
        return error.status_code
    return error.code() if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call) else None
