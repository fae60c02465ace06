"""Accuracy over k, and the details of one vote's predictions: confusion, mistakes, calibration, distances."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import Prune, Vote, VoteOptions
from visual_memory.schemas.evaluation_results import (
    Calibration,
    Curve,
    Distances,
    Histogram,
    Mistake,
    Sensitivity,
    Voted,
)
from visual_memory.schemas.judgement import ClassReport
from visual_memory.services.evaluation.measures.confidence_reliability import confidence, fit_temperature, reliability
from visual_memory.services.evaluation.neighbour_matrix import NeighbourMatrix, Neighbours, slices
from visual_memory.services.voting.batch_votes import Integers, class_scores, in_labels, winners_by_k
from visual_memory.services.voting.brute_force_neighbours import MISSING

ALPHAS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
TEMPERATURES = (0.01, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5)
MISTAKES = 24
SHOWN = 5
CONFUSED = 5
EDGES = 21

Flags = NDArray[np.bool_]


def curves(matrix: NeighbourMatrix, prune: Prune, neighbours: Neighbours, options: VoteOptions) -> list[Curve]:
    """Accuracy of all four votes at every k, with neighbours pruned in this way."""
    votes = [options.model_copy(update={"vote": vote}) for vote in Vote]
    accuracy = matrix.accuracy(neighbours, votes).tolist()
    return [Curve(vote=vote, prune=prune, accuracy=each) for vote, each in zip(Vote, accuracy, strict=True)]


def by_rank(matrix: NeighbourMatrix) -> tuple[list[float], list[float]]:
    """How often the neighbour at each rank has a right label, and how often one of the k nearest has."""
    neighbours = matrix.neighbours
    right = matrix.right(neighbours.rows) & neighbours.is_first_of_vote()
    position = np.argsort(~neighbours.is_first_of_vote(), axis=1, kind="stable")[:, : neighbours.k]
    hit = neighbours.at_each_k(np.logical_or.accumulate(matrix.right(neighbours.rows), axis=1), neighbours.k)
    return np.take_along_axis(right, position, 1).mean(axis=0).tolist(), hit.mean(axis=0).tolist()


def sensitivity(matrix: NeighbourMatrix) -> list[Sensitivity]:
    """Accuracy of the rank and softmax votes at every k, with other values of alpha and temperature."""
    return [
        _sensitivity(matrix, Vote.RANK, "alpha", ALPHAS),
        _sensitivity(matrix, Vote.SOFTMAX, "temperature", TEMPERATURES),
    ]


def _sensitivity(
    matrix: NeighbourMatrix, vote: Vote, parameter: Literal["alpha", "temperature"], values: Sequence[float]
) -> Sensitivity:
    votes = [VoteOptions.model_validate({"vote": vote, parameter: value}) for value in values]
    accuracy = matrix.accuracy(matrix.neighbours, votes).tolist()
    return Sensitivity(vote=vote, parameter=parameter, values=list(values), accuracy=accuracy)


@dataclass(frozen=True)
class Predictions:
    """The predictions of one vote at one k.

    Attributes:
        matrix: queries and images.
        neighbours: those that voted, [n, k].
        predicted: int64 [n], the number of the winning label.
        right: [n], whether it is a label of the query.
        scores: [n, b], the score of every class; 0 for padding.
    """

    matrix: NeighbourMatrix
    neighbours: Neighbours
    predicted: Integers
    right: Flags
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: NeighbourMatrix, k: int, options: VoteOptions) -> "Predictions":
        """Count the votes."""
        neighbours = matrix.neighbours.nearest(k)
        counted = []
        for queries in slices(len(matrix.query_labels)):
            some = neighbours.of(queries)
            ballots, weights = matrix.ballots(some), some.weights(options)
            counted.append((winners_by_k(ballots, weights)[:, -1], class_scores(ballots, weights)))
        predicted, scores = (np.concatenate(parts) for parts in zip(*counted, strict=True))
        return cls(matrix, neighbours, predicted, in_labels(predicted, matrix.query_labels), scores)

    def confusion(self) -> list[tuple[int, int, int]]:
        """[label, answer, count] of every pair that occurred; see `Evaluation.confusion`."""
        pairs = np.stack([self._true_labels(), self.predicted])
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        return [
            (label, answer, count) for (label, answer), count in zip(found.T.tolist(), counts.tolist(), strict=True)
        ]

    def classes(self) -> list[ClassReport]:
        """The accuracy of each class among the queries, the least accurate first."""
        labels, images, right = self.matrix.labels, Counter[int](), Counter[int]()
        confused: dict[int, Counter[str]] = {}
        for label, answer, count in self.confusion():
            images[label] += count
            if label == answer:
                right[label] += count
            else:
                confused.setdefault(label, Counter())[labels[answer]] += count
        reports = [
            ClassReport(
                label=labels[label],
                images=number,
                accuracy=right[label] / number,
                confused_with=dict(confused.get(label, Counter()).most_common(CONFUSED)),
            )
            for label, number in images.items()
        ]
        return sorted(reports, key=lambda report: (report.accuracy, report.label))

    def mistakes(self) -> list[Mistake]:
        """Examples: the most confident of each confusion, then the second of each, and so on; at most 24."""
        true, confidences = self._true_labels(), confidence(self.scores)
        seen = Counter[tuple[int, int]]()
        order = []
        for query in sorted(np.flatnonzero(~self.right).tolist(), key=lambda query: -confidences[query]):
            pair = (int(true[query]), int(self.predicted[query]))
            order.append((seen[pair], query))
            seen[pair] += 1
        return [
            self._mistake(query, float(confidences[query]))
            for _, query in sorted(order, key=lambda each: each[0])[:MISTAKES]
        ]

    def _mistake(self, query: int, share: float) -> Mistake:
        matrix, rows = self.matrix, self.neighbours.rows[query, :SHOWN]
        return Mistake(
            image_id=matrix.query_ids[query],
            labels=matrix.names(matrix.query_labels[query]),
            answer=matrix.labels[self.predicted[query]],
            share=share,
            neighbours=[
                Voted(
                    image_id=matrix.image_ids[row], labels=matrix.names(matrix.image_labels[row]), similarity=similarity
                )
                for row, similarity in zip(rows.tolist(), self.neighbours.similarities[query].tolist(), strict=False)
                if row != MISSING
            ],
        )

    def calibration(self, random: np.random.Generator) -> Calibration | None:
        """The winner's share as confidence: a temperature fitted on one half of the queries, measured on the other."""
        if len(self.right) < 2:
            return None
        fitted, measured = np.array_split(random.permutation(len(self.right)), 2)
        temperature = fit_temperature(self.scores[fitted], self.right[fitted])
        before, after = (
            reliability(confidence(self.scores[measured], each), self.right[measured]) for each in (1.0, temperature)
        )
        return Calibration(temperature=temperature, before=before, after=after)

    def distances(self) -> Distances:
        """Novelty: distances of right and wrong predictions to the neighbours that voted."""
        median = np.nanmedian(self.neighbours.distances(), axis=1)
        return Distances(mean=self._histogram(self.neighbours.mean_distances()), median=self._histogram(median))

    def _histogram(self, values: NDArray[np.float64]) -> Histogram:
        edges = np.linspace(values.min(), values.max(), EDGES)
        right, wrong = (np.histogram(values[flags], edges)[0].tolist() for flags in (self.right, ~self.right))
        return Histogram(edges=edges.tolist(), right=right, wrong=wrong)

    def _true_labels(self) -> Integers:
        """The label that each query counts for: the predicted one if it is right, otherwise its first."""
        return np.where(self.right, self.predicted, self.matrix.query_labels[:, 0])
