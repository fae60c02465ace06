"""Parameters of the HNSW graph, of quantization and of searches by effort; chosen with ``benchmarks/search.py``."""

from collections.abc import Mapping
from dataclasses import dataclass

from visual_memory.schemas.classify_options import Effort

HNSW_M = 16
"""Links of each point in the graph."""
EF_CONSTRUCT = 100
"""Candidates among which the links of a new point are chosen."""
FULL_SCAN_KIB = 20_000
"""KiB of vectors up to which all are compared: no graph is built for them, nor used if a filter leaves no more."""
QUANTILE = 0.99
"""Quantile of the numbers that 8 bits represent; numbers beyond it are clipped."""

FAR_FACTOR = 4
"""Factor of the candidates if a filter may exclude all near points.

Recall of the 100 nearest of 60,000 points under a filter by labels: 0.91 to 0.93 with 128 candidates, 0.995 with 512;
under a range that 14 to 20 % of the points met: 0.97 to 0.98, and 0.999.
"""


@dataclass(frozen=True)
class EffortParameters:
    """Parameters of a search.

    Attributes:
        candidates: HNSW's ef, the minimum number of candidates while the graph is searched.
        oversampled: factor of k: so many points are rescored with their full vectors;
        extra: and at least so many more than k.
    """

    candidates: int
    oversampled: float
    extra: int = 0

    def ef(self, *, far: bool) -> int:
        """HNSW's ef for a search; see `Search.far`."""
        return self.candidates * (FAR_FACTOR if far else 1)

    def oversampling(self, k: int) -> float:
        """The factor of k points that are rescored."""
        return max(self.oversampled, 1 + self.extra / k)


EFFORTS: Mapping[Effort, EffortParameters] = {
    Effort.FAST: EffortParameters(candidates=64, oversampled=1.0),
    Effort.BALANCED: EffortParameters(candidates=128, oversampled=1.5, extra=16),
}
"""Other efforts compare every point."""
