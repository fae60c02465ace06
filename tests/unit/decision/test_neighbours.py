"""Exact neighbours by matrix product, against plain sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.decision.neighbours import NOBODY, nearest
from tests.contract.support import units


def plainly(query: NDArray[np.float32], memory: NDArray[np.float32], k: int, without: int) -> list[int]:
    order = sorted(range(len(memory)), key=lambda row: (-round(float(query @ memory[row]), 5), row))
    return [row for row in order if row != without][:k]


@given(queries=st.integers(0, 9), size=st.integers(0, 60), k=st.integers(1, 70), cut=st.integers(1, 61))
def test_they_are_those_of_plain_sorting_however_the_memory_is_cut(queries: int, size: int, k: int, cut: int) -> None:
    memory = units(size, seed=size)
    memory[size // 2 :] = memory[: size - size // 2]  # so that there are ties
    asked = units(queries, seed=k)
    similarities, rows = nearest(asked, (memory[at : at + cut] for at in range(0, size, cut)), k)
    for place, query in enumerate(asked):
        held = min(k, size)
        assert rows[place, :held].tolist() == plainly(query, memory, k, NOBODY)
        assert (rows[place, held:] == NOBODY).all()
        np.testing.assert_allclose(similarities[place, :held], memory[rows[place, :held]] @ query, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_what_is_left_out_is_no_neighbour(cut: int) -> None:
    memory = units(40, seed=3)
    _, rows = nearest(memory, (memory[at : at + cut] for at in range(0, 40, cut)), 40, leave_out=np.arange(40))
    for row in range(40):
        assert rows[row, :39].tolist() == plainly(memory[row], memory, 39, row)
        assert rows[row, 39] == NOBODY
