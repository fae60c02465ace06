"""Evaluate: how well a memory answers, from its vectors or from neighbours alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from visual_memory.schemas.classify_options import Effort, GroupBy, Prune
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions, Mistake, NeighbourList
from visual_memory.services.evaluation import paper_neighbours_json
from visual_memory.services.evaluation.measures import accuracy_metrics
from visual_memory.services.evaluation.measures.accuracy_after_pruning import Pruning, Search
from visual_memory.services.evaluation.measures.accuracy_metrics import Predictions
from visual_memory.services.evaluation.measures.experiments import Approximate, Experiments, Progress, search
from visual_memory.services.evaluation.measures.prediction_set_coverage import prediction_sets
from visual_memory.services.evaluation.neighbour_matrix import (
    LabelledVectors,
    NeighbourMatrix,
    Neighbours,
    build_neighbour_matrix,
)
from visual_memory.services.voting.batch_votes import Integers
from visual_memory.services.voting.image_reliability import HARD_K

VOTES = "counting votes"
Thumbnail = Callable[[str, bool], bytes | None]
"""A JPEG of the image of an id, if there is one; True: the id is a query's."""


def evaluate(
    memory: LabelledVectors,
    queries: LabelledVectors | None,
    options: EvaluationOptions,
    progress: Progress,
    *,
    encoder: str,
    approximate: Approximate | None = None,
    thumbnail: Thumbnail = lambda _image_id, _query: None,
) -> Evaluation:
    """Ask a memory about every query, by exact search, and measure the answers.

    Args:
        memory: the images that vote.
        queries: the images to ask about; None: the memory itself, leaving one out.
        options: what to ask.
        progress: told of the stage, in a word or two, and how much of it is done out of how much.
        encoder: the name of the encoder that made the vectors.
        approximate: the search whose recall is measured; None: there is none.
        thumbnail: makes the pictures of mistakes.

    Raises:
        InvalidRequest: there is nothing to ask, or nobody to answer.
    """
    itself = queries is None
    queries = queries or memory
    check_evaluable(queries, memory, itself=itself)
    own = np.arange(len(memory.ids))
    width = max(1, min(HARD_K, len(own) - 1))
    contents = shared_contents(memory, options)
    told = partial(progress, "the memory's neighbours")
    near = around = search(memory.vectors, memory.vectors, width, own, told, contents)
    if not itself:
        width = min(options.k_max, len(own))
        told = partial(progress, "the queries' neighbours")
        near = search(queries.vectors, memory.vectors, width, None, told, contents)
    names = (queries.ids, queries.labels), (memory.ids, memory.labels)
    each_alone = build_neighbour_matrix(encoder, *names, near.nearest(options.k_max), itself=itself)
    study = replace(each_alone, voters=near.sharing(contents, options.k_max), contents=contents)
    candidates = each_alone.voters if contents is None else near
    pruning = Pruning.of(replace(study, voters=candidates), around.rows, options.prune_above)

    def further(asked: Integers, k: int) -> Neighbours:
        return search(queries.vectors[asked], memory.vectors, k, asked if itself else None)

    measured = _measured(study, options, progress, pruning, further, around)
    experiments = Experiments(
        replace(each_alone, contents=contents), memory.vectors, queries.vectors, options, measured.k, progress
    )
    mistakes, thumbnails = _illustrated(measured.mistakes, thumbnail, itself=itself)
    found: dict[str, object] = {"scaling": experiments.scaling(), "probe": experiments.probe()}
    if approximate is not None:
        found["recall"] = experiments.recall(approximate, Effort.BALANCED)
        found["fast_recall"] = experiments.recall(approximate, Effort.FAST)
    return measured.model_copy(update={**found, "mistakes": mistakes, "thumbnails": thumbnails})


def evaluate_neighbours(
    lists: Mapping[str, NeighbourList], options: EvaluationOptions, progress: Progress
) -> Evaluation:
    """Measure what neighbours alone allow, such as those of the paper's authors.

    Wrong votes can be counted, and so pruning tried, where the lists are those of a memory asked about itself: where
    every neighbour has a list of its own.

    Raises:
        InvalidRequest: there are no lists, or they contradict each other.
    """
    whole = paper_neighbours_json.matrix_from_lists(lists)
    study = replace(whole, voters=whole.voters.nearest(options.k_max))
    pruning = Pruning.of(study, whole.voters.rows, options.prune_above) if study.itself else None
    return _measured(study, options, progress, pruning, None, None)


def shared_contents(memory: LabelledVectors, options: EvaluationOptions) -> Integers | None:
    """What images that share a vote have in common, int64 [m]; None where none does."""
    distinct, numbers = np.unique(memory.contents, return_inverse=True)
    if options.group_by is GroupBy.NONE or len(distinct) in (0, len(memory.ids)):
        return None
    return numbers.astype(np.int64)


def check_evaluable(queries: LabelledVectors, memory: LabelledVectors, *, itself: bool) -> None:
    """Refuse what has no answers.

    Raises:
        InvalidRequest: there is nothing to ask, or nobody to answer.
    """
    if itself and len(memory.ids) < 2:
        raise InvalidRequest("the memory holds fewer than two images: without the one that is asked, nobody can answer")
    if not memory.ids:
        raise InvalidRequest("the memory is empty: no image is remembered yet")
    if not queries.ids:
        raise InvalidRequest("there is nothing to ask: give one labelled picture or more")


def _measured(
    study: NeighbourMatrix,
    options: EvaluationOptions,
    progress: Progress,
    pruning: Pruning | None,
    further: Search | None,
    around: Neighbours | None,
) -> Evaluation:
    """Everything that needs no vectors."""
    k, k_max = min(options.k, study.voters.k), options.k_max
    variants: dict[Prune, Callable[[], Neighbours]] = {Prune.NONE: lambda: study.voters}
    if pruning:
        variants |= {
            Prune.SOFT: lambda: pruning.softly().sharing(study.contents, k_max),
            Prune.HARD: lambda: pruning.hard(further).sharing(study.contents, k_max),
        }
    curves = []
    for done, (prune, voters) in enumerate(variants.items()):
        progress(VOTES, done, len(variants) + 1)
        curves += accuracy_metrics.curves(study, prune, voters(), options)
    progress(VOTES, len(variants), len(variants) + 1)
    answers = Predictions.of(study, k, options)
    right_at_rank, hit_rate = accuracy_metrics.by_rank(study)
    evaluation = Evaluation(
        encoder=study.encoder,
        itself=study.itself,
        options=options,
        queries=len(study.query_ids),
        images=len(study.image_ids),
        k=k,
        accuracy=float(answers.right.mean()),
        prune_above=pruning.above if pruning else None,
        pruned=pruning.pruned if pruning else 0,
        curves=curves,
        right_at_rank=right_at_rank,
        hit_rate=hit_rate,
        classes=answers.classes(),
        labels=study.labels,
        confusion=answers.confusion(),
        mistakes=answers.mistakes(),
        calibration=answers.calibration(np.random.default_rng(options.seed)),
        sets=prediction_sets(answers, around, options),
        distances=answers.distances(),
        sensitivity=accuracy_metrics.sensitivity(study),
        recall=None,
        fast_recall=None,
        scaling=None,
        probe=None,
        neighbours=paper_neighbours_json.matrix_to_lists(study),
        thumbnails={},
    )
    progress(VOTES, len(variants) + 1, len(variants) + 1)
    return evaluation


def _illustrated(
    mistakes: list[Mistake], thumbnail: Thumbnail, *, itself: bool
) -> tuple[list[Mistake], dict[str, bytes]]:
    """The mistakes with the paths of their thumbnails, and the thumbnails by path."""
    paths: dict[tuple[str, bool], str | None] = {}
    thumbnails: dict[str, bytes] = {}

    def path(image_id: str, query: bool) -> str | None:
        if (image_id, query) not in paths:
            jpeg, place = thumbnail(image_id, query), f"thumbnails/{len(thumbnails)}.jpg"
            paths[image_id, query] = None if jpeg is None else place
            thumbnails.update({} if jpeg is None else {place: jpeg})
        return paths[image_id, query]

    illustrated = [
        mistake.model_copy(
            update={
                "thumbnail": path(mistake.image_id, not itself),
                "neighbours": [
                    each.model_copy(update={"thumbnail": path(each.image_id, False)}) for each in mistake.neighbours
                ],
            }
        )
        for mistake in mistakes
    ]
    return illustrated, thumbnails
