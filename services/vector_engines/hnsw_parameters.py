"""How an index is built and searched, in the words of both engines: chosen by ``benchmarks/search.py``."""

from collections.abc import Mapping
from dataclasses import dataclass

from visual_memory.schemas.classify_options import Effort

HNSW_M = 16
"""Links of a point in the graph (HNSW's m)."""
EF_CONSTRUCT = 100
"""Points among which the links of a new one are chosen (HNSW's ef_construct)."""
FULL_SCAN_KIB = 20_000
"""KiB of vectors; so few are compared one by one: no graph is built of them, nor searched for what a filter leaves."""
QUANTILE = 0.99
"""The part of a vector's numbers that 8 bits must be able to tell apart; those beyond are cut."""

FAR_FACTOR = 4
"""So many times as many candidates where a filter may leave out all that is near. Of the 100 nearest of 60,000 that met
a filter by labels, 128 candidates found 0.91 to 0.93, and 512 found 0.995; of those in a range that 14 to 20 in a
hundred met, 0.97 to 0.98, and 0.999."""


@dataclass(frozen=True)
class EffortParameters:
    """How far a search looks.

    Attributes:
        candidates: points that it keeps in view on its way through the graph, at least (HNSW's ef).
        times: so many times as many as are wanted are compared anew, with their vectors in full;
        more: and at least so many more than are wanted.
    """

    candidates: int
    times: float
    more: int = 0

    def ef(self, *, far: bool) -> int:
        """The candidates of a search; see `Search.far`."""
        return self.candidates * (FAR_FACTOR if far else 1)

    def oversampling(self, k: int) -> float:
        """How many times as many as the k that are wanted are compared anew."""
        return max(self.times, 1 + self.more / k)


EFFORTS: Mapping[Effort, EffortParameters] = {
    Effort.FAST: EffortParameters(candidates=64, times=1.0),
    Effort.BALANCED: EffortParameters(candidates=128, times=1.5, more=16),
}
"""What is not here is compared with every point."""
