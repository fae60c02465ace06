"""The contract of a vector engine: the few primitives that the memory is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
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
        kind: what the field holds.
        on_disk: whether it lies in the system's cache, and not in memory for good.
        is_tenant: whether the field tells tenants apart.
    """

    kind: FieldType
    on_disk: bool = False
    is_tenant: bool = False


@dataclass(frozen=True)
class PointFilter:
    """Which points an operation covers; built by `points.point_filters`, translated once by each engine.

    Attributes:
        tenant: only its points; None: those of every tenant.
        clauses: all of them hold, as `schemas.filter.matches` understands them.
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
class Point:
    """A point: its UUID, its payload and its vectors by name, each a row of float32 numbers."""

    id: str
    payload: Payload
    vectors: Mapping[str, Any] = dataclass_field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """What a collection holds: its named vectors with their sizes, its payload indexes with their types."""

    vectors: Mapping[str, int]
    indexes: Mapping[str, str]


@dataclass(frozen=True)
class NamedVectors:
    """Vectors of one name: float32 [n, d], a row for each of n points."""

    name: str
    rows: Vectors


@dataclass(frozen=True)
class Insert:
    """Points that are inserted, each once; those that exist stay as they are.

    Attributes:
        vectors: theirs, in one array instead of in the points.
    """

    points: Sequence[Point]
    vectors: NamedVectors | None = None

    @property
    def names(self) -> set[str]:
        """Of the vectors that come with the points."""
        return _names(self.points, self.vectors)


@dataclass(frozen=True)
class Replace:
    """Points that are replaced whole, payload and vectors, each once: those that exist and meet the filter.

    Attributes:
        vectors: theirs, in one array instead of in the points.
    """

    points: Sequence[Point]
    where: PointFilter
    vectors: NamedVectors | None = None

    @property
    def names(self) -> set[str]:
        """Of the vectors that come with the points."""
        return _names(self.points, self.vectors)


@dataclass(frozen=True)
class SetPayload:
    """Top-level payload fields that are set, each as a whole; one that is set to None is removed."""

    payload: Payload
    where: PointFilter


@dataclass(frozen=True)
class UpdateVectors:
    """Vectors that are given to points that meet the filter; points that are gone stay gone, and so do named vectors.

    Attributes:
        ids: the points, one for each row.
        beside: whether the points have other vectors already: these then need the room on the disk that a new point
            needs, and not only what is kept for finishing one.
    """

    ids: Sequence[str]
    vectors: NamedVectors
    where: PointFilter
    additional: bool = False


@dataclass(frozen=True)
class Delete:
    """Every point that meets the filter is deleted."""

    where: PointFilter


def _names(points: Sequence[Point], vectors: NamedVectors | None) -> set[str]:
    return {name for point in points for name in point.vectors} if vectors is None else {vectors.name}


def check_vector_names(names: Iterable[str], held: Mapping[str, int]) -> None:
    """Refuse vectors that the collection does not have.

    Raises:
        Unavailable: it has none of this name.
    """
    for name in {*names} - held.keys():
        raise Unavailable(f"the collection has no vectors {name}: they were dropped, or are yet to be added")


Write = Insert | Replace | SetPayload | UpdateVectors | Delete


@dataclass(frozen=True)
class Search:
    """What is searched: the same for every vector of a batch.

    Attributes:
        name: the vector's name; points without it are not found.
        where: only points that meet it are found.
        k: at most so many for each vector.
        effort: how thoroughly.
        fields: the payload fields wanted.
        far: whether the filter may leave out all that is near, so that the nearest are farther to seek.
    """

    name: str
    where: PointFilter
    k: int
    effort: Effort
    fields: tuple[str, ...]
    far: bool = False


@dataclass(frozen=True)
class Answer:
    """The points that a search found for one vector, the nearest first; in columns, which are quick to send.

    Attributes:
        scores: their cosine similarities.
        columns: the payload fields that were asked for, each with its value of every point; None where it has none.
    """

    scores: list[float]
    columns: Mapping[str, list[Any]]

    @classmethod
    def of(cls, points: Iterable[tuple[float, Payload]], fields: Iterable[str]) -> "Answer":
        """Points, given as their scores and payloads."""
        listed = list(points)
        columns = {field: [payload.get(field) for _, payload in listed] for field in fields}
        return cls([score for score, _ in listed], columns)


@dataclass(frozen=True)
class Compaction:
    """What a compaction did.

    Attributes:
        erased: whether the bytes of all that was deleted or overwritten before it are gone from the disk.
        note: what was asked of the store and what is left to its operator; empty where nothing is.
    """

    erased: bool
    note: str = ""


class Engine(Protocol):
    """One collection of points: UUID, payload, at most one vector of each name.

    Every write is durable when it returns, and harmless when repeated. Every method may be called from many threads at
    once, and raises `schemas.errors.Unavailable` where the engine does not answer, `schemas.errors.OutOfSpace` where
    its disk is full.
    """

    def inspect(self) -> Shape | None:
        """What the collection holds; None before it is created."""

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """Create the collection with one named vector (cosine) and payload indexes; nothing if it is there already."""

    def add_vector(self, name: str, size: int) -> None:
        """Let the collection have vectors of another name too (cosine), which no point has yet; others are served.

        Nothing where they are there already.

        Raises:
            EncoderMismatch: they are there, of another size.
        """

    def drop_vector(self, name: str) -> None:
        """Take the vectors of a name from the collection and from every point; nothing where there are none.

        Their bytes are gone after the next `compact`. They never come back, not even when the name is added again. Who
        searches by them, or inserts points with them, meanwhile, meets `schemas.errors.Unavailable`.

        Raises:
            ValueError: the collection has no others.
        """

    def index(self, indexes: Mapping[str, Index]) -> None:
        """Add payload indexes; one of another type on the same field is replaced."""

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """Make some writes in their order, in one round trip; durable together when it returns.

        Each is one operation: it decides which points meet its filter as the writes before it left them. Where one
        fails, those before it may stay.

        Args:
            writes: each harmless when repeated.
            read: the points whose payloads are wanted as they are afterwards.
            urgent: payloads may use the room on the disk that is kept for removals.

        Returns:
            as `retrieve`.
        """

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """The payloads of those points that exist, in any order."""

    def scroll(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """Payloads by ascending point id, from the id `cursor` on; the id to go on from, None at the end."""

    def oldest(self, field: str, where: PointFilter, limit: int) -> list[Payload]:
        """Payloads of points by an indexed field that holds moments, the earliest first; without it none is found."""

    def export(self, where: PointFilter, limit: int, cursor: str | None) -> tuple[list[Point], str | None]:
        """Whole points; `Insert` takes them back as they were, to the last bit.

        Args:
            where: only points that meet it.
            limit: at most so many.
            cursor: the id to go on from, as the call before returned it.

        Returns:
            points by ascending id, with payload and vectors (by name, float32); the next cursor, None at the end.
        """

    def count(self, where: PointFilter) -> int:
        """How many points meet the filter, exactly."""

    def facet(self, field: str, where: PointFilter) -> dict[str, int]:
        """How many points that meet the filter hold each value of an indexed keyword field, exactly."""

    def query_batch(self, vectors: Vectors, search: Search) -> list[Answer]:
        """The nearest points to each vector; may take longer than other calls, though not where the engine is silent.

        Args:
            vectors: float32 [n, d].
            search: what is searched for all of them.

        Returns:
            n answers.
        """

    def compact(self) -> Compaction:
        """Erase what was deleted or overwritten before the call, as far as the engine can; others are served meanwhile.

        Raises:
            OutOfSpace: there is no room for what it takes.
        """

    def recover(self) -> None:
        """Put right what a compaction that died left changed, where none is at work."""

    def ping(self) -> None:
        """Return if the engine answers."""

    def close(self) -> None:
        """Release what is held; no other method may be called afterwards."""
