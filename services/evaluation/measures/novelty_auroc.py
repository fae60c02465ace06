"""Measure how well the distance to the neighbours detects queries of a class that the memory lacks."""

import numpy as np

from visual_memory.services.evaluation.search_with_progress import Progress
from visual_memory.services.evaluation.vote_with_subset import FOLDS, MAX_QUERIES, SubsetVote
from visual_memory.services.voting.brute_force_neighbours import MISSING


def novelty_auroc(vote: SubsetVote, progress: Progress) -> float | None:
    """The AUROC of the mean distance to the neighbours as a detector of unknown classes.

    The classes are left out of the memory in five folds; the mean is returned. A query with labels of both kinds is
    not used.

    Returns:
        None if there is only one class.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes a second to import

    matrix = vote.matrix
    labels, queries = matrix.image_labels[:-1], vote.sample(len(vote.queries), MAX_QUERIES)
    classes = np.random.default_rng(vote.options.seed).permutation(np.unique(labels[labels != MISSING]))
    folds, found = np.array_split(classes, min(FOLDS, len(classes))), []
    for done, left_out in enumerate(folds, start=1):
        images = np.flatnonzero(~np.isin(labels, left_out).any(axis=1))
        known, times = np.unique(labels[images], return_counts=True)
        # the only image of a class has no neighbour of its class
        known = known[(known != MISSING) & (times > matrix.itself)]
        truth = matrix.query_labels[queries]
        new = ~np.isin(truth, known).any(axis=1)
        some = queries[new | ~np.isin(truth, left_out).any(axis=1)]
        new = np.isin(some, queries[new])
        if len(images) > matrix.itself and 0 < np.count_nonzero(new) < len(some):
            found.append(float(roc_auc_score(new, vote.neighbours(some, images).mean_distances())))
        progress("new classes", done, len(folds))
    return float(np.mean(found)) if found else None
