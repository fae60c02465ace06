"""The contract of a vector engine: filters, writes, searches and the primitives that every engine offers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import Effort
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause

Vectors = NDArray[np.float32]
Payload = dict[str, Any]


@dataclass(frozen=True)
class Index:
    """A payload index.

    Attributes:
        kind: type of the field.
        on_disk: whether it is stored on disk, in the page cache, instead of in memory.
        is_tenant: whether the field names the tenant.
    """

    kind: FieldType
    on_disk: bool = False
    is_tenant: bool = False


@dataclass(frozen=True)
class PointFilter:
    """Which points an operation covers; built by `points.point_filters`, translated once by each engine.

    Attributes:
        tenant: only points of this tenant; None: points of every tenant.
        clauses: all must be met, as `schemas.filter.matches` interprets them.
        vector: only points that have the vector of this name.
        lacks: only points that do not have the vector of this name.
        ids: only these points.
    """

    tenant: str | None = None
    clauses: tuple[Clause, ...] = ()
    vector: str | None = None
    lacks: str | None = None
    ids: tuple[str, ...] | None = None


EVERY_POINT = PointFilter()


@dataclass(frozen=True)
class Order:
    """The order of points by an indexed datetime field; then by id, ascending. Points without the field come last."""

    field: str
    descending: bool = False


@dataclass(frozen=True)
class Position:
    """A place in an order: at the point with this moment and id, or where it would be; None: it lacks the field."""

    moment: datetime | None
    id: str


@dataclass(frozen=True)
class Point:
    """A point: its UUID, its payload and its vectors by name, each a row of float32 numbers."""

    id: str
    payload: Payload
    vectors: Mapping[str, Any] = dataclass_field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """The named vectors of a collection with their sizes, and its payload indexes with their types."""

    vectors: Mapping[str, int]
    indexes: Mapping[str, str]


@dataclass(frozen=True)
class NamedVectors:
    """Vectors of one name: float32 [n, d], a row for each of n points."""

    name: str
    rows: Vectors


@dataclass(frozen=True)
class Insert:
    """Insert points, each once; existing points stay as they are.

    Attributes:
        vectors: the vectors of the points, in one array instead of in the points.
    """

    points: Sequence[Point]
    vectors: NamedVectors | None = None

    @property
    def names(self) -> set[str]:
        """Names of the vectors that come with the points."""
        return _names(self.points, self.vectors)


@dataclass(frozen=True)
class Replace:
    """Replace payload and vectors of points, each once, if they exist and meet the filter.

    Attributes:
        vectors: the vectors of the points, in one array instead of in the points.
    """

    points: Sequence[Point]
    where: PointFilter
    vectors: NamedVectors | None = None

    @property
    def names(self) -> set[str]:
        """Names of the vectors that come with the points."""
        return _names(self.points, self.vectors)


@dataclass(frozen=True)
class SetPayload:
    """Set top-level payload fields, each as a whole; None removes a field."""

    payload: Payload
    where: PointFilter


@dataclass(frozen=True)
class UpdateVectors:
    """Set vectors of points that meet the filter; missing points and vector names that were dropped are skipped.

    Attributes:
        ids: the points, one for each row.
        additional: whether the points have other vectors already: these then need as much free space as a new point,
            and may not use what is reserved for finishing one.
    """

    ids: Sequence[str]
    vectors: NamedVectors
    where: PointFilter
    additional: bool = False


@dataclass(frozen=True)
class Delete:
    """Delete every point that meets the filter."""

    where: PointFilter


def _names(points: Sequence[Point], vectors: NamedVectors | None) -> set[str]:
    return {name for point in points for name in point.vectors} if vectors is None else {vectors.name}


def check_vector_names(names: Iterable[str], stored: Mapping[str, int]) -> None:
    """Check that the collection has vectors of these names.

    Raises:
        Unavailable: it has none of a name.
    """
    for name in {*names} - stored.keys():
        raise Unavailable(f"the collection has no vectors {name}: they were dropped, or are yet to be added")


Write = Insert | Replace | SetPayload | UpdateVectors | Delete


@dataclass(frozen=True)
class Search:
    """A search, the same for every vector of a batch.

    Attributes:
        name: name of the vectors; points without one are not found.
        where: only points that meet it are found.
        k: maximum number of points for each vector.
        effort: how thorough the search is.
        fields: payload fields to return.
        far: whether the filter may exclude all near points, so that the search must go farther.
    """

    name: str
    where: PointFilter
    k: int
    effort: Effort
    fields: tuple[str, ...]
    far: bool = False


@dataclass(frozen=True)
class Answer:
    """The points found for one vector, nearest first, in columns, which are fast to send.

    Attributes:
        scores: cosine similarities.
        columns: the requested payload fields, each with its values for all points, None for points without one.
    """

    scores: list[float]
    columns: Mapping[str, list[Any]]

    @classmethod
    def of(cls, points: Iterable[tuple[float, Payload]], fields: Iterable[str]) -> "Answer":
        """Build an answer from scores and payloads."""
        listed = list(points)
        columns = {field: [payload.get(field) for _, payload in listed] for field in fields}
        return cls([score for score, _ in listed], columns)


@dataclass(frozen=True)
class Compaction:
    """The outcome of a compaction.

    Attributes:
        erased: whether all bytes that were deleted or overwritten before it are gone from the disk.
        note: what was requested of the store and what is left to its operator; empty if nothing is.
    """

    erased: bool
    note: str = ""


class Engine(Protocol):
    """One collection of points: UUID, payload, at most one vector of each name.

    Every write is durable when it returns, and harmless when repeated. All methods are thread-safe, and raise
    `schemas.errors.Unavailable` if the engine does not answer, `schemas.errors.OutOfSpace` if its disk is full.
    """

    def inspect(self) -> Shape | None:
        """The vectors and indexes of the collection; None before it is created."""

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """Create the collection with one named vector (cosine) and payload indexes; do nothing if it exists."""

    def add_vector(self, name: str, size: int) -> None:
        """Add vectors of another name (cosine) to the collection, which no point has yet; do nothing if they exist.

        Other calls are served meanwhile.

        Raises:
            EncoderMismatch: they exist with another size.
        """

    def drop_vector(self, name: str) -> None:
        """Remove the vectors of a name from the collection and from every point; do nothing if there are none.

        The next `compact` erases their bytes. They never come back, not even if the name is added again. Searches by
        them and inserts with them raise `schemas.errors.Unavailable` meanwhile.

        Raises:
            ValueError: the collection has no other vectors.
        """

    def index(self, indexes: Mapping[str, Index]) -> None:
        """Create payload indexes; an index of another type on the same field is replaced."""

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """Apply writes in order, in one round trip; all are durable when it returns.

        Each write is one operation: its filter is evaluated after the writes before it. If one fails, those before it
        may stay.

        Args:
            writes: each harmless when repeated.
            read: ids of points whose payloads are returned, as they are afterwards.
            urgent: payloads may use the disk space that is reserved for removals.

        Returns:
            as `retrieve`.
        """

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """The payloads of the points that exist, in any order."""

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """Payloads by ascending point id, starting at the id `cursor`; and the next cursor, None at the end."""

    def scroll_ordered(
        self, where: PointFilter, order: Order, limit: int, start: Position | None = None
    ) -> tuple[list[Payload], Position | None]:
        """Payloads in an order, page by page; a page takes as long wherever it starts.

        Args:
            where: only points that meet it.
            order: the field, and which end comes first.
            limit: maximum number of points, at least 1.
            start: where to continue, as returned by the previous call.

        Returns:
            the payloads, and the next position, None at the end. A point that is there throughout with the same moment
            comes exactly once, whatever is written between the calls.
        """

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """Complete points, bit for bit; `Insert` restores them.

        Args:
            where: only points that meet it.
            limit: maximum number of points.
            cursor: where to continue, as returned by the previous call.

        Returns:
            points by ascending id, with payload and vectors (by name, float32); the next cursor, None at the end.
        """

    def count(self, where: PointFilter) -> int:
        """Exact number of points that meet the filter."""

    def estimate(self, where: PointFilter) -> int:
        """About the number of points that meet the filter, from its indexes alone: fast, however many there are."""

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """Exact number of points that meet the filter, by value of an indexed keyword field."""

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """The points nearest to each vector; may take longer than other calls, but not on an engine that is down.

        Args:
            vectors: float32 [n, d].
            search: the same for all vectors.

        Returns:
            n answers.
        """

    def compact(self) -> Compaction:
        """Erase data that was deleted or overwritten before the call, as far as the engine can.

        Other calls are served meanwhile.

        Raises:
            OutOfSpace: there is not enough free space.
        """

    def recover(self) -> None:
        """Repair what a compaction that died left changed, unless another one is running."""

    def ping(self) -> None:
        """Return if the engine answers."""

    def close(self) -> None:
        """Release all resources; no other method may be called afterwards."""
