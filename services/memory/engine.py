"""The contract of a vector engine: the few primitives that the memory is made of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from schemas.decision import Effort

Vectors = NDArray[np.float32]
Payload = dict[str, Any]
Index = (
    models.PayloadSchemaType
    | models.KeywordIndexParams
    | models.IntegerIndexParams
    | models.FloatIndexParams
    | models.BoolIndexParams
    | models.DatetimeIndexParams
)


@dataclass(frozen=True)
class Shape:
    """What a collection holds: its named vectors with their sizes, its payload indexes with their types."""

    vectors: Mapping[str, int]
    indexes: Mapping[str, str]


@dataclass(frozen=True)
class Named:
    """Vectors of one name: float32 [n, d], a row for each of n points."""

    name: str
    rows: Vectors


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
    where: models.Filter
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
    """One collection of points: UUID, payload, at most one vector by name.

    Every write is durable when it returns, and harmless when repeated. Every method may be called from many threads at
    once, and raises `schemas.errors.Unavailable` where the engine does not answer, `schemas.errors.OutOfSpace` where
    its disk is full.
    """

    def inspect(self) -> Shape | None:
        """What the collection holds; None before it is created."""

    def create(self, vector: str, size: int, indexes: Mapping[str, Index]) -> None:
        """Create the collection with one named vector (cosine) and payload indexes; nothing if it is there already."""

    def index(self, indexes: Mapping[str, Index]) -> None:
        """Add payload indexes; one of another type on the same field is replaced."""

    def insert(self, points: Sequence[models.PointStruct], vectors: Named | None = None) -> None:
        """Insert points; those that exist stay as they are.

        Args:
            points: each once.
            vectors: theirs, in one array instead of in the points.
        """

    def replace(self, points: Sequence[models.PointStruct], where: models.Filter, vectors: Named | None = None) -> None:
        """Replace points whole, payload and vectors, those that exist and meet the filter; decided in one operation.

        Args:
            points: each once.
            where: only points that meet it are replaced.
            vectors: theirs, in one array instead of in the points.
        """

    def set_payload(self, payload: Payload, where: models.Filter, urgent: bool = False) -> None:
        """Set top-level payload fields, each as a whole, in one operation; a field that is set to None is removed.

        Args:
            payload: the fields.
            where: the points that get them.
            urgent: it may use the room on the disk that is kept for removals.
        """

    def update_vectors(self, name: str, ids: Sequence[str], vectors: Vectors, where: models.Filter) -> None:
        """Give points a vector.

        Args:
            name: the vector's name.
            ids: the points; those that are gone stay gone, the others get their vector all the same.
            vectors: float32 [len(ids), d].
            where: only points that meet it get theirs; decided in the same operation.
        """

    def delete(self, where: models.Filter) -> None:
        """Delete every point that meets the filter, in one operation."""

    def retrieve(self, ids: Sequence[str]) -> list[Payload]:
        """The payloads of those points that exist, in any order."""

    def scroll(self, where: models.Filter, limit: int, cursor: str | None) -> tuple[list[Payload], str | None]:
        """Payloads by ascending point id, from the id `cursor` on; the id to go on from, None at the end."""

    def export(
        self, where: models.Filter | None, limit: int, cursor: str | None
    ) -> tuple[list[models.PointStruct], str | None]:
        """Whole points; `insert` takes them back as they were, to the last bit.

        Args:
            where: only points that meet it; None: every point of every tenant.
            limit: at most so many.
            cursor: the id to go on from, as the call before returned it.

        Returns:
            points by ascending id, with payload and vectors (by name, float32); the next cursor, None at the end.
        """

    def count(self, where: models.Filter) -> int:
        """How many points meet the filter, exactly."""

    def facet(self, field: str, where: models.Filter) -> dict[str, int]:
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

    def ping(self) -> None:
        """Return if the engine answers."""

    def close(self) -> None:
        """Release what is held; no other method may be called afterwards."""
