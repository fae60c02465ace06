"""How the error falls as the memory grows: the paper's line, log10(error in %) = a log10(log10(images)) + b."""

from collections.abc import Sequence

import numpy as np


def fit(images: Sequence[int], errors: Sequence[float]) -> tuple[float, float] | None:
    """The line with the least squares.

    Args:
        images: sizes of memories.
        errors: the error with each, 0 to 1; those of 0, and of a single image, have no place on the line.

    Returns:
        a and b; None where fewer than two different sizes are left.
    """
    kept = [(size, error) for size, error in zip(images, errors, strict=True) if size > 1 and error > 0]
    if len({size for size, _ in kept}) < 2:
        return None
    x = np.log10(np.log10([size for size, _ in kept]))
    y = np.log10([100 * error for _, error in kept])
    across = x - x.mean()
    a = float(across @ (y - y.mean()) / (across @ across))
    return a, float(y.mean() - a * x.mean())
