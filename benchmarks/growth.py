"""Measure search as a memory grows: time, memory, disk and recall at 10,000 to 1,000,000 images, as a table and a plot.

python -m benchmarks.growth [SIZES...]; writes growth.json and growth.png beside this file, and the page. A million take
about 20 minutes and 8 GB of disk.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure

from benchmarks.__main__ import HERE, machine
from benchmarks.clustered_vectors import DIMENSION, ENCODER, KIND, METADATA, TENANT, clustered, points
from visual_memory.schemas.classify_options import Effort
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Insert, Vectors
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_edge.index_builder import build_index

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
K, QUERIES = 100, 200
AT_ONCE = 5_000
RESULTS, PLOT, PAGE = HERE / "growth.json", HERE / "growth.png", HERE / "README.md"
START, END = "<!-- growth -->", "<!-- /growth -->"
OWNER = """
import sys
from pathlib import Path
from visual_memory.services.vector_engines.engine_owner_process import serve
serve(*map(Path, sys.argv[1:]))
"""
COLOURS = {Effort.FAST: "#009e73", Effort.BALANCED: "#0072b2", Effort.EXACT: "#d55e00"}


@dataclass(frozen=True)
class Step:
    """The measurements at one size.

    Attributes:
        memories: how many are remembered.
        build_seconds: of the index, over all of them.
        open_seconds: until the engine has opened them.
        still_seconds: for which another thread of its process stood still meanwhile, at most.
        resident_bytes: of the engine's process after the queries, itself and what it has mapped of its files included.
        disk_bytes: of its folder.
        milliseconds: of one query, the median, by word; through the owner's socket, asked the second time.
        recall: of the k nearest, by word.
    """

    memories: int
    build_seconds: float
    open_seconds: float
    still_seconds: float
    resident_bytes: int
    disk_bytes: int
    milliseconds: Mapping[Effort, float]
    recall: Mapping[Effort, float]


def main(sizes: Sequence[int]) -> None:
    """Measure each size in one growing folder, and store the results after each."""
    queries = clustered(QUERIES, seed=1)[0]
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as folder:
        held = 0
        for size in sorted(sizes):
            seconds = grow(Path(folder) / "data", held, size)
            steps.append(measured(Path(folder), queries, size, seconds))
            held = size
            write(steps)
            print(table(steps), flush=True)


def grow(data: Path, held: int, size: int) -> float:
    """Insert more images into the engine and build its index; return the seconds of the build."""
    memory = Memory(engine := EdgeEngine(data), ENCODER, DIMENSION, METADATA)
    memory.open()
    for start in range(held, size, AT_ONCE):
        vectors, numbers = clustered(min(AT_ONCE, size - start), seed=start + 2)
        engine.write([Insert([*points(vectors, numbers, start)])])
    memory.close()
    shard = data / json.loads((data / "collection.json").read_text())["shard"]
    begun = time.perf_counter()
    build_index(shard, {ENCODER: DIMENSION}, lambda: None)
    return time.perf_counter() - begun


def measured(folder: Path, queries: Vectors, size: int, build_seconds: float) -> Step:
    """Query the engine in its owner process, as the service does."""
    opening = opened(folder / "data")
    with owner(folder) as (memory, process):
        taken: dict[Effort, float] = {}
        found: dict[Effort, list[set[str]]] = {}
        for effort in Effort:
            memory.search.nearest(TENANT, queries, K, effort=effort)  # what the engine reads first comes from the disk
            times, found[effort] = [], []
            for row in range(QUERIES):
                begun = time.perf_counter()
                [hits] = memory.search.nearest(TENANT, queries[row : row + 1], K, effort=effort)
                times.append(time.perf_counter() - begun)
                found[effort].append({hit.image_id for hit in hits})
            taken[effort] = 1e3 * float(np.median(times))
        recall = {
            effort: float(np.mean([len(one & all_) / K for one, all_ in zip(some, found[Effort.EXACT], strict=True)]))
            for effort, some in found.items()
        }
        resident = process.memory_info().rss
    disk = sum(path.stat().st_blocks * 512 for path in (folder / "data").rglob("*"))
    return Step(size, build_seconds, *opening, resident, disk, taken, recall)


def opened(data: Path) -> tuple[float, float]:
    """The seconds to open a folder, and the longest time for which another thread is blocked meanwhile."""
    ended, beats = threading.Event(), [time.perf_counter()]

    def beat() -> None:
        while not ended.wait(0.001):
            beats.append(time.perf_counter())

    with ThreadPoolExecutor(1) as other:
        other.submit(beat)
        begun = time.perf_counter()
        engine = EdgeEngine(data)
        done = time.perf_counter()
        ended.set()
    engine.close()
    return done - begun, float(np.diff([*beats, done]).max())


@contextmanager
def owner(folder: Path, dimension: int = DIMENSION) -> Iterator[tuple[Memory, psutil.Process]]:
    """Start the owner process; yield a memory that uses it."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder / "data"), str(folder / "socket")])
    memory = Memory(EngineOwnerClient(folder / "socket", 600), ENCODER, dimension, METADATA)
    try:
        memory.open()
        yield memory, psutil.Process(process.pid)
    finally:
        memory.close()
        process.terminate()
        process.wait()


def exponent(steps: Sequence[Step], effort: Effort) -> float | None:
    """Fit the exponent e of time = a * images ** e on logarithmic axes."""
    if len(steps) < 2:
        return None
    sizes, taken = [step.memories for step in steps], [step.milliseconds[effort] for step in steps]
    return float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])


def each_further(steps: Sequence[Step]) -> tuple[float, float]:
    """Bytes in memory and on disk per image beyond the smallest size."""
    if len(steps) < 2:
        return float("nan"), float("nan")
    first, last = steps[0], steps[-1]
    more = last.memories - first.memories
    return (last.resident_bytes - first.resident_bytes) / more, (last.disk_bytes - first.disk_bytes) / more


def write(steps: Sequence[Step]) -> None:
    """Write the results, the plot and the page."""
    exponents = {effort: exponent(steps, effort) for effort in Effort}
    kept = {"on": machine(), "at": time.strftime("%Y-%m-%d"), "dimension": DIMENSION, "k": K, "data": KIND}
    figures = {**kept, "steps": [asdict(step) for step in steps], "exponents": exponents}
    RESULTS.write_text(f"{json.dumps(figures, indent=1)}\n")
    plot(steps)
    before, _, rest = PAGE.read_text().partition(START)
    text = (
        f"`python -m benchmarks.growth`, {kept['at']}, {kept['on']}; {DIMENSION} numbers a vector, k = {K}, {KIND}\n\n"
        f"{table(steps)}\n\n![time of a query over the size of the memory](growth.png)"
    )
    PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}")


def table(steps: Sequence[Step]) -> str:
    """A row for each size, and the fitted exponents."""
    words = [*Effort]
    times = " | ".join(f"{word}, ms" for word in words)
    opening = "index built in | opened in | standing still"
    lines = [
        f"| memories | {opening} | {times} | finds, fast | finds, balanced | memory each | disk each |",
        "|---" * (len(words) + 8) + "|",
    ]
    for step in steps:
        times = " | ".join(f"{step.milliseconds[word]:.2f}" for word in words)
        finds = " | ".join(f"{step.recall[word]:.2%}" for word in (Effort.FAST, Effort.BALANCED))
        rooms = " | ".join(f"{size / step.memories:,.0f} B" for size in (step.resident_bytes, step.disk_bytes))
        opening = f"{step.open_seconds:.1f} s | {step.still_seconds:.2f} s"
        lines.append(f"| {step.memories:,} | {step.build_seconds:.0f} s | {opening} | {times} | {finds} | {rooms} |")
    fitted = " | ".join("" if (e := exponent(steps, word)) is None else f"N^{e:.2f}" for word in words)
    further = " | ".join(f"{size:,.0f} B" for size in each_further(steps))
    return "\n".join([*lines, f"| from the first to the last | | | | {fitted} | | | {further} |"])


def plot(steps: Sequence[Step]) -> None:
    """Plot the time of a query over the number of images."""
    axes = (figure := Figure(figsize=(7, 4.2), layout="constrained")).subplots()
    sizes = np.array([step.memories for step in steps])
    for effort, colour in COLOURS.items():
        times, grown = [step.milliseconds[effort] for step in steps], exponent(steps, effort)
        label = effort if grown is None else f"{effort}: N^{grown:.2f}"
        axes.plot(sizes, times, marker="o", color=colour, label=label)
    logarithmic = steps[0].milliseconds[Effort.BALANCED] * np.log(sizes) / np.log(sizes[0])
    axes.plot(sizes, logarithmic, color="#999999", linestyle="--", label="log N, through the first balanced")
    axes.set(xscale="log", yscale="log", xlabel="memories", ylabel=f"one query, k = {K}, ms (median)")
    axes.legend()
    figure.savefig(PLOT, dpi=120)


if __name__ == "__main__":
    main([int(each.replace("_", "").replace(",", "")) for each in sys.argv[1:]] or SIZES)
