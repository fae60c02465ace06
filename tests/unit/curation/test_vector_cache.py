"""Vectors at hand: bounded in bytes, and whole for whoever has begun to use them."""

import numpy as np

from visual_memory.services.curation.judgement.vector_cache import VectorCache

A, B = np.array([7, 3, 5], np.uint64), np.array([1, 2], np.uint64)
OF_A, OF_B = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((2, 2), np.float32)


def test_vectors_are_found_by_their_images() -> None:
    cache = VectorCache(100)
    cache.put("a", A, OF_A)
    asked = np.array([3, 9, 7], np.uint64)
    filled = np.full((3, 2), -1, np.float32)
    cache.get("a").fill(asked, filled)
    assert cache.get("a").has(asked).tolist() == [True, False, True]
    assert filled.tolist() == [[2, 3], [-1, -1], [0, 1]]


def test_another_memory_that_takes_the_place_takes_nothing_from_one_in_use() -> None:
    cache = VectorCache(OF_A.nbytes)
    cache.put("a", A, OF_A)
    held = cache.get("a")
    cache.put("b", B, OF_B)
    filled = np.full((3, 2), -1, np.float32)
    held.fill(A, filled)
    assert filled.tolist() == OF_A.tolist()
    assert not cache.get("a").has(A).any()
    assert cache.get("b").has(B).all()


def test_what_is_too_large_is_not_held() -> None:
    cache = VectorCache(OF_A.nbytes - 1)
    cache.put("a", A, OF_A)
    assert not cache.get("a").has(A).any()
