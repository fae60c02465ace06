"""The same pictures asked of the same images by the vectors of two encoders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import binomtest, norm

from visual_memory.schemas.encoder_comparison import ChangedAnswer, Comparison, EncoderFigures, Estimate
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.evaluation.compute_evaluation import check_evaluable, shared_contents
from visual_memory.services.evaluation.measures.accuracy_metrics import Flags, Predictions
from visual_memory.services.evaluation.measures.experiments import Experiments, Progress, search
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, build_neighbour_matrix

CONFIDENCE = 0.95


@dataclass(frozen=True)
class EncodedImages:
    """One encoder's vectors of images that vote, and of the pictures that are asked about.

    Attributes:
        encoder: its name.
        memory: the images.
        queries: the pictures; None: the memory itself, leaving one out.
    """

    encoder: str
    memory: LabelledVectors
    queries: LabelledVectors | None = None


def compare(a: EncodedImages, b: EncodedImages, options: EvaluationOptions, progress: Progress) -> Comparison:
    """Ask both the same, by exact search.

    Args:
        a: the first encoder's.
        b: the second encoder's, of the same images and pictures in the same order.
        options: the vote and k; the seed of the halves, of draws and of the classes left out.
        progress: told of the stage and how much of it is done out of how much.

    Raises:
        InvalidRequest: there is nothing to ask, or nobody to answer.
    """

    def asked(letter: str, encoded: EncodedImages) -> tuple[Predictions, EncoderFigures]:
        return _asked(encoded, options, lambda stage, done, total: progress(f"{letter}: {stage}", done, total))

    (first, figures_of_a), (second, figures_of_b) = asked("A", a), asked("B", b)
    queries = a.queries or a.memory
    change = partial(_changed, queries, first, second)
    return Comparison(
        queries=len(queries.ids),
        images=len(a.memory.ids),
        k=first.study.voters.k,
        a=figures_of_a,
        b=figures_of_b,
        difference=paired_difference(first.right, second.right),
        gained=list(change(~first.right & second.right)),
        lost=list(change(first.right & ~second.right)),
        swapped=list(change(~first.right & ~second.right & (first.answer != second.answer))),
    )


def proportion(right: Flags) -> Estimate:
    """The part that is right, with Wilson's interval."""
    number = int(np.count_nonzero(right))
    low, high = binomtest(number, len(right)).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(value=number / len(right), low=float(low), high=float(high))


def paired_difference(a: Flags, b: Flags) -> Estimate:
    """How much more often `b` is right than `a` on the same pictures.

    The interval is Wald's of pairs with one added to each kind of disagreement (Bonett and Price 2012), which few or no
    disagreements do not make too narrow.
    """
    lost, gained = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(~a & b))
    fewer, more = ((each + 1) / (len(a) + 2) for each in (lost, gained))
    half = float(norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((fewer + more - (more - fewer) ** 2) / (len(a) + 2)))
    middle = more - fewer
    return Estimate(value=(gained - lost) / len(a), low=max(-1.0, middle - half), high=min(1.0, middle + half))


def _asked(
    encoded: EncodedImages, options: EvaluationOptions, progress: Progress
) -> tuple[Predictions, EncoderFigures]:
    """The answers by one encoder, and how well they do."""
    memory, itself = encoded.memory, encoded.queries is None
    queries = encoded.queries or memory
    check_evaluable(queries, memory, itself=itself)
    own = np.arange(len(memory.ids)) if itself else None
    k, contents = min(options.k, len(memory.ids) - itself), shared_contents(memory, options)
    told = partial(progress, "neighbours")
    near = search(queries.vectors, memory.vectors, k, own, told, contents)
    names = (queries.ids, queries.labels), (memory.ids, memory.labels)
    study = build_neighbour_matrix(encoded.encoder, *names, near.sharing(contents, k), itself=itself)
    study = replace(study, contents=contents)
    answers = Predictions.of(study, k, options)
    calibration = answers.calibration(np.random.default_rng(options.seed))
    experiments = Experiments(study, memory.vectors, queries.vectors, options, k, progress)
    return answers, EncoderFigures(
        encoder=encoded.encoder,
        accuracy=proportion(answers.right),
        ece=calibration.before.ece if calibration else None,
        calibrated_ece=calibration.after.ece if calibration else None,
        temperature=calibration.temperature if calibration else None,
        novelty_auroc=experiments.novelty(),
    )


def _changed(queries: LabelledVectors, a: Predictions, b: Predictions, which: Flags) -> Iterator[ChangedAnswer]:
    labels: Sequence[str] = a.study.labels
    for row in np.flatnonzero(which).tolist():
        yield ChangedAnswer(
            image_id=queries.ids[row],
            labels=list(queries.labels[row]),
            a=labels[a.answer[row]],
            b=labels[b.answer[row]],
        )
