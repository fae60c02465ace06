"""Count all four votes at every k up to 100 for 10,000 queries and 1,000 classes, against a loop over rows."""

import time

import numpy as np

from benchmarks.result_table import Row, compare
from visual_memory.schemas.classify_options import Vote, VoteOptions
from visual_memory.services.voting.batch_votes import Integers, Weights, collect_ballots, winners_by_k
from visual_memory.services.voting.decide import TIE
from visual_memory.services.voting.vote_weights import vote_weights

QUERIES, K, CLASSES = 10_000, 100, 1_000
LOOPED = 100
LOOP = "a loop over rows, as the paper's authors count"


def measure() -> list[Row]:
    """Count with both, and check that they agree."""
    chance = np.random.default_rng(0)
    similarities = np.sort(chance.uniform(0.2, 0.9, (QUERIES, K)))[:, ::-1]
    # The nearest carry the right label in 7 of 10 cases, the furthest in 3, others at random.
    truth, right = chance.integers(0, CLASSES, (QUERIES, 1)), chance.random((QUERIES, K)) < np.linspace(0.7, 0.3, K)
    classes = np.where(right, truth, chance.integers(0, CLASSES, (QUERIES, K)))
    won: dict[Vote, Integers] = {}

    def ours() -> float:
        begun = time.perf_counter()
        cast = collect_ballots(classes[..., None])
        won.update({vote: winners_by_k(cast, vote_weights(similarities, VoteOptions(vote=vote))) for vote in Vote})
        return time.perf_counter() - begun

    def looped() -> float:
        begun = time.perf_counter()
        for vote in Vote:
            weights = vote_weights(similarities[:LOOPED], VoteOptions(vote=vote))
            assert (loop(classes[:LOOPED], weights) == won[vote][:LOOPED]).all()
        return (time.perf_counter() - begun) * QUERIES / LOOPED

    stage = f"four votes at every k = 1 to {K}, {QUERIES:,} queries, {CLASSES:,} classes"
    return [compare(stage, "s", ours, {LOOP: looped}, asked={LOOP: 200}, note=f"the loop: {LOOPED} queries, scaled")]


def loop(classes: Integers, weights: Weights) -> Integers:
    """Count one query and one k at a time, as the paper's authors do."""
    won = np.empty(classes.shape, np.int64)
    for row, (labels, given) in enumerate(zip(classes.tolist(), weights.tolist(), strict=True)):
        for k in range(1, len(labels) + 1):
            scores: dict[int, float] = {}
            walked = []
            for label, weight in zip(labels[:k], given[:k], strict=True):
                scores[label] = scores.get(label, 0.0) + weight
                walked.append((label, scores[label]))
            enough = max(scores.values()) * (1 - TIE)
            won[row, k - 1] = next(label for label, score in walked if score >= enough)
    return won
