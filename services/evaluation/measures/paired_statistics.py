"""Compare the accuracy of two encoders on the same queries: confidence intervals and changed answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.stats import binomtest, norm

from visual_memory.schemas.encoder_comparison import ChangedAnswer, Comparison, EncoderFigures, Estimate
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.services.evaluation.compute_evaluation import check_evaluable, shared_contents
from visual_memory.services.evaluation.measures.accuracy_metrics import Flags, Predictions
from visual_memory.services.evaluation.measures.novelty_auroc import novelty_auroc
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, build_neighbour_matrix
from visual_memory.services.evaluation.search_with_progress import Progress, exact_search
from visual_memory.services.evaluation.vote_with_subset import SubsetVote

CONFIDENCE = 0.95


@dataclass(frozen=True)
class EncodedImages:
    """One encoder's vectors of the memory's images and of the queries.

    Attributes:
        encoder: its name.
        memory: the images that vote.
        queries: the pictures to classify; None: the memory's images, each without itself.
    """

    encoder: str
    memory: LabelledVectors
    queries: LabelledVectors | None = None


def compare(a: EncodedImages, b: EncodedImages, options: EvaluationOptions, progress: Progress) -> Comparison:
    """Classify the same queries with the vectors of both encoders, by exact search.

    Args:
        a: the first encoder's vectors.
        b: the second encoder's vectors, of the same images and queries in the same order.
        options: the vote and k; the seed of the halves, of samples and of the classes left out.
        progress: called with the stage, how much of it is done, and the total.

    Raises:
        InvalidRequest: there are no queries, or no images.
    """

    def predict(letter: str, encoded: EncodedImages) -> tuple[Predictions, EncoderFigures]:
        return _predict(encoded, options, lambda stage, done, total: progress(f"{letter}: {stage}", done, total))

    (first, figures_of_a), (second, figures_of_b) = predict("A", a), predict("B", b)
    queries = a.queries or a.memory
    changes = partial(_changed_answers, queries, first, second)
    return Comparison(
        queries=len(queries.ids),
        images=len(a.memory.ids),
        k=first.matrix.neighbours.k,
        a=figures_of_a,
        b=figures_of_b,
        difference=paired_difference(first.right, second.right),
        gained=list(changes(~first.right & second.right)),
        lost=list(changes(first.right & ~second.right)),
        swapped=list(changes(~first.right & ~second.right & (first.predicted != second.predicted))),
    )


def proportion(right: Flags) -> Estimate:
    """The fraction that is right, with Wilson's interval."""
    number = int(np.count_nonzero(right))
    low, high = binomtest(number, len(right)).proportion_ci(CONFIDENCE, "wilson")
    return Estimate(value=number / len(right), low=float(low), high=float(high))


def paired_difference(a: Flags, b: Flags) -> Estimate:
    """The accuracy of `b` minus that of `a` on the same queries.

    The interval is Wald's for pairs with one added to each kind of disagreement (Bonett and Price 2012), so that it is
    not too narrow with few or no disagreements.
    """
    lost, gained = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(~a & b))
    fewer, more = ((each + 1) / (len(a) + 2) for each in (lost, gained))
    half = float(norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt((fewer + more - (more - fewer) ** 2) / (len(a) + 2)))
    middle = more - fewer
    return Estimate(value=(gained - lost) / len(a), low=max(-1.0, middle - half), high=min(1.0, middle + half))


def _predict(
    encoded: EncodedImages, options: EvaluationOptions, progress: Progress
) -> tuple[Predictions, EncoderFigures]:
    """The predictions with one encoder's vectors, and their figures."""
    memory, itself = encoded.memory, encoded.queries is None
    queries = encoded.queries or memory
    check_evaluable(queries, memory, itself=itself)
    own = np.arange(len(memory.ids)) if itself else None
    k, contents = min(options.k, len(memory.ids) - itself), shared_contents(memory, options)
    near = exact_search(queries.vectors, memory.vectors, k, own, partial(progress, "neighbours"), contents)
    names = (queries.ids, queries.labels), (memory.ids, memory.labels)
    matrix = build_neighbour_matrix(encoded.encoder, *names, near.sharing(contents, k), itself=itself)
    matrix = replace(matrix, contents=contents)
    predictions = Predictions.of(matrix, k, options)
    calibration = predictions.calibration(np.random.default_rng(options.seed))
    return predictions, EncoderFigures(
        encoder=encoded.encoder,
        accuracy=proportion(predictions.right),
        ece=calibration.before.ece if calibration else None,
        calibrated_ece=calibration.after.ece if calibration else None,
        temperature=calibration.temperature if calibration else None,
        novelty_auroc=novelty_auroc(SubsetVote(matrix, memory.vectors, queries.vectors, options, k), progress),
    )


def _changed_answers(queries: LabelledVectors, a: Predictions, b: Predictions, which: Flags) -> Iterator[ChangedAnswer]:
    labels: Sequence[str] = a.matrix.labels
    for row in np.flatnonzero(which).tolist():
        yield ChangedAnswer(
            image_id=queries.ids[row],
            labels=list(queries.labels[row]),
            a=labels[a.predicted[row]],
            b=labels[b.predicted[row]],
        )
