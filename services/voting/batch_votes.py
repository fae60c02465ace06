"""All answers of many queries at every k at once: what `votes.decide` says, for whole matrices of neighbours.

Neighbours of n queries are matrices [n, k]; their labels are numbers in a matrix [n, k, l], each neighbour's l labels
filled up with `MISSING`. A query that has fewer neighbours has weight 0 and `MISSING` at the end of its row.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visual_memory.services.voting.decide import TIE
from visual_memory.services.voting.exact_neighbours import MISSING
from visual_memory.services.voting.group_copies import first_equal_column

Integers = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Ballots:
    """Who votes for what: one ballot for each neighbour and label, in the order in which `decide` counts them.

    Attributes:
        classes: int64 [b, n], the class of each ballot of each query; `MISSING`: there is none.
        slots: int64 [b, n], where the score of its class is kept: at the first ballot for the same class.
        each: how many ballots a neighbour has, b / k.
    """

    classes: Integers
    slots: Integers
    each: int


def collect_ballots(classes: Integers) -> Ballots:
    """What is common to every way of weighing the same neighbours.

    Args:
        classes: int64 [n, k, l], the labels of the neighbours.
    """
    flat = classes.reshape(len(classes), -1)
    slots = first_equal_column(flat)
    return Ballots(np.ascontiguousarray(flat.T), np.ascontiguousarray(slots.T), classes.shape[2])


def winners_by_k(cast: Ballots, weights: Weights) -> Integers:
    """The class that wins when the k nearest vote, for every k.

    Scores are added up in the order of `decide`, so they are the same to the last bit. A class takes the lead when its
    score passes the highest so far; only where the two differ by rounding alone must be looked up who was there first.

    Args:
        cast: the ballots of n queries.
        weights: float64 [n, k], what each neighbour gives to each of its labels, reliability included; 0: nothing.

    Returns:
        int64 [n, k]: the winner among the nearest 1, 2, ... k; `MISSING` where none of them votes.
    """
    places, queries = cast.classes.shape
    column = np.arange(queries)
    scores, reached = np.zeros(places * queries), np.empty((places, queries))
    best, leader = np.zeros(queries), np.full(queries, MISSING)
    winners = np.empty((places // cast.each, queries), np.int64)
    by_rank = np.ascontiguousarray(weights.T)
    for place in range(places):
        slot = cast.slots[place] * queries + column
        score = reached[place] = scores[slot] + np.where(cast.classes[place] == MISSING, 0, by_rank[place // cast.each])
        scores[slot] = score
        higher = score > best
        np.copyto(leader, cast.classes[place], where=higher)
        for query in np.flatnonzero(higher & (best >= score * (1 - TIE))):
            earliest = np.argmax(reached[: place + 1, query] >= score[query] * (1 - TIE))
            leader[query] = cast.classes[earliest, query]
        np.maximum(best, score, out=best)
        if (place + 1) % cast.each == 0:
            winners[place // cast.each] = leader
    return np.ascontiguousarray(winners.T)


def class_scores(cast: Ballots, weights: Weights) -> Weights:
    """The score of every class, each where its first ballot is.

    Args:
        cast: the ballots of n queries.
        weights: float64 [n, k], as for `winners_by_k`.

    Returns:
        float64 [n, b]; 0 where there is no class, or one that has its score elsewhere.
    """
    given = np.where(cast.classes == MISSING, 0, np.repeat(weights.T, cast.each, axis=0))
    places, queries = cast.classes.shape
    where = cast.slots * queries + np.arange(queries)
    summed = np.bincount(where.ravel(), given.ravel(), places * queries).reshape(places, queries)
    return np.ascontiguousarray(summed.T)


def in_labels(classes: Integers, labels: Integers) -> NDArray[np.bool_]:
    """Whether each class is one of the labels of its query.

    Args:
        classes: int64 [n, ...].
        labels: int64 [n, l], filled up with `MISSING`, which equals no class.
    """
    found = np.zeros(classes.shape, bool)
    for column in labels.T:
        own = column.reshape(-1, *[1] * (classes.ndim - 1))
        found |= (classes == own) & (own != MISSING)
    return found


def shares_label(classes: Integers, labels: Integers) -> NDArray[np.bool_]:
    """Whether any class of each neighbour is one of the labels of its query.

    Args:
        classes: int64 [n, k, l], the labels of the neighbours.
        labels: int64 [n, l], as for `in_labels`.

    Returns:
        [n, k].
    """
    found: NDArray[np.bool_] = np.logical_or.reduce(in_labels(classes, labels), axis=-1)
    return found
