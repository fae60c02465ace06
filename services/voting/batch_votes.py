"""The vote of `decide` for many queries and every k at once, on matrices.

The neighbours of n queries are matrices [n, k]. Their labels are numbers in a matrix [n, k, l]; rows with fewer than l
labels end with `MISSING`. Where a query has fewer than k neighbours, its row ends with weight 0 and `MISSING`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.decide import TIE
from visual_memory.services.voting.group_copies import first_equal_column

Integers = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Ballots:
    """One ballot for each neighbour and label, in the order in which `decide` counts them.

    Attributes:
        classes: int64 [b, n], the class of each ballot of each query, or `MISSING`.
        slots: int64 [b, n], the position of the class's score: that of its first ballot.
        per_neighbour: ballots of each neighbour, b / k.
    """

    classes: Integers
    slots: Integers
    per_neighbour: int


def collect_ballots(classes: Integers) -> Ballots:
    """The ballots of neighbours, for any weights.

    Args:
        classes: int64 [n, k, l], the labels of the neighbours.
    """
    flat = classes.reshape(len(classes), -1)
    slots = first_equal_column(flat)
    return Ballots(np.ascontiguousarray(flat.T), np.ascontiguousarray(slots.T), classes.shape[2])


def winners_by_k(ballots: Ballots, weights: Weights) -> Integers:
    """The class that wins when the k nearest vote, for every k.

    Scores are added in the order of `decide`, so they are equal to the last bit. A class takes the lead when its score
    exceeds the highest so far. Where the two differ by rounding alone, the class that reached the score first wins.

    Args:
        ballots: of n queries.
        weights: float64 [n, k], the weight that each neighbour adds to each of its labels, reliability included.

    Returns:
        int64 [n, k]: the winner among the nearest 1, 2, ... k; `MISSING` where none of them votes.
    """
    positions, queries = ballots.classes.shape
    column = np.arange(queries)
    scores, reached = np.zeros(positions * queries), np.empty((positions, queries))
    best, leader = np.zeros(queries), np.full(queries, MISSING)
    winners = np.empty((positions // ballots.per_neighbour, queries), np.int64)
    by_rank = np.ascontiguousarray(weights.T)
    for position in range(positions):
        slot = ballots.slots[position] * queries + column
        classes, rank = ballots.classes[position], position // ballots.per_neighbour
        score = reached[position] = scores[slot] + np.where(classes == MISSING, 0, by_rank[rank])
        scores[slot] = score
        higher = score > best
        np.copyto(leader, classes, where=higher)
        for query in np.flatnonzero(higher & (best >= score * (1 - TIE))):
            earliest = np.argmax(reached[: position + 1, query] >= score[query] * (1 - TIE))
            leader[query] = ballots.classes[earliest, query]
        np.maximum(best, score, out=best)
        if (position + 1) % ballots.per_neighbour == 0:
            winners[rank] = leader
    return np.ascontiguousarray(winners.T)


def class_scores(ballots: Ballots, weights: Weights) -> Weights:
    """The score of every class, at the position of its first ballot.

    Args:
        ballots: of n queries.
        weights: float64 [n, k], as for `winners_by_k`.

    Returns:
        float64 [n, b]; 0 at every other position.
    """
    added = np.where(ballots.classes == MISSING, 0, np.repeat(weights.T, ballots.per_neighbour, axis=0))
    positions, queries = ballots.classes.shape
    slots = ballots.slots * queries + np.arange(queries)
    summed = np.bincount(slots.ravel(), added.ravel(), positions * queries).reshape(positions, queries)
    return np.ascontiguousarray(summed.T)


def in_labels(classes: Integers, labels: Integers) -> NDArray[np.bool_]:
    """Whether each class is one of the labels of its query.

    Args:
        classes: int64 [n, ...].
        labels: int64 [n, l]; `MISSING` equals no class.
    """
    found = np.zeros(classes.shape, bool)
    for column in labels.T:
        label = column.reshape(-1, *[1] * (classes.ndim - 1))
        found |= (classes == label) & (label != MISSING)
    return found


def shares_label(classes: Integers, labels: Integers) -> NDArray[np.bool_]:
    """Whether each neighbour has a label in common with its query.

    Args:
        classes: int64 [n, k, l], the labels of the neighbours.
        labels: int64 [n, l], as for `in_labels`.

    Returns:
        [n, k].
    """
    found: NDArray[np.bool_] = np.logical_or.reduce(in_labels(classes, labels), axis=-1)
    return found
