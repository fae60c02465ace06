"""How much an explanation may compute and read: in a request, or as a job."""

import math
from dataclasses import dataclass


class OverBudget(Exception):
    """An explanation takes more than its budget."""


@dataclass(frozen=True)
class Budget:
    """The most that an explanation may take.

    Attributes:
        images: that are compared with the decision's vector, several times.
        cells: of the tables of a counterfactual's search; some 50 ns each.
        bytes: of stored decisions that are read.
        refuses: whether an explanation that takes more raises `OverBudget`; else it searches less, and its result says
            so.
    """

    images: float
    cells: float
    bytes: float
    refuses: bool


AT_ONCE = Budget(images=100_000, cells=2e7, bytes=32 * 2**20, refuses=True)
"""About a second; what takes more is a job."""
AS_A_JOB = Budget(images=math.inf, cells=5e8, bytes=math.inf, refuses=False)
"""Half a minute for each size of a counterfactual; larger sets are not searched for, and the result says so."""


def no_progress(_stage: str, _done: int, _total: int) -> None:
    """Ignore progress, where no job reports it."""
