"""What is measured on queries and their neighbours."""

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
from visual_memory.services.voting.exact_neighbours import MISSING

ALPHAS = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
TEMPERATURES = (0.01, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5)
MISTAKES = 24
SHOWN = 5
CONFUSED = 5
EDGES = 21

Flags = NDArray[np.bool_]


def curves(study: NeighbourMatrix, prune: Prune, voters: Neighbours, options: VoteOptions) -> list[Curve]:
    """Accuracy of all four votes at every k, with neighbours that were pruned in this way."""
    votes = [options.model_copy(update={"vote": vote}) for vote in Vote]
    accuracy = study.accuracy(voters, votes).tolist()
    return [Curve(vote=vote, prune=prune, accuracy=each) for vote, each in zip(Vote, accuracy, strict=True)]


def by_rank(study: NeighbourMatrix) -> tuple[list[float], list[float]]:
    """How often the neighbour at each rank carries a right label, and how often one is among the k nearest."""
    voters = study.voters
    right = study.right(voters.rows) & voters.first_of_each()
    place = np.argsort(~voters.first_of_each(), axis=1, kind="stable")[:, : voters.k]
    hit = voters.at_each_k(np.logical_or.accumulate(study.right(voters.rows), axis=1), voters.k)
    return np.take_along_axis(right, place, 1).mean(axis=0).tolist(), hit.mean(axis=0).tolist()


def sensitivity(study: NeighbourMatrix) -> list[Sensitivity]:
    """Accuracy of the rank and softmax votes at every k, under other values of alpha and temperature."""
    return [
        _sensitivity(study, Vote.RANK, "alpha", ALPHAS),
        _sensitivity(study, Vote.SOFTMAX, "temperature", TEMPERATURES),
    ]


def _sensitivity(
    study: NeighbourMatrix, vote: Vote, parameter: Literal["alpha", "temperature"], values: Sequence[float]
) -> Sensitivity:
    votes = [VoteOptions.model_validate({"vote": vote, parameter: value}) for value in values]
    accuracy = study.accuracy(study.voters, votes).tolist()
    return Sensitivity(vote=vote, parameter=parameter, values=list(values), accuracy=accuracy)


@dataclass(frozen=True)
class Predictions:
    """The answers of one vote at one k, looked at closely.

    Attributes:
        voters: the neighbours that voted, [n, k].
        answer: int64 [n], the number of the label that won.
        right: [n], whether it is a label of the query.
        scores: [n, b], the score of every class; 0 where there is none.
    """

    study: NeighbourMatrix
    voters: Neighbours
    answer: Integers
    right: Flags
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, study: NeighbourMatrix, k: int, options: VoteOptions) -> "Predictions":
        """Count the votes."""
        voters = study.voters.nearest(k)
        counted = []
        for queries in slices(len(study.truth)):
            some = voters.of(queries)
            cast, weights = study.ballots(some), some.weights(options)
            counted.append((winners_by_k(cast, weights)[:, -1], class_scores(cast, weights)))
        answer, score = (np.concatenate(parts) for parts in zip(*counted, strict=True))
        return cls(study, voters, answer, in_labels(answer, study.truth), score)

    def confusion(self) -> list[tuple[int, int, int]]:
        """[label, answer, count] of what occurred; see `Evaluation.confusion`."""
        pairs = np.stack([self._asked(), self.answer])
        found, counts = np.unique(pairs, axis=1, return_counts=True)
        return [
            (label, answer, count) for (label, answer), count in zip(found.T.tolist(), counts.tolist(), strict=True)
        ]

    def classes(self) -> list[ClassReport]:
        """How each class does among the queries, the least accurate first."""
        labels, images, right = self.study.labels, Counter[int](), Counter[int]()
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
        asked, sure = self._asked(), confidence(self.scores)
        seen = Counter[tuple[int, int]]()
        order = []
        for query in sorted(np.flatnonzero(~self.right).tolist(), key=lambda query: -sure[query]):
            pair = (int(asked[query]), int(self.answer[query]))
            order.append((seen[pair], query))
            seen[pair] += 1
        return [
            self._mistake(query, float(sure[query])) for _, query in sorted(order, key=lambda each: each[0])[:MISTAKES]
        ]

    def _mistake(self, query: int, share: float) -> Mistake:
        study, rows = self.study, self.voters.rows[query, :SHOWN]
        return Mistake(
            image_id=study.query_ids[query],
            labels=study.names(study.truth[query]),
            answer=study.labels[self.answer[query]],
            share=share,
            neighbours=[
                Voted(image_id=study.image_ids[row], labels=study.names(study.votes_for[row]), similarity=similarity)
                for row, similarity in zip(rows.tolist(), self.voters.similarities[query].tolist(), strict=False)
                if row != MISSING
            ],
        )

    def calibration(self, chance: np.random.Generator) -> Calibration | None:
        """The winner's share as its confidence: a temperature fitted on one half, and measured on the other."""
        if len(self.right) < 2:
            return None
        fitted, measured = np.array_split(chance.permutation(len(self.right)), 2)
        temperature = fit_temperature(self.scores[fitted], self.right[fitted])
        before, after = (
            reliability(confidence(self.scores[measured], each), self.right[measured]) for each in (1.0, temperature)
        )
        return Calibration(temperature=temperature, before=before, after=after)

    def distances(self) -> Distances:
        """Novelty: how far right and wrong answers are from those that voted."""
        median = np.nanmedian(self.voters.distances(), axis=1)
        return Distances(mean=self._histogram(self.voters.mean_distances()), median=self._histogram(median))

    def _histogram(self, values: NDArray[np.float64]) -> Histogram:
        edges = np.linspace(values.min(), values.max(), EDGES)
        right, wrong = (np.histogram(values[flags], edges)[0].tolist() for flags in (self.right, ~self.right))
        return Histogram(edges=edges.tolist(), right=right, wrong=wrong)

    def _asked(self) -> Integers:
        """The label that each query counts for: the one that was answered if it is right, else its first."""
        return np.where(self.right, self.answer, self.study.truth[:, 0])
