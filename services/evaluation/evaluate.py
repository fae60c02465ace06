"""Evaluate: how well a memory answers, from its vectors or from neighbours alone."""

from collections.abc import Callable

from schemas.evaluation import Evaluation, EvaluationOptions
from services.evaluation.material import Material

Progress = Callable[[str, int, int], None]
"""Told of the stage, in a word or two, and how much of it is done out of how much."""


def evaluate(material: Material, options: EvaluationOptions, progress: Progress) -> Evaluation:
    """Ask the memory about every query, and measure the answers.

    Raises:
        InvalidRequest: there is nothing to ask or nobody to answer.
    """
    raise NotImplementedError
