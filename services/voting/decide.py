"""Count the votes of the nearest neighbours, break ties, abstain: the decision (Geirhos et al. 2025, section 2).

The weight of a neighbour is that of `services.voting.vote_weights`, times its reliability
(`services.voting.image_reliability`), divided by the number of copies that share its vote
(`services.voting.group_copies`).

The score of a class is the sum of the weights of the neighbours with its label; a neighbour with several labels adds
its weight to each. The highest score wins. Of classes with equal scores, the one wins that reached its score first,
counting from the nearest neighbour. Labels vote at a level of their paths: see `services.voting.label_hierarchy`.
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
"""Scores whose relative difference is smaller are equal: equal sums may differ in their last bit by rounding."""
_NEIGHBOURS = TypeAdapter(list[Neighbour])


class Candidate(Protocol):
    """A neighbour that may vote: a hit of a search, or a `Neighbour` of a decision."""

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
        """The factor of its weight, above 0; see `services.voting.image_reliability`."""

    @property
    def group(self) -> Hashable:
        """Equal for neighbours that share a vote."""


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

    The decision depends on the arguments alone: the neighbours of a decision that shows all its voters, with the same
    options and its `novelty`, `set_share` and `truncated`, give the same decision again.

    Args:
        voters: neighbours of at most `options.k` groups, the nearest first; without any, the label is None.
        options: the vote, its level, when to back off or to abstain, and how many neighbours to show.
        encoder: the name of the encoder whose vectors were compared.
        novelty: of the query; the label is None where its quantile is above `options.unknown_above`.
        set_share: the least share of the vote of a label in the prediction set; None: no set.
        truncated: whether more images might have voted.
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
    unshared = vote_weights(np.array([voter.similarity for voter in voters], np.float64), options, ranks)
    weights = (unshared * (reliabilities / copies)).tolist()
    levels = (
        class_shares(ballots, weights) for ballots in labels_by_level([voter.labels for voter in voters], options.level)
    )
    requested = next(levels)
    shares, reason = (requested, None) if options.back_off is None else _back_off(requested, levels, options.back_off)
    reason = unknown_reason(novelty, options.unknown_above) or reason
    total = _sum_in_order(each.score for each in shares)
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
        prediction_set=None if set_share is None else _prediction_set(requested, set_share),
        set_share=set_share,
    )


def _neighbours(
    shown: Sequence[Candidate], ranks: Sequence[int], copies: Sequence[int], weights: Sequence[float], total: float
) -> list[Neighbour]:
    """The neighbours to show; validated as one list, which takes half the time."""
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
    """The vote at the deepest level whose winner reaches a share; else that of the top level, and a reason.

    Args:
        deepest: the vote at the first level.
        above: the votes at the levels above it, upwards.
        threshold: the share of the vote that is enough.
    """
    for shares in (deepest, *above):
        if shares[0].share >= threshold - TIE:
            return shares, None
    winner = f"{shares[0].label} has the most, {shares[0].share:.1%}"
    return shares, f"no label has {threshold:.1%} of the vote, not even at the top of the paths, where {winner}"


def _prediction_set(shares: Sequence[ClassShare], least: float) -> list[str]:
    """The labels with at least this share of the vote, or the winner alone where none has it."""
    return [each.label for each in shares if each.share >= least - TIE] or [shares[0].label]


def class_shares(ballots: Sequence[Sequence[str]], weights: Sequence[float]) -> list[ClassShare]:
    """Every class that got a vote, the winner first, then by score.

    Args:
        ballots: the distinct labels of each neighbour, the nearest first; at least one.
        weights: of each neighbour, above 0.
    """
    steps = list(_running_scores(ballots, weights))
    scores = dict(steps)
    total = _sum_in_order(scores.values())
    enough = max(scores.values()) * (1 - TIE)
    winner = next(label for label, score in steps if score >= enough)
    order = sorted(scores, key=lambda label: (label != winner, -scores[label]))
    return [ClassShare(label=label, score=scores[label], share=scores[label] / total) for label in order]


def _sum_in_order(scores: Iterable[float]) -> float:
    """Sum in order, with the rounding of `batch_votes`: `sum` compensates rounding from Python 3.12 on."""
    return reduce(add, scores)


def _running_scores(ballots: Sequence[Sequence[str]], weights: Sequence[float]) -> Iterator[tuple[str, float]]:
    """A class and its score so far, each time that a neighbour adds to it, from the nearest on."""
    scores: dict[str, float] = {}
    for labels, weight in zip(ballots, weights, strict=True):
        for label in labels:
            scores[label] = scores.get(label, 0.0) + weight
            yield label, scores[label]
