"""Import vectors from files until they are durable, against the bare engine and against reading the files.

``python -m benchmarks.import_vectors 1000000`` tells how long a million takes, and how much memory each process.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import qdrant_edge as edge
from pyarrow import FixedSizeListArray, array, parquet, table

from benchmarks.result_table import Row, seconds
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.schemas.moments import now
from visual_memory.services.cli.temporary_service import temporary_service
from visual_memory.services.client.http_client import Client
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

ROWS, SIZE, CLASSES, AT_ONCE = 100_000, 384, 100, 1024
ENCODER = "random-384"
BARE, NUMPY, PYARROW = "Edge's own upsert of the same points", "reading with numpy", "reading with pyarrow"
SECONDS = 15.0
"""Seconds that 100,000 vectors may take."""
POLL = 0.1
SHOWN = {"api": "API", "engine": "engine", "worker": "worker"}


def measure() -> list[Row]:
    """Import both kinds of file, each into its own service, and as many points into a bare engine."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        npy, columns = write_npy(folder, ROWS), (write_parquet(folder),)
        (of_npy, peaks), (of_parquet, others) = (
            taught(folder / f"for {each[0].name}", each) for each in (npy, columns)
        )
        bare, second = upsert(folder / "bare"), upsert(folder / "second")
        reading = seconds(lambda: read_npy(npy[0])), seconds(lambda: read_parquet(*columns))
    stage = f"{ROWS:,} x {SIZE} vectors, command line to durable, from"
    return [
        _row(f"{stage} .npy and .txt", of_npy, {BARE: bare, NUMPY: reading[0]}),
        _row(f"{stage} .parquet", of_parquet, {BARE: second, PYARROW: reading[1]}),
        *(Row(f"the same: peak memory of {name}", "MiB", max(peak, others[name])) for name, peak in peaks.items()),
    ]


def _row(stage: str, ours: float, others: Mapping[str, float]) -> Row:
    ratios = {name: each / ours for name, each in others.items()}
    return Row(stage, "s", ours, others, ratios, note=f"{SECONDS:g} s allowed")


def main(rows: int) -> None:
    """Import vectors once, and print time and memory."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        took, peaks = taught(folder / "taught", write_npy(folder, rows))
    print(f"{rows:,} x {SIZE} from .npy and .txt: {took:.1f} s, {rows / took:,.0f}/s")
    for name, peak in peaks.items():
        print(f"peak memory of {name}: {peak:,.0f} MiB")


def taught(folder: Path, files: tuple[Path, ...]) -> tuple[float, dict[str, float]]:
    """Import files into a service that was used before.

    Returns:
        Seconds that it took; MiB that each process held at most, with mapped files.
    """
    folder.mkdir()
    tiny_encoder(folder / ENCODER, SIZE)
    with temporary_service(folder / "data", ENCODER__NAME=str(folder / ENCODER)) as client:
        add(client, write_npy(folder / "few", AT_ONCE))
        took, peak = add(client, files)
        commands = {child.pid: child.cmdline()[-1] for child in psutil.Process().children(recursive=True)}
        peaks = {f"the {SHOWN[name]}": _peak(pid) for pid, name in commands.items() if name in SHOWN}
    return took, {**peaks, "the command": peak}


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), 0) / 1024


def add(client: Client, files: tuple[Path, ...]) -> tuple[float, float]:
    """The seconds of the command, and its peak memory in MiB."""
    file, *labels = map(str, files)
    said = [word for each in labels for word in ("--labels", each)]
    command = [sys.executable, "-m", "visual_memory.services.cli", "add", file, *said, "--encoder", ENCODER, "--json"]
    around = os.environ | {"VISUAL_MEMORY_URL": client.url, "VISUAL_MEMORY_KEY": client.key or ""}
    begun = time.perf_counter()
    peak = 0.0
    with subprocess.Popen(command, env=around, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], POLL)[0]:
            peak = max(peak, _peak(process.pid))
        told = json.loads(process.stdout.read())
    took = time.perf_counter() - begun
    assert not process.returncode, told
    assert told["remembered"] == (len(np.load(file, mmap_mode="r")) if file.endswith(".npy") else ROWS), told
    return took, peak


def upsert(folder: Path) -> float:
    """The seconds that Qdrant Edge takes for as many points of the same form."""
    engine = EdgeEngine(folder)
    Memory(engine, ENCODER, SIZE, {}).open()  # for the payload's indexes
    vectors = random(0, ROWS)
    with engine._shards.use() as shard:  # noqa: SLF001 - the bare engine is within
        taken = seconds(lambda: _upsert(shard.engine, vectors))
    engine.close()
    return taken


def _upsert(shard: edge.EdgeShard, vectors: Vectors) -> None:
    for start in range(0, len(vectors), AT_ONCE):
        points = [
            edge.Point(str(uuid.uuid4()), {ENCODER: row}, payload(start + place))
            for place, row in enumerate(vectors[start : start + AT_ONCE].tolist())
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()


def payload(row: int) -> dict[str, object]:
    """The payload that the service stores with a vector."""
    content_hash, labels = f"{row:064x}", [f"class/{row % CLASSES}"]
    return {
        "image_id": content_hash,
        "content_hash": content_hash,
        "labels": labels,
        "label_paths": ["class", *labels],
        "state": "remembered",
        "attempts": 0,
        "accepted_at": now().isoformat(),
        "tenant": "default",
        "picture": f"vector.{uuid.uuid4().hex}",
        "encoder": ENCODER,
    }


def random(seed: int, rows: int) -> Vectors:
    """Random vectors of any length."""
    return np.random.default_rng(seed).standard_normal((rows, SIZE), np.float32)


def write_npy(folder: Path, rows: int) -> tuple[Path, Path]:
    """A file of vectors, and one of their labels."""
    folder.mkdir(exist_ok=True)
    file, labels = folder / "vectors.npy", folder / "labels.txt"
    held = np.lib.format.open_memmap(file, "w+", np.float32, (rows, SIZE))
    for start in range(0, rows, ROWS):
        held[start : start + ROWS] = random(start + rows, min(ROWS, rows - start))
    held.flush()
    labels.write_text("".join(f"class/{row % CLASSES}\n" for row in range(rows)))
    return file, labels


def write_parquet(folder: Path) -> Path:
    """A file of other vectors, with their labels."""
    file = folder / "vectors.parquet"
    vectors = FixedSizeListArray.from_arrays(array(random(1, ROWS).reshape(-1)), SIZE)
    parquet.write_table(table({"vector": vectors, "label": [f"class/{row % CLASSES}" for row in range(ROWS)]}), file)
    return file


def read_npy(file: Path) -> None:
    """Every vector, in chunks."""
    for start in range(0, ROWS, AT_ONCE):
        np.array(np.load(file, mmap_mode="r")[start : start + AT_ONCE])


def read_parquet(file: Path) -> None:
    """Every vector, in chunks."""
    for batch in parquet.ParquetFile(file, buffer_size=2**20).iter_batches(AT_ONCE):
        batch.column("vector").flatten().to_numpy()


if __name__ == "__main__":
    main(int(sys.argv[1]))
