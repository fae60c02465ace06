"""Counterfactual: the fewest neighbours without which a vote has another winner.

Where a neighbour goes, those behind it move up a rank and the next nearest comes in. Where it has copies, these have
its vote to themselves, and nobody moves until the last is gone. So voters are taken from beyond the k-th group too, and
the set is found by dynamic programming over the groups, from the nearest on: for each rival of the winner, each
number of groups gone so far and each number of others, the greatest lead that the rival can have. That is exact for
each of the four votes, at every level, ties and several labels included, since what a group votes depends only on which
of its copies stay, their reliability included, and on how many groups before it do. With one exception: where different
contents are equally near and the ids of their copies alternate, another content may become the first of them. What is
found flips the vote then too, but there may be a smaller set.
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
"""Whether a rival with the same score would win: the winner's last vote came after the rival's, so it is ahead."""

Floats = NDArray[np.float64]


def smallest_flip(voters: Sequence[Candidate], options: ClassifyOptions, most: int) -> list[int] | None:
    """The smallest set of voters without which another class wins.

    Args:
        voters: the neighbours, the nearest first, from beyond the k-th group on too.
        options: of the vote, with its level; without `back_off`.
        most: how many may go at most. With `options.k` + `most` groups, or all that there are, the set is the minimum;
            with fewer it may be larger than needed.

    Returns:
        places of voters, ascending; None where no set of at most so many is enough.
    """
    winner = _winner(voters, options)
    ballots = next(labels_by_level([voter.labels for voter in voters], options.level))
    rivals = sorted({label for ballot in ballots for label in ballot} - {winner})
    if winner is None or not rivals:
        return None
    plan = _Plan(voters, ballots, options, most, winner)
    lead = plan.leads(rivals)
    for gone in range(1, most + 1):
        for rival, state, others in plan.flips(lead, gone):
            places = plan.places(rivals[rival], state, others, gone - others)
            left = [voter for place, voter in enumerate(voters) if place not in places]
            if _winner(left, options) != winner:
                return sorted(places)
    return None


def table_cells(voters: Sequence[Candidate], most: int) -> int:
    """How many cells of its tables `smallest_flip` computes: once for each number of copies that may go of a group."""
    groups = into_groups(voters)
    others = min(most, len(voters) - len(groups))
    labels = {label for voter in voters for label in voter.labels}
    tables = sum(min(len(group), others + 1) for group in groups)
    return tables * len(labels) * (most + 1) * (others + 1)


def _winner(voters: Sequence[Candidate], options: ClassifyOptions) -> str | None:
    return decide(first_groups(voters, options.k)[0], options.model_copy(update={"show": 0}), "").label


@dataclass(frozen=True)
class _Choice:
    """Some copies of a group go, and the others stay: what these add to a rival's lead, at a rank that weighs 1."""

    gone: tuple[int, ...]
    value: float


class _Taken:
    """The choices that led to a table of one rival: by state and both numbers, which copies went, and from where."""

    def __init__(self, others: int, groups: int) -> None:
        self._gone: list[tuple[int, ...]] = [()]
        self._choice = np.zeros((2, others + 1, groups + 1), np.int64)
        self._before = np.broadcast_to(np.array([BEHIND, AHEAD])[:, None, None], self._choice.shape).copy()

    def note(
        self, where: tuple[int, slice, slice], better: NDArray[np.bool_], before: int, gone: tuple[int, ...]
    ) -> None:
        self._choice[where][better] = len(self._gone)
        self._before[where][better] = before
        self._gone.append(gone)

    def at(self, state: int, others: int, groups: int) -> tuple[int, tuple[int, ...]]:
        """The state before, and which copies went."""
        return int(self._before[state, others, groups]), self._gone[self._choice[state, others, groups]]


class _Plan:
    """Tables over the groups: the greatest lead of each rival, by who is ahead at a tie and how many are gone.

    A table is [2, rivals, others + 1, groups + 1]. Of a group that is gone as a whole, one copy counts among the
    groups, the rest among the others; so do copies that are gone from a group that stays.
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
        alone = vote_weights(np.array([voter.similarity for voter in voters], np.float64), options)
        reliabilities = np.array([voter.reliability for voter in voters], np.float64)
        self._weights = (reliabilities if by_rank else alone * reliabilities).tolist()
        self._tie = TIE * float(alone[: options.k].sum())
        self._taken: list[_Taken] = []

    def leads(self, rivals: Sequence[str], remember: bool = False) -> Floats:
        """The greatest leads, as a table; -inf where there is none."""
        table = np.full((2, len(rivals), self._others + 1, self._most + 1), -np.inf)
        table[BEHIND, :, 0, 0] = 0.0
        for place in range(len(self._groups)):
            taken = _Taken(self._others, self._most)
            table = self._after(table, place, rivals, taken if remember else None)
            if remember:
                self._taken.append(taken)
        return table

    def flips(self, lead: Floats, gone: int) -> Iterator[tuple[int, int, int]]:
        """Where a rival wins with so many gone: its row, a state, and how many of them count among the others."""
        for others in range(min(gone, self._others) + 1):
            here = lead[:, :, others, gone - others]
            for row in np.flatnonzero((here[AHEAD] >= -self._tie) | (here[BEHIND] > self._tie)).tolist():
                yield from ((row, state, others) for state in (AHEAD, BEHIND) if np.isfinite(here[state, row]))

    def places(self, rival: str, state: int, others: int, groups: int) -> set[int]:
        """The voters that go where a rival's lead is the greatest."""
        self._taken.clear()
        self.leads([rival], remember=True)
        places = set[int]()
        for group, taken in zip(reversed(self._groups), reversed(self._taken), strict=True):
            state, gone = taken.at(state, others, groups)
            places.update(group[each] for each in gone)
            whole = len(gone) == len(group)
            others, groups = others - len(gone) + whole, groups - whole
        return places

    def _after(self, table: Floats, place: int, rivals: Sequence[str], taken: _Taken | None) -> Floats:
        """The table after the group at a place: all of it goes, or some of it does and the others vote."""
        first = max(0, place - self._k + 1)
        after = np.full_like(table, -np.inf)
        after[..., :first] = table[..., :first]  # with so few groups gone it is beyond the k-th, and does not vote
        by_rival = [self._choices(place, rival) for rival in rivals]
        weights = self._by_rank[np.maximum(place - np.arange(first, self._most + 1), 0)]
        for number, state in sorted({kind for choices in by_rival for kind in choices}):
            able = [row for row, choices in enumerate(by_rival) if (number, state) in choices]
            values = np.array([by_rival[row][number, state].value for row in able])
            gone = by_rival[able[0]][number, state].gone
            for before in (AHEAD, BEHIND):
                then = before if state == SAME else state
                lead = table[before, able, : self._others + 1 - number, first:] + values[:, None, None] * weights
                here = after[then, able, number:, first:]
                after[then, able, number:, first:] = np.maximum(here, lead)
                if taken:
                    taken.note((then, slice(number, None), slice(first, None)), lead[0] > here[0], before, gone)
        whole = len(self._groups[place])
        if whole - 1 <= self._others:
            lead, here = table[:, :, : self._others + 2 - whole, first:-1], after[:, :, whole - 1 :, first + 1 :]
            if taken:
                for state in (BEHIND, AHEAD):
                    where = (state, slice(whole - 1, None), slice(first + 1, None))
                    taken.note(where, lead[state, 0] > here[state, 0], state, tuple(range(whole)))
            np.copyto(here, np.maximum(here, lead))
        return after

    def _choices(self, place: int, rival: str) -> Mapping[tuple[int, int], _Choice]:
        """The best choice for each number of copies that go and each state that it ends in."""
        group = self._groups[place]
        effects = tuple(_effect(self._ballots[each], self._winner, rival) for each in group)
        weights = tuple(self._weights[each] for each in group)
        return _best_choices(effects, weights, min(len(group) - 1, self._others))


def _effect(ballot: Sequence[str], winner: str, rival: str) -> tuple[int, int]:
    """What a voter of weight 1 adds to a rival's lead, and the state after it voted."""
    won, theirs = (ballot.index(label) if label in ballot else None for label in (winner, rival))
    part = (theirs is not None) - (won is not None)
    if won is not None:
        return part, AHEAD if theirs is None or theirs < won else BEHIND
    return part, SAME if theirs is None else BEHIND


@lru_cache(128)  # the rivals ask for a group one after the other; of a large one the choices take a megabyte
def _best_choices(
    effects: Sequence[tuple[int, int]], weights: Sequence[float], most: int
) -> Mapping[tuple[int, int], _Choice]:
    """Which copies of a group go so that the others add the most, by their number and the state that these end in.

    The state is that of the last copy that votes for winner or rival. So for each that may be the last, all such copies
    behind it go; then those that add the least.

    Args:
        effects: of each copy; see `_effect`.
        weights: of each copy, alone.
        most: how many may go, fewer than there are.
    """
    values = [part * weight for (part, _), weight in zip(effects, weights, strict=True)]
    by_value, total = sorted(range(len(values)), key=values.__getitem__), sum(values)
    best: dict[tuple[int, int], _Choice] = {}
    behind: dict[int, None] = {}
    for last in (*reversed(range(len(values))), None):
        state = SAME if last is None else effects[last][1]
        if last is not None and state == SAME:
            continue
        free = (each for each in by_value if each != last and each not in behind)
        going = [*behind, *islice(free, most - len(behind))]
        for number, left in enumerate(accumulate((-values[each] for each in going), initial=total)):
            value = left / (len(values) - number)
            if number >= len(behind) and ((number, state) not in best or value > best[number, state].value):
                best[number, state] = _Choice(tuple(going[:number]), value)
        if last is not None:
            behind[last] = None
        if len(behind) > most:
            break
    return best
