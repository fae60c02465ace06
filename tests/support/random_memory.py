"""A small memory of random vectors, drawn to their labels, some with two labels."""

import numpy as np

from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors

LABELS = ("cat", "dog", "fox", "owl")


def labelled(number: int, seed: int, name: str = "image") -> LabelledVectors:
    centres = np.random.default_rng(7).normal(size=(len(LABELS), 12))
    chance = np.random.default_rng(seed)
    first, second = chance.integers(0, len(LABELS), (2, number))
    vectors = centres[first] + chance.normal(size=(number, 12)) * 1.6
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    labels = [
        [LABELS[one], LABELS[other]] if one != other and place % 5 == 0 else [LABELS[one]]
        for place, (one, other) in enumerate(zip(first, second, strict=True))
    ]
    return LabelledVectors([f"{name}-{place}" for place in range(number)], labels, unit)


def silent(_stage: str, _done: int, _total: int) -> None:
    """Nobody is told."""
