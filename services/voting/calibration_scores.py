"""Distances and nonconformity of the memory's own images, under the options of a classification.

Novelty (`services.voting.novelty`) and prediction sets (`services.voting.conformal_prediction_sets`) compare a query
with them. They come from the sample of images that a judgement keeps, each with its neighbours in the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from weakref import ReferenceType, ref

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import MAX_LEVEL, ClassifyOptions, GroupBy, Prune
from visual_memory.schemas.errors import NotJudged
from visual_memory.schemas.judgement import CalibrationSample, Judgement
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.conformal_prediction_sets import nonconformity
from visual_memory.services.voting.group_copies import voting_order
from visual_memory.services.voting.image_reliability import reliability
from visual_memory.services.voting.label_hierarchy import cut_labels
from visual_memory.services.voting.vote_weights import vote_weights

NO_LABEL = -1
CACHED = 64
OPTIONS = {"vote", "alpha", "temperature", "group_by", "k", "level", "prune", "prune_above"}
"""The options that a calibration depends on."""


@dataclass(frozen=True)
class Calibration:
    """The scores of the n images of a sample that have neighbours, each ascending.

    Attributes:
        distances: float64 [n], mean cosine distances to the neighbours that vote on each image.
        nonconformity: float64 [n]; see `services.voting.conformal_prediction_sets`.
    """

    distances: NDArray[np.float64]
    nonconformity: NDArray[np.float64]


@dataclass(frozen=True)
class _CacheKey:
    """Judgement and options; the reference does not keep the sample alive."""

    judgement: str
    options: str
    sample: "ReferenceType[CalibrationSample]" = field(compare=False)


def calibration_of(judgement: Judgement | None, options: ClassifyOptions) -> Calibration:
    """The calibration by a judgement's sample; the latest `CACHED` are cached, without any image id.

    Raises:
        NotJudged: there is no judgement, or it found no two images to compare.
    """
    if judgement is None:
        raise NotJudged(
            "unknown_above and coverage need a current judgement of the memory, and there is none: judge the memory"
            " first, with 'visual-memory judge'"
        )
    key = _CacheKey(judgement.id, options.model_dump_json(include=OPTIONS), ref(judgement.sample))
    found = _calibrated(key)
    if not len(found.distances):
        raise NotJudged(
            "unknown_above and coverage compare images of the memory with each other, and no two images could vote when"
            " the memory was judged: add images, then judge it again, with 'visual-memory judge'"
        )
    return found


@lru_cache(CACHED)
def _calibrated(key: _CacheKey) -> Calibration:
    sample = key.sample()
    assert sample is not None, "the caller has the judgement"
    return calibrate(sample, ClassifyOptions.model_validate_json(key.options))


def calibrate(sample: CalibrationSample, options: ClassifyOptions) -> Calibration:
    """Classify each image of a sample by its neighbours, like a query.

    Args:
        sample: of a judgement.
        options: k, the vote, the level and the pruning of the query.
    """
    similarities, present = _table(sample.similarities)
    wrong, _ = _table(sample.neighbour_wrong)
    if options.prune is Prune.HARD:
        present &= wrong < options.prune_above
    found = voting_order(_groups(sample, present, options.group_by), similarities, options.k)
    similarities, wrong = (np.take_along_axis(each, found.order, 1) for each in (similarities, wrong))
    votes = (found.ranks != MISSING) / found.copies
    weights = vote_weights(similarities, options, np.maximum(found.ranks, 0)) * votes
    if options.prune is Prune.SOFT:
        weights = weights * reliability(wrong)
    own, neighbours = _labels(sample, options.level or MAX_LEVEL)
    neighbours = np.take_along_axis(neighbours, found.order[:, :, None], 1)
    voted = votes.any(axis=1)
    distances = ((1 - similarities) * votes).sum(axis=1)[voted] / votes.sum(axis=1)[voted]
    return Calibration(np.sort(distances), np.sort(nonconformity(own, neighbours, weights)[voted]))


def _groups(sample: CalibrationSample, present: NDArray[np.bool_], group_by: GroupBy) -> NDArray[np.int64]:
    """The groups of the neighbours that may vote, int64 [n, widest]; those of one group share a vote."""
    groups = np.broadcast_to(np.arange(present.shape[1]), present.shape)
    if group_by is not GroupBy.NONE and sample.neighbour_groups:
        groups = _table(sample.neighbour_groups)[0].astype(np.int64)
    return np.where(present, groups, MISSING)


def _table(rows: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rows of different lengths as float64 [n, widest], padded with 0, and a mask of the values."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    present = np.arange(lengths.max(initial=0)) < lengths[:, None]
    table = np.zeros(present.shape)
    table[present] = np.fromiter(chain.from_iterable(rows), np.float64, int(lengths.sum()))
    return table, present


def _labels(sample: CalibrationSample, level: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels as numbers, at a level of their paths, padded with `NO_LABEL`.

    Returns:
        of the images int64 [n, m], and of their neighbours int64 [n, widest, m].
    """
    distinct: dict[tuple[str, ...], int] = {}  # so that each list of labels is cut once
    own = [distinct.setdefault(tuple(labels), len(distinct)) for labels in sample.labels]
    neighbours = [
        [distinct.setdefault(tuple(labels), len(distinct)) for labels in row] for row in sample.neighbour_labels
    ]
    numbers: dict[str, int] = {}
    ballots = [[numbers.setdefault(label, len(numbers)) for label in cut_labels(labels, level)] for labels in distinct]
    table, present = _table(ballots)
    coded = np.where(present, table, NO_LABEL).astype(np.int64)
    rows, _ = _table(neighbours)
    return coded[np.array(own, np.int64)], coded[rows.astype(np.int64)]
