"""The line of error over the size of the memory."""

import math

import pytest

from visual_memory.services.evaluation.measures.memory_size_curve import fit_line


def test_the_papers_line_is_found_again() -> None:
    images = [1_000, 10_000, 100_000, 1_280_000]
    errors = [10 ** (-0.9434 * math.log10(math.log10(size)) + 2.0704) / 100 for size in images]
    assert fit_line(images, errors) == pytest.approx((-0.9434, 2.0704))


def test_what_is_never_wrong_has_no_line() -> None:
    assert fit_line([10, 100, 1000], [0.0, 0.0, 0.5]) is None
    assert fit_line([1, 100], [0.5, 0.5]) is None
