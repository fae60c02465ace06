"""Values in parts that one statement takes."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Value = TypeVar("Value")


def batches(values: Iterable[Value], size: int = 500) -> Iterator[list[Value]]:
    """Values, at most so many at once."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch
