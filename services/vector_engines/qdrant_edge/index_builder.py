"""An index over a shard, built by a process of its own: the engine would hold up every other thread while it builds.

The process holds no setting and no secret, gives way to others, and ends with its parent, however that ends.
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
from visual_memory.services.vector_engines.hnsw_parameters import CANDIDATES, EDGES, QUANTILE, SCANNED
from visual_memory.services.vector_engines.qdrant_edge.shard_files import config_of

LOOK_SECONDS = 0.1
NICENESS = 10
NO_BOUND = 2**40
"""KiB."""


class IndexFailed(Exception):
    """The process that builds an index ended without it."""


def build_index(shard: Path, vectors: Mapping[str, int], may_go_on: Callable[[], None]) -> None:
    """Let a process build the index of a shard.

    Must be called in a thread that lives as long as the call, for the process ends with it.

    Args:
        shard: its folder; open nowhere.
        vectors: its named vectors with their sizes.
        may_go_on: called again and again; what it raises ends the building.

    Raises:
        IndexFailed: the process ended otherwise than well; the shard may be unusable.
    """
    told = json.dumps({"shard": str(shard), "vectors": dict(vectors), "parent": os.getpid()})
    command = [sys.executable, "-m", "visual_memory.services.vector_engines.qdrant_edge.index_builder", told]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment()) as process:  # noqa: S603 - our own
        try:
            while process.poll() is None:
                may_go_on()
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
    """Where modules and libraries are, and none of the secrets that our own environment may hold."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}


def main() -> None:
    """Build the index that the first argument tells of (JSON)."""
    told = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is meant for the parent, which ends this
    end_with_parent(told["parent"], signal.SIGKILL)
    os.nice(NICENESS)
    shard = edge.EdgeShard.load(told["shard"], _config(told["vectors"]))
    shard.optimize()
    shard.flush()
    shard.close()


def _config(vectors: Mapping[str, int]) -> edge.EdgeConfig:
    """One segment with a graph over all vectors, which are compared by 8 bits a number; however few they are."""
    return config_of(
        vectors,
        hnsw_config=edge.HnswIndexConfig(EDGES, CANDIDATES, SCANNED),
        quantization_config=edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, quantile=QUANTILE, memory=edge.Memory.Cached
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=1, max_segment_size=NO_BOUND, indexing_threshold=1),
    )


if __name__ == "__main__":
    main()
