"""The evaluation, against slow plain counting, one query and one k at a time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.support.random_memory import labelled, silent
from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, GroupBy, Prune, Vote
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.evaluation_results import Evaluation, EvaluationOptions
from visual_memory.services.evaluation import paper_neighbours_json
from visual_memory.services.evaluation.compute_evaluation import evaluate, evaluate_neighbours
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, Vectors
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

OPTIONS = EvaluationOptions(k=9, k_max=30, prune_above=75)


class Plainly:
    """Everything again from the vectors, by loops."""

    def __init__(self, memory: LabelledVectors, queries: LabelledVectors | None, options: EvaluationOptions) -> None:
        self.memory, self.options = memory, options
        self.itself = queries is None
        self.queries = queries or memory
        self.around = [self.order(self.memory, image, image) for image in range(len(self.memory.ids))]

    def order(self, asked: LabelledVectors, place: int, without: int | None) -> list[int]:
        """All images but one, the nearest to a picture first."""
        products = [float(np.einsum("d,d->", asked.vectors[place], vector)) for vector in self.memory.vectors]
        order = sorted(range(len(products)), key=lambda image: (-products[image], image))
        return [image for image in order if image != without]

    def wrong(self, image: int, over: int, asked: int | None) -> int:
        """Wrong votes of an image; what is asked now has cast none."""
        return len(self.wronged(image, over) - {asked})

    @cache  # noqa: B019 - a test's object lives as long as the test
    def wronged(self, image: int, over: int) -> set[int]:
        """The images that have a wrong vote from one."""
        labels = self.memory.labels
        return {
            other
            for other in range(len(self.memory.ids))
            if image in self.around[other][:over] and not set(labels[image]) & set(labels[other])
        }

    def voters(self, query: int, prune: Prune) -> list[tuple[float, list[str], float]]:
        """Similarity, labels and multiplier of everybody who may vote, the nearest first."""
        return list(self.voters_by_image(query, prune).values())

    def voters_by_image(self, query: int, prune: Prune) -> dict[int, tuple[float, list[str], float]]:
        """The same by the image."""
        own = query if self.itself else None
        voters = {}
        for image in self.order(self.queries, query, own):
            similarity = float(np.einsum("d,d->", self.queries.vectors[query], self.memory.vectors[image]))
            wrong = self.wrong(image, 10 if prune == Prune.SOFT else 100, own)
            if prune == Prune.HARD and wrong >= (self.options.prune_above or 0):
                continue
            soft = 1.75 / (1 + wrong) if prune == Prune.SOFT and wrong else 1.0
            voters[image] = (similarity, list(self.memory.labels[image]), soft)
        return voters

    def answer(self, voters: Sequence[tuple[float, list[str], float]], vote: Vote) -> tuple[str, float]:
        """The winner and its share."""
        weight: dict[Vote, Callable[[int, float], float]] = {
            Vote.PLURALITY: lambda _rank, _similarity: 1.0,
            Vote.DISTANCE: lambda _rank, similarity: float(np.exp(similarity - 1)),
            Vote.SOFTMAX: lambda _rank, similarity: float(np.exp(similarity / self.options.temperature)),
            Vote.RANK: lambda rank, _similarity: 1 / (rank + self.options.alpha),
        }
        scores: dict[str, float] = {}
        walked = []
        for rank, (similarity, labels, multiplier) in enumerate(voters):
            for label in labels:
                scores[label] = scores.get(label, 0.0) + weight[vote](rank, similarity) * multiplier
                walked.append((label, scores[label]))
        enough = max(scores.values()) * (1 - 1e-12)
        winner = next(label for label, score in walked if score >= enough)
        return winner, scores[winner] / sum(scores.values())

    def shares(self, voters: Sequence[tuple[float, list[str], float]]) -> dict[str, float]:
        """Of the rank vote, by label."""
        scores: dict[str, float] = {}
        for rank, (_, labels, _) in enumerate(voters):
            for label in labels:
                scores[label] = scores.get(label, 0.0) + 1 / (rank + self.options.alpha)
        return {label: score / sum(scores.values()) for label, score in scores.items()}

    def alone(self, image: int) -> dict[str, float]:
        """The shares for an image of the memory, without itself."""
        nearest = self.around[image][: self.options.k]
        return self.shares([(0.0, list(self.memory.labels[each]), 1.0) for each in nearest])

    def curve(self, prune: Prune, vote: Vote) -> list[float]:
        lists = [self.voters(query, prune) for query in range(len(self.queries.ids))]
        return [
            sum(
                self.answer(voters[:k], vote)[0] in labels
                for voters, labels in zip(lists, self.queries.labels, strict=True)
            )
            / len(lists)
            for k in range(1, self.options.k_max + 1)
        ]


@pytest.fixture(scope="module", params=[True, False], ids=["the memory against itself", "queries"])
def both(request: pytest.FixtureRequest) -> tuple[Plainly, Evaluation]:
    memory = labelled(110, seed=1)
    queries = None if request.param else labelled(25, seed=2, name="query")
    return Plainly(memory, queries, OPTIONS), evaluate(memory, queries, OPTIONS, silent, encoder="e")


def test_every_curve_is_that_of_plain_counting(both: tuple[Plainly, Evaluation]) -> None:
    plainly, found = both
    assert 0 < found.pruned < found.images
    assert len({tuple(curve.accuracy) for curve in found.curves}) > 6
    assert len(found.curves) == 12
    for curve in found.curves:
        assert curve.accuracy == pytest.approx(plainly.curve(curve.prune, curve.vote)), (curve.prune, curve.vote)


def test_ranks_confusions_and_mistakes_are_those_of_plain_counting(both: tuple[Plainly, Evaluation]) -> None:
    plainly, found = both
    lists = [plainly.voters(query, Prune.NONE) for query in range(len(plainly.queries.ids))]
    right = [
        [bool(set(voter) & set(labels)) for _, voter, _ in voters[: OPTIONS.k_max]]
        for voters, labels in zip(lists, plainly.queries.labels, strict=True)
    ]
    assert found.right_at_rank == pytest.approx(np.mean(right, axis=0))
    assert found.hit_rate == pytest.approx([np.mean([any(row[:k]) for row in right]) for k in range(1, 31)])
    confusion: dict[tuple[str, str], int] = {}
    wrong = {}
    for image_id, voters, labels in zip(plainly.queries.ids, lists, plainly.queries.labels, strict=True):
        answer, share = plainly.answer(voters[: OPTIONS.k], Vote.RANK)
        pair = (answer if answer in labels else labels[0], answer)
        confusion[pair] = confusion.get(pair, 0) + 1
        if answer not in labels:
            wrong[image_id] = (answer, share)
    assert {(found.labels[one], found.labels[other]): count for one, other, count in found.confusion} == confusion
    assert found.accuracy == pytest.approx(1 - len(wrong) / len(lists))
    assert {each.image_id for each in found.mistakes} <= wrong.keys()
    for each in found.mistakes:
        assert (each.answer, each.share) == pytest.approx(wrong[each.image_id])
    assert sum(report.images for report in found.classes) == len(lists)
    assert sum(report.images * report.accuracy for report in found.classes) == pytest.approx(len(lists) - len(wrong))
    assert sum(sum(report.confused_with.values()) for report in found.classes) == len(wrong)


def test_prediction_sets_are_those_of_plain_counting(both: tuple[Plainly, Evaluation]) -> None:
    plainly, found = both
    alone = [plainly.alone(image) for image in range(len(plainly.memory.ids))]
    own = [max(shares.get(label, 0) for label in plainly.memory.labels[row]) for row, shares in enumerate(alone)]
    asked = [plainly.shares(plainly.voters(query, Prune.NONE)[: OPTIONS.k]) for query in range(found.queries)]
    labels = list(plainly.queries.labels)
    if found.itself:
        known, measured = np.array_split(np.random.default_rng(OPTIONS.seed).permutation(len(own)), 2)
        own = [own[row] for row in known]
        asked, labels = [asked[row] for row in measured], [labels[row] for row in measured]
    own.sort(reverse=True)
    assert found.sets is not None
    assert [each.coverage for each in found.sets] == [0.8, 0.9, 0.95]
    for each in found.sets:
        rank = int(np.ceil((len(own) + 1) * each.coverage - 1e-9))
        least = own[rank - 1] if rank <= len(own) else 0
        named = [[label for label in shares if shares[label] >= least - 1e-12] for shares in asked]
        named = [
            some or [max(shares, key=lambda label: shares[label])] for some, shares in zip(named, asked, strict=True)
        ]
        assert each.share == pytest.approx(least)
        assert each.size == pytest.approx(np.mean([len(some) for some in named]))
        covered = [bool(set(some) & set(right)) for some, right in zip(named, labels, strict=True)]
        assert each.covered == pytest.approx(np.mean(covered))
        assert each.queries == len(asked)
    assert found.sets[0].size < found.sets[2].size


def test_neighbours_alone_say_the_same(both: tuple[Plainly, Evaluation], tmp_path: Path) -> None:
    _, found = both
    file = tmp_path / "neighbours.json"
    file.write_text(json.dumps(found.neighbours))
    again = evaluate_neighbours(paper_neighbours_json.read(file), OPTIONS, silent)
    assert again.itself == found.itself
    plain = [curve for curve in found.curves if curve.prune == Prune.NONE]
    assert [curve for curve in again.curves if curve.prune == Prune.NONE] == plain
    assert (again.classes, again.right_at_rank, again.calibration) == (
        found.classes,
        found.right_at_rank,
        found.calibration,
    )
    assert again.sets == (found.sets if found.itself else None), "nobody knows the neighbours of the memory's images"
    assert again.neighbours == found.neighbours
    assert {curve.prune for curve in again.curves} == (set(Prune) if found.itself else {Prune.NONE})


def test_the_whole_memory_is_the_largest_and_the_probe_asks_the_same(both: tuple[Plainly, Evaluation]) -> None:
    plainly, found = both
    assert found.scaling is not None
    assert found.scaling.sizes[-1].images == len(plainly.memory.ids)
    assert found.scaling.sizes[-1].errors == pytest.approx([1 - found.accuracy])
    assert found.probe is not None
    assert found.probe.queries == found.queries
    assert found.probe.accuracy > 0.5
    if not found.itself:
        assert found.probe.votes == pytest.approx(found.accuracy)


def test_the_authors_format_with_numbers_for_classes(tmp_path: Path) -> None:
    entry = {
        "featurizer": "dinov2_vitl14",
        "image_id": "val_1",
        "image_class": 0,
        "neighbor_image_ids": ["a", "b", "c"],
    }
    file = tmp_path / "authors.json"
    file.write_text(
        json.dumps({"val_1": {**entry, "neighbor_classes": [0, 7, 7], "neighbor_distances": [0.1, 0.2, 0.25]}})
    )
    found = evaluate_neighbours(paper_neighbours_json.read(file), EvaluationOptions(k=3), silent)
    assert {curve.vote: curve.accuracy for curve in found.curves} == {
        Vote.RANK: [1.0, 1.0, 0.0],  # class 0 is a class like any other
        Vote.PLURALITY: [1.0, 1.0, 0.0],
        Vote.DISTANCE: [1.0, 1.0, 0.0],
        Vote.SOFTMAX: [1.0, 1.0, 1.0],
    }
    assert (found.encoder, found.itself, found.labels) == ("dinov2_vitl14", False, ["0", "7"])
    assert found.calibration is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"neighbor_classes": ["x"]}, "1 neighbor_classes"),
        ({"neighbor_image_ids": [], "neighbor_classes": [], "neighbor_distances": []}, "image q1: there are no"),
        ({"neighbor_image_ids": ["q1", "q1"]}, "image q1: there are no neighbours"),
        ({"neighbor_classes": ["y", "x"]}, "elsewhere of another"),
        ({"featurizer": "other"}, "featurizer"),
        ({"neighbor_distances": [0.1, "far"]}, "neighbor_distances"),
        ({"image_class": None}, "image_class"),
    ],
)
def test_contradictions_are_named(change: dict[str, object], named: str, tmp_path: Path) -> None:
    entry = {
        "featurizer": "one",
        "image_id": "q",
        "image_class": "x",
        "neighbor_image_ids": ["a", "b"],
        "neighbor_classes": ["x", "y"],
        "neighbor_distances": [0.1, 0.2],
    }
    file = tmp_path / "neighbours.json"
    file.write_text(json.dumps({"q0": entry, "q1": {**entry, **change}}))
    with pytest.raises(InvalidRequest, match=named):
        evaluate_neighbours(paper_neighbours_json.read(file), OPTIONS, silent)


def test_without_anybody_there_is_nothing_to_evaluate() -> None:
    empty, one, two = (labelled(number, seed=1) for number in (0, 1, 2))
    for memory, queries in ((empty, None), (one, None), (empty, one), (one, empty)):
        with pytest.raises(InvalidRequest):
            evaluate(memory, queries, OPTIONS, silent, encoder="e")
    assert evaluate(two, None, OPTIONS, silent, encoder="e").queries == 2
    assert evaluate(one, two, OPTIONS, silent, encoder="e").scaling is not None


def test_what_an_approximate_search_misses_lowers_recall() -> None:
    memory = labelled(110, seed=1)

    def some(vectors: Vectors, k: int, effort: Effort) -> list[list[str]]:
        step = {Effort.BALANCED: 2, Effort.FAST: 4}[effort]
        orders = [np.argsort(-(memory.vectors @ vector), kind="stable")[:k] for vector in vectors]
        return [[memory.ids[row] for row in [order[0], *order[1::step]]] for order in orders]

    found = evaluate(memory, None, OPTIONS, silent, encoder="e", approximate=some)
    assert found.recall == pytest.approx({1: 1.0, 5: 0.6, 10: 0.5, 20: 0.5}, abs=0.01)
    assert found.fast_recall == pytest.approx({1: 1.0, 5: 0.4, 10: 0.3, 20: 0.25}, abs=0.01)


def with_copies(number: int) -> LabelledVectors:
    """A memory in which many a content came two or three times, under other labels."""
    memory = labelled(number, seed=3)
    content = np.repeat(np.arange(number // 2), [1, 2, 3] * (number // 6))[:number]
    return replace(memory, vectors=memory.vectors[content], contents=[f"content-{each}" for each in content])


@pytest.mark.parametrize("group_by", GroupBy)
@pytest.mark.parametrize("queries", [None, labelled(25, seed=4, name="query")])
def test_copies_share_a_vote_in_every_curve(queries: LabelledVectors | None, group_by: GroupBy) -> None:
    options = EvaluationOptions(k=9, k_max=20, prune_above=75, group_by=group_by)
    memory = with_copies(42)
    plainly, found = Plainly(memory, queries, options), evaluate(memory, queries, options, silent, encoder="e")
    groups = memory.ids if group_by is GroupBy.NONE else memory.contents
    for curve in found.curves:
        right = np.zeros(options.k_max)
        for query, truth in enumerate(plainly.queries.labels):
            seen = [
                Seen("", similarity, labels, soft, groups[image])
                for image, (similarity, labels, soft) in plainly.voters_by_image(query, curve.prune).items()
            ]
            for k in range(1, options.k_max + 1):
                voters, _ = first_groups(seen, k)
                vote = ClassifyOptions(vote=curve.vote, temperature=options.temperature, alpha=options.alpha)
                right[k - 1] += decide(voters, vote, "").label in truth
        assert curve.accuracy == pytest.approx(right / len(plainly.queries.ids)), (curve.vote, curve.prune)
