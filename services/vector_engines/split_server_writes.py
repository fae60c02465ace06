"""Split writes into requests that are not larger than a Qdrant server accepts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from visual_memory.services.vector_engines.engine_contract import Insert, NamedVectors, Replace, Write

MAX_NUMBERS = 2**20
"""Numbers of vectors in one request: each takes about 20 bytes of JSON, and a server accepts 32 MiB."""


def split_into_requests(writes: Sequence[Write]) -> Iterator[list[Write]]:
    """Split writes into requests of a size that a server accepts."""
    request, size = list[Write](), 0
    for part in (part for write in writes for part in _parts(write)):
        numbers = vectors.rows.size if (vectors := getattr(part, "vectors", None)) is not None else 0
        if request and size + numbers > MAX_NUMBERS:
            yield request
            request, size = [], 0
        request.append(part)
        size += numbers
    if request:
        yield request


def _parts(write: Write) -> list[Write]:
    if not isinstance(write, Insert | Replace) or write.vectors is None:
        return [write]
    vectors, size = write.vectors, max(1, MAX_NUMBERS // write.vectors.rows.shape[1])
    return [
        replace(write, points=write.points[start:end], vectors=NamedVectors(vectors.name, vectors.rows[start:end]))
        for start, end in ((start, start + size) for start in range(0, len(write.points), size))
    ]
