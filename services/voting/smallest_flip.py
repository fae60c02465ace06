"""The fewest neighbours without which a vote has another winner: the search behind counterfactuals.

When a neighbour is left out, those behind it move up a rank and the next nearest comes in. When copies are left out,
the others of their group share its vote, and ranks change only when the last copy is left out. So the search takes
neighbours from beyond the k-th group too.

It is dynamic programming over the groups, from the nearest on. For each rival of the winner, each number of groups left
out so far, and each number of other copies left out, it keeps the greatest lead of the rival. This is exact for each of
the four votes and at every level, with ties and several labels, because the votes of a group depend only on which of
its copies stay, their reliability included, and on the number of groups before it.

One exception: where different contents are equally near and the ids of their copies alternate, another content may
become the first of them. The set that is found still flips the vote then, but there may be a smaller one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.services.voting.decide import TIE, Candidate, decide
from visual_memory.services.voting.group_copies import first_groups, into_groups
from visual_memory.services.voting.label_hierarchy import labels_by_level
from visual_memory.services.voting.vote_weights import vote_weights

BEHIND, AHEAD, SAME = 0, 1, 2
"""Whether a rival wins at equal scores: it is ahead where the winner's last vote came after its own. ``SAME``: a group
changes nothing about that."""

Floats = NDArray[np.float64]


def smallest_flip(voters: Sequence[Candidate], options: ClassifyOptions, most: int) -> list[int] | None:
    """The smallest set of voters without which another class wins.

    Args:
        voters: the neighbours, the nearest first, from beyond the k-th group too.
        options: of the vote, with its level; without `back_off`.
        most: the largest size of the set. With `options.k` + `most` groups, or all that exist, the set is the minimum;
            with fewer it may be larger than needed.

    Returns:
        positions in `voters`, ascending; None where no set of at most this size flips the vote.
    """
    winner = _winner(voters, options)
    ballots = next(labels_by_level([voter.labels for voter in voters], options.level))
    rivals = sorted({label for ballot in ballots for label in ballot} - {winner})
    if winner is None or not rivals:
        return None
    tables = _LeadTables(voters, ballots, options, most, winner)
    lead = tables.leads(rivals)
    for left_out in range(1, most + 1):
        for rival, state, others in tables.flips(lead, left_out):
            positions = tables.positions(rivals[rival], state, others, left_out - others)
            stay = [voter for position, voter in enumerate(voters) if position not in positions]
            if _winner(stay, options) != winner:
                return sorted(positions)
    return None


def table_cells(voters: Sequence[Candidate], most: int) -> int:
    """The number of table cells that `smallest_flip` computes: once for each number of copies left out of a group."""
    groups = into_groups(voters)
    others = min(most, len(voters) - len(groups))
    labels = {label for voter in voters for label in voter.labels}
    tables = sum(min(len(group), others + 1) for group in groups)
    return tables * len(labels) * (most + 1) * (others + 1)


def _winner(voters: Sequence[Candidate], options: ClassifyOptions) -> str | None:
    return decide(first_groups(voters, options.k)[0], options.model_copy(update={"show": 0}), "").label


@dataclass(frozen=True)
class _Choice:
    """Which copies of a group are left out, and what the others add to a rival's lead at a rank of weight 1."""

    left_out: tuple[int, ...]
    value: float


class _Steps:
    """The choices behind one rival's table: for each cell, the copies left out and the state before."""

    def __init__(self, others: int, groups: int) -> None:
        self._left_out: list[tuple[int, ...]] = [()]
        self._choice = np.zeros((2, others + 1, groups + 1), np.int64)
        self._before = np.broadcast_to(np.array([BEHIND, AHEAD])[:, None, None], self._choice.shape).copy()

    def record(
        self, where: tuple[int, slice, slice], better: NDArray[np.bool_], before: int, left_out: tuple[int, ...]
    ) -> None:
        self._choice[where][better] = len(self._left_out)
        self._before[where][better] = before
        self._left_out.append(left_out)

    def at(self, state: int, others: int, groups: int) -> tuple[int, tuple[int, ...]]:
        """The state before, and the copies left out."""
        return int(self._before[state, others, groups]), self._left_out[self._choice[state, others, groups]]


class _LeadTables:
    """Tables over the groups: the greatest lead of each rival, by the state at a tie and the numbers left out.

    A table is [2, rivals, others + 1, groups + 1]. Of a group that is left out as a whole, one copy counts as a group
    and the rest as others; copies left out of a group that stays count as others.
    """

    def __init__(
        self,
        voters: Sequence[Candidate],
        ballots: Sequence[Sequence[str]],
        options: ClassifyOptions,
        most: int,
        winner: str,
    ) -> None:
        numbers = {id(voter): number for number, voter in enumerate(voters)}
        self._groups = [[numbers[id(voter)] for voter in group] for group in into_groups(voters)]
        self._ballots, self._k, self._most, self._winner = ballots, options.k, most, winner
        self._others = min(most, len(voters) - len(self._groups))
        by_rank = options.vote in (Vote.RANK, Vote.PLURALITY)
        self._by_rank = vote_weights(np.zeros(len(self._groups)), options) if by_rank else np.ones(len(self._groups))
        unshared = vote_weights(np.array([voter.similarity for voter in voters], np.float64), options)
        reliabilities = np.array([voter.reliability for voter in voters], np.float64)
        self._weights = (reliabilities if by_rank else unshared * reliabilities).tolist()
        self._tie = TIE * float(unshared[: options.k].sum())
        self._steps: list[_Steps] = []

    def leads(self, rivals: Sequence[str], record: bool = False) -> Floats:
        """The greatest leads, as a table; -inf where there is none."""
        table = np.full((2, len(rivals), self._others + 1, self._most + 1), -np.inf)
        table[BEHIND, :, 0, 0] = 0.0
        for group in range(len(self._groups)):
            steps = _Steps(self._others, self._most)
            table = self._after(table, group, rivals, steps if record else None)
            if record:
                self._steps.append(steps)
        return table

    def flips(self, lead: Floats, left_out: int) -> Iterator[tuple[int, int, int]]:
        """Where a rival wins with this many left out: its row, a state, and how many of them count as others."""
        for others in range(min(left_out, self._others) + 1):
            cells = lead[:, :, others, left_out - others]
            for row in np.flatnonzero((cells[AHEAD] >= -self._tie) | (cells[BEHIND] > self._tie)).tolist():
                yield from ((row, state, others) for state in (AHEAD, BEHIND) if np.isfinite(cells[state, row]))

    def positions(self, rival: str, state: int, others: int, groups: int) -> set[int]:
        """The voters to leave out for a rival's greatest lead."""
        self._steps.clear()
        self.leads([rival], record=True)
        positions = set[int]()
        for group, steps in zip(reversed(self._groups), reversed(self._steps), strict=True):
            state, left_out = steps.at(state, others, groups)
            positions.update(group[each] for each in left_out)
            whole = len(left_out) == len(group)
            others, groups = others - len(left_out) + whole, groups - whole
        return positions

    def _after(self, table: Floats, group: int, rivals: Sequence[str], steps: _Steps | None) -> Floats:
        """The table after a group: it is left out as a whole, or some of its copies vote."""
        first = max(0, group - self._k + 1)
        after = np.full_like(table, -np.inf)
        after[..., :first] = table[..., :first]  # too few groups are left out: it is beyond the k-th, and does not vote
        by_rival = [self._choices(group, rival) for rival in rivals]
        weights = self._by_rank[np.maximum(group - np.arange(first, self._most + 1), 0)]
        for number, state in sorted({key for choices in by_rival for key in choices}):
            rows = [row for row, choices in enumerate(by_rival) if (number, state) in choices]
            values = np.array([by_rival[row][number, state].value for row in rows])
            left_out = by_rival[rows[0]][number, state].left_out
            for before in (AHEAD, BEHIND):
                new_state = before if state == SAME else state
                lead = table[before, rows, : self._others + 1 - number, first:] + values[:, None, None] * weights
                best = after[new_state, rows, number:, first:]
                after[new_state, rows, number:, first:] = np.maximum(best, lead)
                if steps:
                    where = (new_state, slice(number, None), slice(first, None))
                    steps.record(where, lead[0] > best[0], before, left_out)
        whole = len(self._groups[group])
        if whole - 1 <= self._others:
            lead, best = table[:, :, : self._others + 2 - whole, first:-1], after[:, :, whole - 1 :, first + 1 :]
            if steps:
                for state in (BEHIND, AHEAD):
                    where = (state, slice(whole - 1, None), slice(first + 1, None))
                    steps.record(where, lead[state, 0] > best[state, 0], state, tuple(range(whole)))
            np.copyto(best, np.maximum(best, lead))
        return after

    def _choices(self, group: int, rival: str) -> Mapping[tuple[int, int], _Choice]:
        """The best choice for each number of copies left out and each state that it ends in."""
        copies = self._groups[group]
        effects = tuple(_effect(self._ballots[each], self._winner, rival) for each in copies)
        weights = tuple(self._weights[each] for each in copies)
        return _best_choices(effects, weights, min(len(copies) - 1, self._others))


def _effect(ballot: Sequence[str], winner: str, rival: str) -> tuple[int, int]:
    """What a voter of weight 1 adds to a rival's lead, and the state after its vote."""
    winner_at, rival_at = (ballot.index(label) if label in ballot else None for label in (winner, rival))
    added = (rival_at is not None) - (winner_at is not None)
    if winner_at is not None:
        return added, AHEAD if rival_at is None or rival_at < winner_at else BEHIND
    return added, SAME if rival_at is None else BEHIND


@lru_cache(128)  # rivals often have the same effects; the choices of a large group take a megabyte
def _best_choices(
    effects: Sequence[tuple[int, int]], weights: Sequence[float], most: int
) -> Mapping[tuple[int, int], _Choice]:
    """The copies of a group to leave out so that the others add the most, by their number and the state afterwards.

    The state is that of the last copy that votes for winner or rival. So for each copy that may be the last, all such
    copies behind it are left out; then those that add the least.

    Args:
        effects: of each copy; see `_effect`.
        weights: of each copy, as if it were the only one of its group.
        most: the largest number to leave out, below the number of copies.
    """
    values = [added * weight for (added, _), weight in zip(effects, weights, strict=True)]
    by_value, total = sorted(range(len(values)), key=values.__getitem__), sum(values)
    best: dict[tuple[int, int], _Choice] = {}
    behind: dict[int, None] = {}
    for last in (*reversed(range(len(values))), None):
        state = SAME if last is None else effects[last][1]
        if last is not None and state == SAME:
            continue
        free = (each for each in by_value if each != last and each not in behind)
        candidates = [*behind, *islice(free, most - len(behind))]
        for number, left in enumerate(accumulate((-values[each] for each in candidates), initial=total)):
            value = left / (len(values) - number)
            if number >= len(behind) and ((number, state) not in best or value > best[number, state].value):
                best[number, state] = _Choice(tuple(candidates[:number]), value)
        if last is not None:
            behind[last] = None
        if len(behind) > most:
            break
    return best
