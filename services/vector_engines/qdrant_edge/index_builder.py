"""Build the HNSW index of a shard in a child process: in this one, the engine would block all other threads.

The child gets no settings and no secrets, runs at low priority and ends with its parent, however that ends.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import qdrant_edge as edge

from visual_memory.services.infrastructure.processes.prctl import end_with_parent
from visual_memory.services.vector_engines.hnsw_parameters import EF_CONSTRUCT, FULL_SCAN_KIB, HNSW_M, QUANTILE
from visual_memory.services.vector_engines.qdrant_edge.shard_files import shard_config

LOOK_SECONDS = 0.1
NICENESS = 10
NO_BOUND = 2**40
"""KiB."""


class IndexFailed(Exception):
    """The child process did not build the index."""


def build_index(shard: Path, vectors: Mapping[str, int], check_stop: Callable[[], None]) -> None:
    """Build the index of a shard in a child process.

    The child ends with the thread that calls this.

    Args:
        shard: its folder; must not be open anywhere.
        vectors: names and sizes of its vectors.
        check_stop: called repeatedly; an exception that it raises stops the build.

    Raises:
        IndexFailed: the child failed; the shard may be unusable.
    """
    arguments = json.dumps({"shard": str(shard), "vectors": dict(vectors), "parent": os.getpid()})
    command = [sys.executable, "-m", "visual_memory.services.vector_engines.qdrant_edge.index_builder", arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment()) as process:  # noqa: S603 - our own
        try:
            while process.poll() is None:
                check_stop()
                try:
                    process.wait(LOOK_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise IndexFailed(f"the process that builds the index ended with {process.returncode}")


def _environment() -> dict[str, str]:
    """The paths of modules and libraries, without the secrets that the environment may contain."""
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return libraries | {"PYTHONPATH": os.pathsep.join(sys.path)}


def main() -> None:
    """Build the index that the first argument describes (JSON)."""
    arguments = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the parent, which ends this process
    end_with_parent(arguments["parent"], signal.SIGKILL)
    os.nice(NICENESS)
    shard = edge.EdgeShard.load(arguments["shard"], _config(arguments["vectors"]))
    shard.optimize()
    shard.flush()
    shard.close()


def _config(vectors: Mapping[str, int]) -> edge.EdgeConfig:
    """One segment with a graph over all vectors, however few, quantised to 8 bits a number."""
    return shard_config(
        vectors,
        hnsw_config=edge.HnswIndexConfig(HNSW_M, EF_CONSTRUCT, FULL_SCAN_KIB),
        quantization_config=edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, quantile=QUANTILE, memory=edge.Memory.Cached
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=NO_BOUND, indexing_threshold=1),
    )


if __name__ == "__main__":
    main()
