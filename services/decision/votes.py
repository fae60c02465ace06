"""RankVoting and its three peers: from the nearest neighbours to a decision (Geirhos et al. 2025, section 2).

Neighbours come ordered from the nearest; rank i counts from 0, s is the cosine similarity, d = 1 - s.

| vote      | weight of the neighbour at rank i |
|-----------|-----------------------------------|
| plurality | 1                                 |
| distance  | exp(-d)                           |
| softmax   | exp(s / temperature)              |
| rank      | 1 / (i + alpha)                   |

A class scores the sum of the weights of the neighbours that carry its label; a neighbour with several labels gives its
weight to each. The highest score wins; of classes with equal scores, the one that was the first to reach it, walking
from the nearest.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.decision import ClassifyOptions, ClassShare, Decision, Neighbour, Vote, VoteOptions

TIE = 1e-12
"""Scores that differ by less, relative to the highest, are equal: sums equal on paper differ in the last bit."""


class Voter(Protocol):
    """A neighbour before it has voted: what a search returns, and what a `Neighbour` still says of itself."""

    @property
    def image_id(self) -> str:
        """The image's id."""

    @property
    def similarity(self) -> float:
        """Cosine similarity to the query, -1 to 1."""

    @property
    def labels(self) -> Sequence[str]:
        """The labels that it votes for."""


def weigh(similarities: NDArray[np.float64], options: VoteOptions) -> NDArray[np.float64]:
    """Each neighbour's weight.

    Args:
        similarities: cosine similarities [..., k], the nearest first.
        options: which vote, with its alpha or temperature.

    Returns:
        weights [..., k], each above 0.
    """
    match options.vote:
        case Vote.PLURALITY:
            return np.ones_like(similarities)
        case Vote.DISTANCE:
            return np.exp(similarities - 1.0)
        case Vote.SOFTMAX:
            return np.exp(similarities / options.temperature)
        case Vote.RANK:
            ranks = np.arange(similarities.shape[-1], dtype=np.float64)
            return np.broadcast_to(np.reciprocal(ranks + options.alpha), similarities.shape)


def decide(voters: Sequence[Voter], options: ClassifyOptions, encoder: str) -> Decision:
    """Let neighbours vote.

    The decision depends on nothing but the arguments: with the neighbours of a decision that shows all its voters and
    with its options, the same decision comes out again.

    Args:
        voters: at most `options.k` neighbours, the nearest first; empty gives a decision without a label.
        options: which vote, and how many of the neighbours to show.
        encoder: the name of the encoder whose vectors were compared.
    """
    if not voters:
        return Decision(label=None, encoder=encoder, options=options)
    weights = weigh(np.array([voter.similarity for voter in voters], np.float64), options).tolist()
    scores = dict(_walk(voters, weights))
    total = sum(scores.values())
    enough = max(scores.values()) * (1 - TIE)
    winner = next(label for label, score in _walk(voters, weights) if score >= enough)
    order = sorted(scores, key=lambda label: (label != winner, -scores[label]))
    shares = [ClassShare(label=label, score=scores[label], share=scores[label] / total) for label in order]
    shown = len(voters) if options.show is None else options.show
    return Decision(
        label=order[0],
        margin=shares[0].share - (shares[1].share if len(shares) > 1 else 0.0),
        shares=shares,
        voters=len(voters),
        neighbours=[
            Neighbour(
                rank=rank,
                image_id=voter.image_id,
                similarity=voter.similarity,
                labels=list(voter.labels),
                weight=weight,
                share=weight / total,
            )
            for rank, (voter, weight) in enumerate(zip(voters[:shown], weights[:shown], strict=True))
        ],
        encoder=encoder,
        options=options,
    )


def _walk(voters: Sequence[Voter], weights: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Each class with its score so far, every time that a neighbour adds to it, from the nearest on."""
    scores: dict[str, float] = {}
    for voter, weight in zip(voters, weights, strict=True):
        for label in voter.labels:
            scores[label] = scores.get(label, 0.0) + weight
            yield label, scores[label]
