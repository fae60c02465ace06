"""Compute an evaluation: all measures of a memory, from its vectors or from neighbours alone."""

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
from visual_memory.services.evaluation.measures.linear_probe import linear_probe
from visual_memory.services.evaluation.measures.memory_size_curve import memory_size_curve
from visual_memory.services.evaluation.measures.prediction_set_coverage import prediction_sets
from visual_memory.services.evaluation.measures.search_recall import ApproximateSearch, search_recall
from visual_memory.services.evaluation.neighbour_matrix import (
    LabelledVectors,
    NeighbourMatrix,
    Neighbours,
    build_neighbour_matrix,
)
from visual_memory.services.evaluation.search_with_progress import Progress, exact_search
from visual_memory.services.evaluation.vote_with_subset import SubsetVote
from visual_memory.services.voting.batch_votes import Integers
from visual_memory.services.voting.image_reliability import HARD_K

VOTES = "counting votes"
Thumbnail = Callable[[str, bool], bytes | None]
"""Returns a JPEG of the image with an id, if there is one; True: the id is a query's."""


def evaluate(
    memory: LabelledVectors,
    queries: LabelledVectors | None,
    options: EvaluationOptions,
    progress: Progress,
    *,
    encoder: str,
    approximate: ApproximateSearch | None = None,
    thumbnail: Thumbnail = lambda _image_id, _query: None,
) -> Evaluation:
    """Classify every query by exact search in a memory, and measure the predictions.

    Args:
        memory: the images that vote.
        queries: the images to classify; None: those of the memory, each without itself.
        options: the vote and its parameters.
        progress: called with the name of a stage, how much of it is done, and the total.
        encoder: name of the encoder that made the vectors.
        approximate: the search whose recall is measured; None: none.
        thumbnail: makes the thumbnails of mistakes.

    Raises:
        InvalidRequest: there are no queries, or no images.
    """
    itself = queries is None
    queries = queries or memory
    check_evaluable(queries, memory, itself=itself)
    own = np.arange(len(memory.ids))
    width = max(1, min(HARD_K, len(own) - 1))
    contents = shared_contents(memory, options)
    stage = partial(progress, "the memory's neighbours")
    near = around = exact_search(memory.vectors, memory.vectors, width, own, stage, contents)
    if not itself:
        width = min(options.k_max, len(own))
        stage = partial(progress, "the queries' neighbours")
        near = exact_search(queries.vectors, memory.vectors, width, None, stage, contents)
    names = (queries.ids, queries.labels), (memory.ids, memory.labels)
    ungrouped = build_neighbour_matrix(encoder, *names, near.nearest(options.k_max), itself=itself)
    matrix = replace(ungrouped, neighbours=near.sharing(contents, options.k_max), contents=contents)
    candidates = ungrouped.neighbours if contents is None else near
    pruning = Pruning.of(replace(matrix, neighbours=candidates), around.rows, options.prune_above)

    def find_more(rows: Integers, k: int) -> Neighbours:
        return exact_search(queries.vectors[rows], memory.vectors, k, rows if itself else None)

    evaluation = _measure_neighbours(matrix, options, progress, pruning, find_more, around)
    vote = SubsetVote(replace(ungrouped, contents=contents), memory.vectors, queries.vectors, options, evaluation.k)
    mistakes, thumbnails = _add_thumbnails(evaluation.mistakes, thumbnail, itself=itself)
    measured: dict[str, object] = {
        "scaling": memory_size_curve(vote, progress),
        "probe": linear_probe(vote, progress),
    }
    if approximate is not None:
        measured["recall"] = search_recall(vote, approximate, Effort.BALANCED, progress)
        measured["fast_recall"] = search_recall(vote, approximate, Effort.FAST, progress)
    return evaluation.model_copy(update={**measured, "mistakes": mistakes, "thumbnails": thumbnails})


def evaluate_neighbours(
    lists: Mapping[str, NeighbourList], options: EvaluationOptions, progress: Progress
) -> Evaluation:
    """Compute the measures that need no vectors, such as from the neighbours published by the paper's authors.

    Wrong votes, and so the effect of pruning, are known only if every neighbour has a list of its own, so that the
    memory is its own queries.

    Raises:
        InvalidRequest: there are no lists, or they contradict each other.
    """
    whole = paper_neighbours_json.matrix_from_lists(lists)
    matrix = replace(whole, neighbours=whole.neighbours.nearest(options.k_max))
    pruning = Pruning.of(matrix, whole.neighbours.rows, options.prune_above) if matrix.itself else None
    return _measure_neighbours(matrix, options, progress, pruning, None, None)


def shared_contents(memory: LabelledVectors, options: EvaluationOptions) -> Integers | None:
    """A number for each image, equal for those that share a vote, int64 [m]; None if none do."""
    distinct, numbers = np.unique(memory.contents, return_inverse=True)
    if options.group_by is GroupBy.NONE or len(distinct) in (0, len(memory.ids)):
        return None
    return numbers.astype(np.int64)


def check_evaluable(queries: LabelledVectors, memory: LabelledVectors, *, itself: bool) -> None:
    """Check that there are queries and images to classify them.

    Raises:
        InvalidRequest: there are none.
    """
    if itself and len(memory.ids) < 2:
        raise InvalidRequest("the memory has fewer than two images: none is left to classify the other")
    if not memory.ids:
        raise InvalidRequest("the memory is empty: no image is remembered yet")
    if not queries.ids:
        raise InvalidRequest("there are no queries: give at least one labelled picture")


def _measure_neighbours(
    matrix: NeighbourMatrix,
    options: EvaluationOptions,
    progress: Progress,
    pruning: Pruning | None,
    search: Search | None,
    around: Neighbours | None,
) -> Evaluation:
    """All measures that need no vectors."""
    k, k_max = min(options.k, matrix.neighbours.k), options.k_max
    variants: dict[Prune, Callable[[], Neighbours]] = {Prune.NONE: lambda: matrix.neighbours}
    if pruning:
        variants |= {
            Prune.SOFT: lambda: pruning.soft().sharing(matrix.contents, k_max),
            Prune.HARD: lambda: pruning.hard(search).sharing(matrix.contents, k_max),
        }
    curves = []
    for done, (prune, neighbours) in enumerate(variants.items()):
        progress(VOTES, done, len(variants) + 1)
        curves += accuracy_metrics.curves(matrix, prune, neighbours(), options)
    progress(VOTES, len(variants), len(variants) + 1)
    predictions = Predictions.of(matrix, k, options)
    right_at_rank, hit_rate = accuracy_metrics.by_rank(matrix)
    evaluation = Evaluation(
        encoder=matrix.encoder,
        itself=matrix.itself,
        options=options,
        queries=len(matrix.query_ids),
        images=len(matrix.image_ids),
        k=k,
        accuracy=float(predictions.right.mean()),
        prune_above=pruning.above if pruning else None,
        pruned=pruning.pruned if pruning else 0,
        curves=curves,
        right_at_rank=right_at_rank,
        hit_rate=hit_rate,
        classes=predictions.classes(),
        labels=matrix.labels,
        confusion=predictions.confusion(),
        mistakes=predictions.mistakes(),
        calibration=predictions.calibration(np.random.default_rng(options.seed)),
        sets=prediction_sets(predictions, around, options),
        distances=predictions.distances(),
        sensitivity=accuracy_metrics.sensitivity(matrix),
        recall=None,
        fast_recall=None,
        scaling=None,
        probe=None,
        neighbours=paper_neighbours_json.matrix_to_lists(matrix),
        thumbnails={},
    )
    progress(VOTES, len(variants) + 1, len(variants) + 1)
    return evaluation


def _add_thumbnails(
    mistakes: list[Mistake], thumbnail: Thumbnail, *, itself: bool
) -> tuple[list[Mistake], dict[str, bytes]]:
    """The mistakes with the paths of their thumbnails, and the thumbnails by path."""
    paths: dict[tuple[str, bool], str | None] = {}
    thumbnails: dict[str, bytes] = {}

    def path_of(image_id: str, query: bool) -> str | None:
        if (image_id, query) not in paths:
            jpeg, path = thumbnail(image_id, query), f"thumbnails/{len(thumbnails)}.jpg"
            paths[image_id, query] = None if jpeg is None else path
            thumbnails.update({} if jpeg is None else {path: jpeg})
        return paths[image_id, query]

    illustrated = [
        mistake.model_copy(
            update={
                "thumbnail": path_of(mistake.image_id, not itself),
                "neighbours": [
                    each.model_copy(update={"thumbnail": path_of(each.image_id, False)}) for each in mistake.neighbours
                ],
            }
        )
        for mistake in mistakes
    ]
    return illustrated, thumbnails
