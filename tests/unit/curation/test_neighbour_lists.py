"""Lists that are kept up to date as images come and go, against lists that are made anew."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_images import units
from visual_memory.services.curation.judgement import neighbour_lists
from visual_memory.services.curation.judgement.neighbour_lists import NeighbourLists
from visual_memory.services.voting import brute_force_neighbours
from visual_memory.services.voting.brute_force_neighbours import MISSING, Vectors

DIMENSION = 12
DIRECTIONS = np.concatenate([units(30, seed=1, dimension=DIMENSION), units(30, seed=1, dimension=DIMENSION)[:1] + 1e-7])
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
"""The last two are nearly equal; images that share a direction are copies of each other."""

moves = st.lists(
    st.tuples(st.sampled_from(("add", "remove")), st.integers(0, 30), st.integers(0, 10**6)), min_size=1, max_size=8
)


def by_hand(vectors: Vectors, kept: int) -> tuple[list[list[int]], list[list[float]]]:
    """Every other image in order; products of the pair alone, as the lists promise."""
    rows, similarities = [], []
    for row, vector in enumerate(vectors):
        near = np.minimum(np.array([np.vecdot(vector, other) for other in vectors], np.float32), 1)
        order = [
            other for other in sorted(range(len(vectors)), key=lambda other: (-near[other], other)) if other != row
        ]
        rows.append(order[:kept])
        similarities.append([float(near[other]) for other in order[:kept]])
    return rows, similarities


@settings(deadline=None)
@given(moves=moves, kept=st.integers(1, 9), margin=st.integers(1, 4), at_once=st.integers(1, 9))
def test_they_are_those_made_anew_whatever_came_and_went(
    moves: list[tuple[str, int, int]], kept: int, margin: int, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbour_lists, "MIN_NEIGHBOURS", kept)
        patch.setattr(neighbour_lists, "MAX_NEIGHBOURS", kept + margin)
        patch.setattr(neighbour_lists, "NEW_BATCH", at_once)
        patch.setattr(neighbour_lists, "OLD_BATCH", at_once + 1)
        patch.setattr(brute_force_neighbours, "GATHERED_BYTES", 100)
        lists, vectors = NeighbourLists.of_none(), np.empty((0, DIMENSION), np.float32)
        for kind, number, seed in moves:
            chance = Random(seed)
            if kind == "remove":
                stays = np.array([chance.random() > number / 30 for _ in vectors], bool)
                lists, vectors = lists.where(stays), vectors[stays]
                lists = lists.refilled(vectors)
            else:
                new = np.array(chance.sample([True] * number + [False] * len(vectors), number + len(vectors)), bool)
                everything = np.empty((len(new), DIMENSION), np.float32)
                everything[~new] = vectors
                everything[new] = DIRECTIONS[[chance.randrange(len(DIRECTIONS)) for _ in range(number)]]
                lists, vectors = lists.with_new(everything, new), everything
            rows, similarities = by_hand(vectors, kept)
            assert lists.rows.shape == (len(vectors), kept + margin)
            for row in range(len(vectors)):
                held = min(kept, len(vectors) - 1)
                assert lists.rows[row, :held].tolist() == rows[row]
                assert lists.similarities[row, :held].tolist() == similarities[row]
            nobody = lists.rows == MISSING
            assert (lists.similarities[nobody] == -1).all()
            assert (nobody[:, :-1] <= nobody[:, 1:]).all(), "what is there comes first"


def test_one_that_is_removed_touches_only_the_lists_that_hold_it() -> None:
    vectors = units(400, seed=3, dimension=DIMENSION)
    lists = NeighbourLists.of_none().with_new(vectors, np.ones(400, bool), 2)
    stays = np.arange(400) != 7
    left = lists.where(stays)
    held = (lists.rows[stays] == 7).any(axis=1)
    assert held.any()
    assert (left.lengths() == neighbour_lists.MAX_NEIGHBOURS - held).all()
    assert len(left.short()) == 0
    assert left.refilled(vectors[stays]) is left, "no list is looked for anew: the margin is there for it"


def test_a_frame_that_came_thousands_of_times_is_compared_once() -> None:
    frame, others = units(1, seed=4, dimension=DIMENSION), units(300, seed=5, dimension=DIMENSION)
    vectors = np.concatenate([others, np.tile(frame, (4000, 1))])
    lists = NeighbourLists.of_none().with_new(vectors[:-1000], np.ones(3300, bool), 2)
    lists = lists.with_new(vectors, np.arange(4300) >= 3300, 2)
    assert lists.rows[300].tolist() == list(range(301, 429))
    assert lists.rows[4299].tolist() == list(range(300, 428))
    by_distance = np.argsort(-(others @ others[0]), kind="stable")
    nearer = [row for row in by_distance.tolist() if row and others[row] @ others[0] > float((others[0] @ frame.T)[0])]
    assert lists.rows[0].tolist() == (nearer + list(range(300, 428)))[:128]
