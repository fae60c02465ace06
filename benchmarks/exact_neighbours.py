"""Find exact neighbours of 10,000 queries among 100,000 images, against the matrix product alone and libraries."""

from functools import partial
from typing import Any

import numpy as np
from sklearn.neighbors import NearestNeighbors

from benchmarks.result_table import Row, compare, seconds
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.voting.brute_force_neighbours import Vectors, nearest

QUERIES, MEMORIES, DIMENSION, K = 10_000, 100_000, 384, 100
TOPICS = 300
FEW = 1_000
PRODUCT, FAISS, BRUTE = "the matrix product alone", "faiss, IndexFlatIP", "scikit-learn, brute force (1,000, scaled)"


def measure() -> list[Row]:
    """Measure every search."""
    chance = np.random.default_rng(0)
    topics = chance.standard_normal((TOPICS, DIMENSION), np.float32)
    memory, queries = gathered(topics, MEMORIES, chance), gathered(topics, QUERIES, chance)
    flat, brute = flat_index(memory), NearestNeighbors(n_neighbors=K, algorithm="brute", metric="cosine").fit(memory)
    others = {
        PRODUCT: lambda: seconds(partial(product, queries, memory)),
        FAISS: lambda: seconds(lambda: flat.search(queries, K)),
        BRUTE: lambda: seconds(lambda: brute.kneighbors(queries[:FEW])) * QUERIES / FEW,
    }
    stage = f"exact neighbours of {QUERIES:,} queries over {MEMORIES:,} x {DIMENSION}, k = {K}"
    ours = partial(seconds, lambda: nearest(queries, memory, K, threads=cpu_threads.count()))
    return [compare(stage, "s", ours, others, rounds=3, asked={PRODUCT: 0.7})]


def gathered(topics: Vectors, number: int, chance: np.random.Generator) -> Vectors:
    """Unit vectors, float32 [number, d], clustered as embeddings are."""
    vectors = topics[chance.integers(0, len(topics), number)]
    vectors += chance.standard_normal(vectors.shape, np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def product(queries: Vectors, memory: Vectors) -> None:
    """Compute all similarities in blocks of the fastest size, and discard them."""
    for start in range(0, len(queries), 512):
        for first in range(0, len(memory), 8192):
            queries[start : start + 512] @ memory[first : first + 8192].T


def flat_index(memory: Vectors) -> Any:
    """An exact faiss index of the memory."""
    import faiss

    index = faiss.IndexFlatIP(memory.shape[1])
    index.add(memory)
    return index
