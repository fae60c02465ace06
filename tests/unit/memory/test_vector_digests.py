"""A block of a vector is not evaded by a multiple of it."""

import numpy as np
import pytest

from tests.support.memory_images import units
from visual_memory.services.memory.points.vector_digests import OFFSETS, vector_digests

ROUNDS = 1000


@pytest.mark.parametrize("dimension", [2, 8, 384, 1280, 4096])
def test_every_positive_multiple_shares_a_digest(dimension: int) -> None:
    draw = np.random.default_rng(dimension)
    vectors = draw.normal(size=(ROUNDS, dimension)).astype(np.float32)
    factors = np.exp(draw.uniform(np.log(1e-30), np.log(1e30), (ROUNDS, 1)))
    multiples = (vectors * factors).astype(np.float32)
    shared = [len({*a} & {*b}) for a, b in zip(vector_digests(vectors), vector_digests(multiples), strict=True)]
    assert min(shared) > 0
    assert np.mean(shared) > len(OFFSETS) * 0.97


def test_the_vector_as_it_is_kept_shares_a_digest() -> None:
    """What is compared is what was sent with what the engine holds, which it brought to length 1 once more."""
    kept = units(ROUNDS, dimension=768)
    sent = (kept * np.float32(3)) * np.float32(0.1)
    for a, b in zip(vector_digests(kept), vector_digests(sent), strict=True):
        assert {*a} & {*b}


def test_simple_vectors_lie_on_no_border() -> None:
    simple = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 0, 0], [3, 4, 0, 0]], np.float32)
    for factor in (3, 1 / 3, 0.1, 7e8):
        multiples = (simple * np.float64(factor)).astype(np.float32)
        assert vector_digests(simple) == vector_digests(multiples)


def test_other_vectors_share_none() -> None:
    vectors = units(ROUNDS, dimension=384)
    near = vectors + np.random.default_rng(1).normal(scale=1e-3, size=vectors.shape).astype(np.float32)
    opposite = vector_digests(-vectors)
    for number, (a, b) in enumerate(zip(vector_digests(vectors), vector_digests(near), strict=True)):
        assert not {*a} & {*b}
        assert not {*a} & {*opposite[number]}
    assert len({digest for each in vector_digests(vectors) for digest in each}) == ROUNDS * len(OFFSETS)
