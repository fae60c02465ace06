"""Counterfactual: the fewest neighbours without which a vote has another winner.

Where a neighbour goes, those behind it move up a rank and the next nearest comes in. So voters are taken from beyond
the k-th too, and the set is found by dynamic programming over them, from the nearest on: for each rival of the winner,
and each number of neighbours gone so far, the greatest lead that the rival can have. That is exact for each of the four
votes, at every level, ties and several labels included, since a voter's weight depends only on itself, its reliability
included, and on how many before it stay.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.decision import ClassifyOptions, Vote
from services.decision.hierarchy import climb
from services.decision.votes import TIE, Voter, decide, weigh

BEHIND, AHEAD = 0, 1
"""Whether a rival with the same score would win: the winner's last vote came after the rival's, so it is ahead."""

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]


def smallest_flip(voters: Sequence[Voter], options: ClassifyOptions, most: int) -> list[int] | None:
    """The smallest set of voters without which another class wins.

    Args:
        voters: the neighbours, the nearest first, from beyond the k-th on too.
        options: of the vote, with its level; without `back_off`.
        most: how many may go at most. With `options.k` + `most` voters, or all that there are, the set is the minimum;
            with fewer it may be larger than needed.

    Returns:
        places of voters, ascending; None where no set of at most so many is enough.
    """
    winner = _winner(voters, options)
    ballots = next(climb([voter.labels for voter in voters], options.level))
    rivals = sorted({label for ballot in ballots for label in ballot} - {winner})
    if winner is None or not rivals:
        return None
    plan = _Plan(voters, ballots, options, most, winner)
    lead = plan.leads(rivals)
    for gone in range(1, most + 1):
        for row in np.flatnonzero((lead[AHEAD, :, gone] >= -plan.tie) | (lead[BEHIND, :, gone] > plan.tie)):
            for state in (AHEAD, BEHIND):
                places = plan.places(rivals[row], state, gone)
                left = [voter for place, voter in enumerate(voters) if place not in places]
                if places and _winner(left, options) != winner:
                    return sorted(places)
    return None


def _winner(voters: Sequence[Voter], options: ClassifyOptions) -> str | None:
    return decide(voters[: options.k], options, "").label


class _Plan:
    """Tables over the voters: the greatest lead of each rival, by who is ahead at a tie and how many voters are gone.

    Attributes:
        tie: leads that are nearer to 0 are none.
    """

    def __init__(
        self,
        voters: Sequence[Voter],
        ballots: Sequence[Sequence[str]],
        options: ClassifyOptions,
        most: int,
        winner: str,
    ) -> None:
        self._ballots, self._k, self._most, self._winner = ballots, options.k, most, winner
        self._reliabilities = [voter.reliability for voter in voters]
        self._weights = weigh(np.array([voter.similarity for voter in voters], np.float64), options)
        self._by_rank = options.vote in (Vote.RANK, Vote.PLURALITY)
        self._choices: list[tuple[Truths, Truths]] = []
        self.tie = TIE * float(self._weights[: options.k].sum())

    def leads(self, rivals: Sequence[str], remember: bool = False) -> Floats:
        """The greatest leads [2, len(rivals), most + 1], by state and number gone; -inf where there is none."""
        table = np.full((2, len(rivals), self._most + 1), -np.inf)
        table[BEHIND, :, 0] = 0.0
        gone = np.arange(self._most + 1)
        for place, ballot in enumerate(self._ballots):
            votes = place - gone < self._k
            part, last = self._effect(ballot, rivals)
            kept = table + self._weight(place, gone) * part[:, None]
            to_ahead, to_behind = votes & (last == AHEAD)[:, None], votes & (last == BEHIND)[:, None]
            from_ahead = kept[AHEAD] >= kept[BEHIND]
            better = np.maximum(kept[AHEAD], kept[BEHIND])
            stays = np.stack(
                [
                    np.where(to_behind, better, np.where(to_ahead, -np.inf, kept[BEHIND])),
                    np.where(to_ahead, better, np.where(to_behind, -np.inf, kept[AHEAD])),
                ]
            )
            goes = np.full_like(table, -np.inf)
            goes[:, :, 1:] = np.where(votes[:-1], table[:, :, :-1], -np.inf)
            if remember:
                before = np.stack([from_ahead & to_behind, from_ahead | ~to_ahead])
                self._choices.append(((goes > stays)[:, 0], before[:, 0]))
            table = np.maximum(stays, goes)
        return table

    def places(self, rival: str, state: int, gone: int) -> set[int]:
        """The voters that go where a rival's lead is the greatest; empty where that state cannot be."""
        self._choices.clear()
        if np.isneginf(self.leads([rival], remember=True)[state, 0, gone]):
            return set()
        places = set()
        for place in reversed(range(len(self._ballots))):
            goes, before = self._choices[place]
            if goes[state, gone]:
                places.add(place)
                gone -= 1
            else:
                state = int(before[state, gone])
        return places

    def _weight(self, place: int, gone: NDArray[np.int64]) -> Floats:
        """What a voter weighs, by how many before it are gone: 0 where it is not among the first k."""
        ranks = place - gone
        weights = self._weights[np.maximum(ranks, 0)] if self._by_rank else self._weights[place]
        return np.where(ranks < self._k, weights * self._reliabilities[place], 0.0)

    def _effect(self, ballot: Sequence[str], rivals: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
        """By rival: what a voter of weight 1 adds to its lead, and the state after it voted, -1 for the same."""
        places = {label: place for place, label in enumerate(ballot)}
        won = places.get(self._winner)
        part, last = np.zeros(len(rivals)), np.full(len(rivals), -1)
        for row, rival in enumerate(rivals):
            theirs = places.get(rival)
            part[row] = (theirs is not None) - (won is not None)
            if won is not None:
                last[row] = AHEAD if theirs is None or theirs < won else BEHIND
            elif theirs is not None:
                last[row] = BEHIND
        return part, last
