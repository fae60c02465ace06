"""Exact neighbours by matrix product, against plain sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory_images import units
from visual_memory.services.voting import brute_force_neighbours
from visual_memory.services.voting.brute_force_neighbours import MISSING, Vectors, nearest


def signs(rows: int, seed: int) -> Vectors:
    """Unit vectors of length 16 whose products are exact in float32, however they are summed; many are equal."""
    drawn = np.random.default_rng(seed).integers(0, 2, (rows, 16))
    unit: Vectors = (drawn * 0.5 - 0.25).astype(np.float32)
    return unit


def plainly(query: Vectors, memory: Vectors, k: int, without: int = MISSING) -> list[int]:
    order = sorted(range(len(memory)), key=lambda row: (-float(query @ memory[row]), row))
    return [row for row in order if row != without][:k]


@given(queries=st.integers(0, 9), size=st.integers(0, 300), k=st.integers(1, 70), block=st.integers(1, 301))
def test_they_are_those_of_plain_sorting_ties_by_number(queries: int, size: int, k: int, block: int) -> None:
    memory, asked = signs(size, seed=size), signs(queries, seed=k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(brute_force_neighbours, "BLOCK", block)
        similarities, rows = nearest(asked, memory, k)
    held = min(k, size)
    for place, query in enumerate(asked):
        assert rows[place, :held].tolist() == plainly(query, memory, k)
        assert (rows[place, held:] == MISSING).all()
        np.testing.assert_array_equal(similarities[place, :held], memory[rows[place, :held]] @ query)


@pytest.mark.parametrize("block", [1, 7, 40])
def test_what_is_left_out_is_no_neighbour(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brute_force_neighbours, "BLOCK", block)
    memory = signs(40, seed=3)
    _, rows = nearest(memory, memory, 40, leave_out=np.arange(40))
    for row in range(40):
        assert rows[row, :39].tolist() == plainly(memory[row], memory, 39, row)
        assert rows[row, 39] == MISSING


@pytest.mark.parametrize("threads", [1, 3])
def test_how_many_threads_compute_changes_nothing(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, asked = units(60, seed=1, dimension=33), units(20, seed=2, dimension=33)
    at_once = nearest(asked, memory, 7)
    monkeypatch.setattr(brute_force_neighbours, "QUERIES", 3)
    for one, other in zip(nearest(asked, memory, 7, threads=threads), at_once, strict=True):
        np.testing.assert_array_equal(one, other)


@given(size=st.integers(2, 400), gone=st.integers(1, 399), seed=st.integers(0, 1000))
def test_nothing_tells_of_what_was_once_in_the_memory(size: int, gone: int, seed: int) -> None:
    """Promise 4: with others that are further away before and after it, similarities are the same to the last bit."""
    memory, asked = units(size, seed=seed, dimension=33), units(5, seed=seed + 1, dimension=33)
    far = -np.tile(asked[:1], (gone, 1))
    alone, rows = nearest(asked[:1], memory, min(size, 20))
    among, shifted = nearest(asked, np.concatenate([far, memory]), min(size, 20))
    np.testing.assert_array_equal(alone[0], among[0])
    np.testing.assert_array_equal(rows[0] + gone, shifted[0])


def test_equals_beyond_the_candidates_are_found() -> None:
    memory = np.tile(signs(1, seed=1), (500, 1))
    _, rows = nearest(memory[:2], memory, 10)
    assert rows.tolist() == [list(range(10))] * 2
