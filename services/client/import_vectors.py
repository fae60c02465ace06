"""Bulk: ready-made vectors of a file, read in chunks and sent a few requests at a time.

What is sent again is known again, so a run that was broken off is simply repeated.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.errors import Blocked, InvalidRequest, InvalidVector
from visual_memory.schemas.image import Accepted, ImageFields
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.client.folders_and_manifests import count_fields, fields_of, read_fields
from visual_memory.services.client.http_client import Client
from visual_memory.services.client.import_pictures import ImportResult, Progress

CONCURRENT_REQUESTS = 3
"""Requests on their way: while the store writes one, the service reads the next."""
MAX_ROWS = 1024
MAX_BYTES = 8 * 2**20
STREAM = 2**20
"""Bytes of a column that are read ahead; without, pyarrow reads all of a row group's at once."""
NOT_VECTORS = "a column 'vector' of lists of numbers, all of the same length, is needed"


@dataclass(frozen=True)
class Chunk:
    """Some vectors, float32 [n, d], with the fields of each, and the row of the first in its file, counted from 0."""

    first: int
    vectors: NDArray[np.float32]
    fields: Sequence[ImageFields]

    def part(self, start: int, stop: int) -> "Chunk":
        """Some of them."""
        return Chunk(self.first + start, self.vectors[start:stop], self.fields[start:stop])


def teach_vectors(
    client: Client,
    file: Path,
    labels: Path | None,
    encoder: str | None,
    source: str | None,
    progress: Progress,
    known_labels: LabelRule = LabelRule.KEEP,
) -> ImportResult:
    """Send all vectors of a file; those that are refused stay out, the others are remembered.

    Args:
        client: of the service.
        file: .npy, float [n, d]; or .parquet, with a column ``vector`` and columns as `ImageFields` has fields, where
            ``label`` may stand for a single one, and ``metadata.NAME`` for one of ``metadata``.
        labels: of a .npy file, a line for each vector; see `read_fields`.
        encoder: the name of the encoder that made them.
        source: said of all that name none.
        progress: reports how many are remembered.
        known_labels: what becomes of the labels of images that are there with others.

    Raises:
        InvalidRequest: a file is not as it should be, or the service's encoder is another.
    """
    if encoder is None:
        raise InvalidRequest("--encoder: name the encoder that made the vectors")
    total, chunks = (_npy if file.suffix == ".npy" else _parquet)(file, labels, source)
    outcome = ImportResult()

    def count(sent: "Future[list[Accepted]]") -> None:
        outcome.count(sent.result())
        outcome.remembered = outcome.sent
        progress("remembered", outcome.sent + len(outcome.refused), total)

    with ThreadPoolExecutor(CONCURRENT_REQUESTS, thread_name_prefix="sending") as pool:
        on_their_way: deque[Future[list[Accepted]]] = deque()
        try:
            for chunk in chunks:
                on_their_way.append(pool.submit(_send, client, encoder, chunk, outcome.refused, known_labels))
                if len(on_their_way) == CONCURRENT_REQUESTS:
                    count(on_their_way.popleft())
            while on_their_way:
                count(on_their_way.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
    return outcome


def _send(
    client: Client, encoder: str, chunk: Chunk, refused: dict[str, str], known_labels: LabelRule
) -> list[Accepted]:
    """Send a chunk; where it is refused, by halves, so that only the bad vectors stay out. Those that are in."""
    try:
        return client.add_vectors(encoder, chunk.vectors, chunk.fields, known_labels)
    except (InvalidVector, Blocked) as error:
        number = len(chunk.fields)
        if number == 1:
            refused[f"row {chunk.first}"] = error.message
            return []
        middle = number // 2
        halves = chunk.part(0, middle), chunk.part(middle, number)
        return [each for half in halves for each in _send(client, encoder, half, refused, known_labels)]


def _npy(file: Path, labels: Path | None, source: str | None) -> tuple[int, Iterator[Chunk]]:
    """How many vectors there are, and all of them."""
    if labels is None:
        raise InvalidRequest("--labels: name the file with the labels, a line for each vector")
    held = _map(file)
    number, said = len(held), count_fields(labels)
    if number != said:
        raise InvalidRequest(f"{file} holds {number} vectors, {labels} speaks of {said}: a line for each is needed")
    size = _rows_at_once(held.shape[1])

    def chunks() -> Iterator[Chunk]:
        fields = read_fields(labels, source)
        for start in range(0, number, size):
            rows = np.array(_map(file)[start : start + size], np.float32)  # mapped anew, so that what was read can go
            yield Chunk(start, rows, list(islice(fields, len(rows))))

    return number, chunks()


def _map(file: Path) -> NDArray[np.float32]:
    try:
        held = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InvalidRequest(f"{file}: {error}") from None
    if not isinstance(held, np.ndarray) or held.ndim != 2 or held.dtype.kind != "f":
        raise InvalidRequest(f"{file}: an array of floats [n, d] is needed, as numpy.save writes it")
    return held


def _rows_at_once(numbers: int) -> int:
    return max(1, min(MAX_ROWS, MAX_BYTES // (4 * max(1, numbers))))


def _parquet(file: Path, labels: Path | None, source: str | None) -> tuple[int, Iterator[Chunk]]:
    """As `_npy`."""
    from pyarrow import ArrowInvalid, parquet

    if labels is not None:
        raise InvalidRequest("--labels: the labels of a .parquet file are a column of it")
    try:
        held = parquet.ParquetFile(file, buffer_size=STREAM)
    except ArrowInvalid as error:
        raise InvalidRequest(f"{file}: {error}") from None
    if "vector" not in held.schema_arrow.names:
        raise InvalidRequest(f"{file}: {NOT_VECTORS}")
    if len(named := held.schema_arrow.names) > len({*named}):
        raise InvalidRequest(f"{file}: a column is there twice")

    def chunks() -> Iterator[Chunk]:
        first = 0
        with held:
            for batch in held.iter_batches(MAX_ROWS):
                vectors = _rows(batch.column("vector"), f"{file}, rows {first} to {first + len(batch) - 1}")
                rows = batch.drop_columns("vector").to_pylist()
                fields = [_said(row, source, f"{file}, row {first + place}") for place, row in enumerate(rows)]
                whole, size = Chunk(first, vectors, fields), _rows_at_once(vectors.shape[1])
                yield from (whole.part(start, start + size) for start in range(0, len(batch), size))
                first += len(batch)

    return held.metadata.num_rows, chunks()


def _rows(column: Any, place: str) -> NDArray[np.float32]:
    """A column of lists of numbers as float32 [n, d]."""
    from pyarrow import compute, types

    kind = column.type
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists or not types.is_floating(kind.value_type):
        raise InvalidRequest(f"{place}: {NOT_VECTORS}; it is {kind}")
    lengths = set(compute.list_value_length(column).to_pylist())
    if len(lengths) != 1 or not all(lengths) or column.flatten().null_count:
        raise InvalidRequest(f"{place}: {NOT_VECTORS}; some are missing, or of other lengths")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), lengths.pop())


def _said(row: Mapping[str, Any], source: str | None, place: str) -> ImageFields:
    given = {name: value for name, value in row.items() if value is not None}
    metadata = {name.removeprefix("metadata."): given.pop(name) for name in list(given) if name.startswith("metadata.")}
    for one, other in (("label", "labels" in given), ("metadata", metadata)):
        if one in given and other:
            raise InvalidRequest(f"{place}: {one} is there in two columns: give it once")
    if metadata:
        given["metadata"] = metadata
    if "label" in given:
        given["labels"] = [given.pop("label")]
    return fields_of(given if source is None else {"source": source, **given}, place)
