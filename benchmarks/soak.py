"""Stream very many small pictures through a service, and measure how the memory of each process grows.

``python -m benchmarks.soak [PICTURES]``, 100,000 unless it is said. The encoder is a tiny one; it is no part of
``make bench``.
"""

import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.ingest import PER_REQUEST, through_all
from benchmarks.process_costs import memory
from benchmarks.tiny_encoder import tiny_encoder
from visual_memory.services.cli.temporary_service import temporary_service

LOOKS = 20
MIB = 2**20
Held = Mapping[str, float]


def main(number: int) -> None:
    """Print the memory of each process several times, and its growth per 1,000 pictures."""
    chance = np.random.default_rng(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        temporary_service(Path(folder) / "data", ENCODER__NAME=str(tiny_encoder(Path(folder) / "tiny"))) as client,
    ):
        looks: list[tuple[int, Held]] = []
        step = max(PER_REQUEST, number // LOOKS)
        for sent in range(step, number + 1, step):
            for start in range(0, step, 20 * PER_REQUEST):  # so that no more than these are held here
                through_all(client, [_small(chance) for _ in range(min(20 * PER_REQUEST, step - start))])
            looks.append((sent, memory()))
            told = ", ".join(f"{name} {held / MIB:.0f}" for name, held in sorted(looks[-1][1].items()))
            print(f"{sent:,} pictures, MiB: {told}", flush=True)
        for name, slope in slopes(looks).items():
            print(f"{name}: {slope / 1024:+.1f} KiB with each 1,000 pictures")


def slopes(looks: Sequence[tuple[int, Held]]) -> dict[str, float]:
    """Growth in bytes per 1,000 pictures by process, fitted to the second half of the run."""
    late = looks[len(looks) // 2 :]
    sent = [number for number, _ in late]
    return {
        name: float(np.polyfit(sent, [held.get(name, 0.0) for _, held in late], 1)[0]) * 1000
        for name in sorted(late[-1][1])
    }


def _small(chance: np.random.Generator) -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(chance.integers(0, 256, (8, 8, 3), np.uint8)).resize((48, 48)).save(out, "JPEG")
    return out.getvalue()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
