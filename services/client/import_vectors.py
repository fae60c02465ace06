"""Send the vectors of a file, in chunks and several requests at a time.

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
"""While the store writes one request, the service reads the next."""
MAX_ROWS = 1024
MAX_BYTES = 8 * 2**20
STREAM = 2**20
"""Bytes of a column that are read ahead; without this pyarrow reads a whole row group at once."""
NOT_VECTORS = "a column 'vector' of lists of numbers, all of the same length, is needed"


@dataclass(frozen=True)
class Chunk:
    """Vectors, float32 [n, d], their fields, and the row of the first in the file, counted from 0."""

    first: int
    vectors: NDArray[np.float32]
    fields: Sequence[ImageFields]

    def part(self, start: int, stop: int) -> "Chunk":
        """Rows `start` to `stop` of the chunk."""
        return Chunk(self.first + start, self.vectors[start:stop], self.fields[start:stop])


def teach_vectors(
    client: Client,
    file: Path,
    labels: Path | None,
    encoder: str | None,
    source: str | None,
    progress: Progress,
    label_rule: LabelRule = LabelRule.KEEP,
) -> ImportResult:
    """Send the vectors of a file; refused ones are reported, the others are remembered.

    Args:
        client: a client of the service.
        file: .npy, float [n, d]; or .parquet, with a column ``vector`` and columns as `ImageFields` has fields, where
            ``label`` may stand for a single one, and ``metadata.NAME`` for one of ``metadata``.
        labels: of a .npy file, a line for each vector; see `read_fields`.
        encoder: the name of the encoder that made them.
        source: the source of all images that have none.
        progress: reports how many are remembered.
        label_rule: what happens to the labels of images that are stored with others.

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
        sending: deque[Future[list[Accepted]]] = deque()
        try:
            for chunk in chunks:
                sending.append(pool.submit(_send, client, encoder, chunk, outcome.refused, label_rule))
                if len(sending) == CONCURRENT_REQUESTS:
                    count(sending.popleft())
            while sending:
                count(sending.popleft())
        finally:
            pool.shutdown(cancel_futures=True)
    return outcome


def _send(client: Client, encoder: str, chunk: Chunk, refused: dict[str, str], label_rule: LabelRule) -> list[Accepted]:
    """Send a chunk; if it is refused, send its halves, so that only the invalid vectors are refused."""
    try:
        return client.add_vectors(encoder, chunk.vectors, chunk.fields, label_rule)
    except (InvalidVector, Blocked) as error:
        number = len(chunk.fields)
        if number == 1:
            refused[f"row {chunk.first}"] = error.every_fault
            return []
        middle = number // 2
        halves = chunk.part(0, middle), chunk.part(middle, number)
        return [each for half in halves for each in _send(client, encoder, half, refused, label_rule)]


def _npy(file: Path, labels: Path | None, source: str | None) -> tuple[int, Iterator[Chunk]]:
    """The number of vectors, and the chunks."""
    if labels is None:
        raise InvalidRequest("--labels: name the file with the labels, a line for each vector")
    vectors = _map(file)
    number, lines = len(vectors), count_fields(labels)
    if number != lines:
        raise InvalidRequest(f"{file} has {number} vectors, {labels} has {lines} lines: one for each vector is needed")
    size = _rows_at_once(vectors.shape[1])

    def chunks() -> Iterator[Chunk]:
        fields = read_fields(labels, source)
        for start in range(0, number, size):
            mapped = _map(file)  # again, so that the pages of earlier chunks can be released
            rows = np.array(mapped[start : start + size], np.float32)
            yield Chunk(start, rows, list(islice(fields, len(rows))))

    return number, chunks()


def _map(file: Path) -> NDArray[np.float32]:
    try:
        loaded = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InvalidRequest(f"{file}: {error}") from None
    if not isinstance(loaded, np.ndarray) or loaded.ndim != 2 or loaded.dtype.kind != "f":
        raise InvalidRequest(f"{file}: an array of floats [n, d] is needed, as numpy.save writes it")
    return loaded


def _rows_at_once(numbers: int) -> int:
    return max(1, min(MAX_ROWS, MAX_BYTES // (4 * max(1, numbers))))


def _parquet(file: Path, labels: Path | None, source: str | None) -> tuple[int, Iterator[Chunk]]:
    """As `_npy`."""
    from pyarrow import ArrowInvalid, parquet

    if labels is not None:
        raise InvalidRequest("--labels: the labels of a .parquet file are a column of it")
    try:
        loaded = parquet.ParquetFile(file, buffer_size=STREAM)
    except ArrowInvalid as error:
        raise InvalidRequest(f"{file}: {error}") from None
    if "vector" not in loaded.schema_arrow.names:
        raise InvalidRequest(f"{file}: {NOT_VECTORS}")
    if len(named := loaded.schema_arrow.names) > len({*named}):
        raise InvalidRequest(f"{file}: two columns have the same name")

    def chunks() -> Iterator[Chunk]:
        first = 0
        with loaded:
            for batch in loaded.iter_batches(MAX_ROWS):
                vectors = _rows(batch.column("vector"), f"{file}, rows {first} to {first + len(batch) - 1}")
                rows = batch.drop_columns("vector").to_pylist()
                fields = [_row_fields(row, source, f"{file}, row {first + offset}") for offset, row in enumerate(rows)]
                whole, size = Chunk(first, vectors, fields), _rows_at_once(vectors.shape[1])
                yield from (whole.part(start, start + size) for start in range(0, len(batch), size))
                first += len(batch)

    return loaded.metadata.num_rows, chunks()


def _rows(column: Any, position: str) -> NDArray[np.float32]:
    """A column of lists of numbers as float32 [n, d]."""
    from pyarrow import compute, types

    kind = column.type
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if not lists or not types.is_floating(kind.value_type):
        raise InvalidRequest(f"{position}: {NOT_VECTORS}; it is {kind}")
    lengths = set(compute.list_value_length(column).to_pylist())
    if len(lengths) != 1 or not all(lengths) or column.flatten().null_count:
        raise InvalidRequest(f"{position}: {NOT_VECTORS}; some are missing, or of other lengths")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), lengths.pop())


def _row_fields(row: Mapping[str, Any], source: str | None, position: str) -> ImageFields:
    given = {name: value for name, value in row.items() if value is not None}
    metadata = {name.removeprefix("metadata."): given.pop(name) for name in list(given) if name.startswith("metadata.")}
    for one, other in (("label", "labels" in given), ("metadata", metadata)):
        if one in given and other:
            raise InvalidRequest(f"{position}: {one} is in two columns: give it once")
    if metadata:
        given["metadata"] = metadata
    if "label" in given:
        given["labels"] = [given.pop("label")]
    return fields_of(given if source is None else {"source": source, **given}, position)
