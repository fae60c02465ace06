"""RankVoting and its three peers: from the nearest neighbours to a decision (Geirhos et al. 2025, section 2).

Neighbours come ordered from the nearest; rank i counts from 0, s is the cosine similarity, d = 1 - s.

| vote      | weight of the neighbour at rank i |
|-----------|-----------------------------------|
| plurality | 1                                 |
| distance  | exp(-d)                           |
| softmax   | exp(s / temperature)              |
| rank      | 1 / (i + alpha)                   |

Each weight is multiplied by the neighbour's reliability, which is 1 unless earlier wrong votes cost it some, and
divided by how many share its vote; see `services.voting.group_copies`.

A class scores the sum of the weights of the neighbours that carry its label; a neighbour with several labels gives its
weight to each. The highest score wins; of classes with equal scores, the one that was the first to reach it, walking
from the nearest. `services.voting.label_hierarchy` says at which level of their paths labels vote.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
from pydantic import TypeAdapter

from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import ClassShare, Decision, Neighbour, Novelty
from visual_memory.services.voting.group_copies import into_groups
from visual_memory.services.voting.label_hierarchy import labels_by_level
from visual_memory.services.voting.novelty import unknown_reason
from visual_memory.services.voting.vote_weights import vote_weights

TIE = 1e-12
"""Scores that differ by less, relative to the highest, are equal: sums equal on paper differ in the last bit."""
_NEIGHBOURS = TypeAdapter(list[Neighbour])


class Candidate(Protocol):
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

    @property
    def reliability(self) -> float:
        """What its vote is multiplied by, above 0; see `services.voting.image_reliability`."""

    @property
    def group(self) -> Hashable:
        """What those that share its vote have in common."""


def decide(
    voters: Sequence[Candidate],
    options: ClassifyOptions,
    encoder: str,
    novelty: Novelty | None = None,
    set_share: float | None = None,
    *,
    truncated: bool = False,
) -> Decision:
    """Let neighbours vote.

    The decision depends on nothing but the arguments: with the neighbours of a decision that shows all its voters, and
    with the same options and its novelty, `set_share` and `truncated`, the same decision comes out again.

    Args:
        voters: neighbours of at most `options.k` groups, the nearest first; empty gives a decision without a label.
        options: which vote, at which level, whether to back off or to abstain, how many of the neighbours to show.
        encoder: the name of the encoder whose vectors were compared.
        novelty: how far the voters are; the label is null where its percentile is above `options.unknown_above`.
        set_share: the share of the vote from which on a label is in the prediction set; None: there is none.
        truncated: whether more might have voted.
    """
    if not voters:
        return Decision(label=None, encoder=encoder, truncated=truncated)
    ranks, copies = np.arange(len(voters)), np.ones(len(voters), np.int64)
    if len({voter.group for voter in voters}) < len(voters):
        groups = into_groups(voters)
        voters = [voter for group in groups for voter in group]
        sizes = np.array([len(group) for group in groups])
        ranks, copies = np.repeat(np.arange(len(groups)), sizes), np.repeat(sizes, sizes)
    reliabilities = np.array([voter.reliability for voter in voters], np.float64)
    alone = vote_weights(np.array([voter.similarity for voter in voters], np.float64), options, ranks)
    weights = (alone * (reliabilities / copies)).tolist()
    levels = (
        class_shares(ballots, weights) for ballots in labels_by_level([voter.labels for voter in voters], options.level)
    )
    asked = next(levels)
    shares, reason = (asked, None) if options.back_off is None else _back_off(asked, levels, options.back_off)
    reason = unknown_reason(novelty, options.unknown_above) or reason
    total = _added(each.score for each in shares)
    shown = len(voters) if options.show is None else options.show
    return Decision(
        label=shares[0].label if reason is None else None,
        reason=reason,
        margin=shares[0].share - (shares[1].share if len(shares) > 1 else 0.0),
        shares=shares,
        voters=len(voters),
        truncated=truncated,
        neighbours=_neighbours(voters[:shown], ranks.tolist(), copies.tolist(), weights, total),
        encoder=encoder,
        novelty=novelty,
        prediction_set=None if set_share is None else _likely(asked, set_share),
        set_share=set_share,
    )


def _neighbours(
    shown: Sequence[Candidate], ranks: Sequence[int], copies: Sequence[int], weights: Sequence[float], total: float
) -> list[Neighbour]:
    """Those that are shown; made all at once, in half the time that each by itself would take."""
    return _NEIGHBOURS.validate_python(
        [
            {
                "rank": rank,
                "image_id": voter.image_id,
                "similarity": voter.similarity,
                "labels": list(voter.labels),
                "reliability": voter.reliability,
                "copies": number,
                "weight": weight,
                "share": weight / total,
            }
            for voter, rank, number, weight in zip(shown, ranks, copies, weights, strict=False)
        ]
    )


def _back_off(
    deepest: list[ClassShare], above: Iterable[list[ClassShare]], threshold: float
) -> tuple[list[ClassShare], str | None]:
    """The vote of the deepest level whose winner has enough of it, else that of the highest, and why it is too little.

    Args:
        deepest: the vote of the level to begin with.
        above: the votes of the levels above it, one after the other.
        threshold: the share of the vote that is enough.
    """
    for shares in (deepest, *above):
        if shares[0].share >= threshold - TIE:
            return shares, None
    most = f"{shares[0].label} has the most, {shares[0].share:.1%}"
    return shares, f"no label has {threshold:.1%} of the vote, not even at the top of the paths, where {most}"


def _likely(shares: Sequence[ClassShare], least: float) -> list[str]:
    """The labels with at least this share of the vote; the winner, where even that has less."""
    return [each.label for each in shares if each.share >= least - TIE] or [shares[0].label]


def class_shares(ballots: Sequence[Sequence[str]], weights: Sequence[float]) -> list[ClassShare]:
    """Every class that got a vote, the winner first, then by score.

    Args:
        ballots: the labels that each neighbour votes for, distinct, the nearest first; at least one.
        weights: of each neighbour, above 0.
    """
    walk = list(_walk(ballots, weights))
    scores = dict(walk)
    total = _added(scores.values())
    enough = max(scores.values()) * (1 - TIE)
    winner = next(label for label, score in walk if score >= enough)
    order = sorted(scores, key=lambda label: (label != winner, -scores[label]))
    return [ClassShare(label=label, score=scores[label], share=scores[label] / total) for label in order]


def _added(scores: Iterable[float]) -> float:
    """Their sum, one after the other as `batch_votes` adds them: `sum` rounds otherwise from 3.12 on."""
    return reduce(add, scores)


def _walk(ballots: Sequence[Sequence[str]], weights: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Each class with its score so far, every time that a neighbour adds to it, from the nearest on."""
    scores: dict[str, float] = {}
    for labels, weight in zip(ballots, weights, strict=True):
        for label in labels:
            scores[label] = scores.get(label, 0.0) + weight
            yield label, scores[label]
