"""Measure the error by the size of the memory, and fit the paper's line.

The line is log10(error in %) = a log10(log10(images)) + b.
"""

from collections.abc import Sequence

import numpy as np

from visual_memory.schemas.evaluation_results import Scaling, Size
from visual_memory.services.evaluation.search_with_progress import Progress
from visual_memory.services.evaluation.vote_with_subset import MAX_QUERIES, SubsetVote

DRAWS = {0.01: 5, 0.02: 5, 0.05: 5, 0.1: 3, 0.2: 3, 0.5: 2, 1.0: 1}
"""Fractions of the memory, and how often each is drawn: small ones vary more."""


def memory_size_curve(vote: SubsetVote, progress: Progress) -> Scaling:
    """The error with random fractions of the memory."""
    images, random = len(vote.matrix.image_ids), np.random.default_rng(vote.options.seed)
    queries = vote.sample(len(vote.queries), MAX_QUERIES)
    errors: dict[int, list[float]] = {}
    for done, (fraction, draws) in enumerate(DRAWS.items(), start=1):
        size = max(1 + vote.matrix.itself, round(fraction * images))
        if size not in errors:
            drawn = [np.sort(random.permutation(images)[:size]) for _ in range(draws)]
            errors[size] = [1 - vote.accuracy(queries, each) for each in drawn]
        progress("sizes of the memory", done, len(DRAWS))
    a, b = fit_line(list(errors), [float(np.mean(each)) for each in errors.values()]) or (None, None)
    return Scaling(sizes=[Size(images=size, errors=each) for size, each in errors.items()], a=a, b=b)


def fit_line(images: Sequence[int], errors: Sequence[float]) -> tuple[float, float] | None:
    """Fit the line by least squares.

    Args:
        images: sizes of memories.
        errors: the error with each, 0 to 1; errors of 0, and memories of a single image, are left out.

    Returns:
        a and b; None if fewer than two different sizes remain.
    """
    kept = [(size, error) for size, error in zip(images, errors, strict=True) if size > 1 and error > 0]
    if len({size for size, _ in kept}) < 2:
        return None
    x = np.log10(np.log10([size for size, _ in kept]))
    y = np.log10([100 * error for _, error in kept])
    centred = x - x.mean()
    a = float(centred @ (y - y.mean()) / (centred @ centred))
    return a, float(y.mean() - a * x.mean())
