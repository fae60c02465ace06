"""Labels as paths: vote at a level of the paths, or back off to the deepest level with a clear winner.

A level cuts each label to its first parts; a label with fewer parts stays whole. Labels of one neighbour that become
equal count once.

Backing off starts at the whole labels, or at a given level, and votes again at each level above. The decision is that
of the deepest level at which the winner's share is large enough, shares and ties included. The highest share never
falls on the way up: a label's score is part of the score of its parent, and the sum of all scores can only shrink,
where labels of one neighbour become equal. The answer need not be a parent of a deeper level's winner: where one kind
of car has 30 % of the vote, and seven kinds of animals have 10 % each, the answer is ``animal``.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

SEPARATOR = "/"


def cut_labels(labels: Sequence[str], level: int) -> list[str]:
    """Labels cut to their first `level` parts, each once, in the same order."""
    return list(dict.fromkeys(SEPARATOR.join(label.split(SEPARATOR)[:level]) for label in labels))


def depth(label: str) -> int:
    """How many parts a label has."""
    return label.count(SEPARATOR) + 1


def labels_by_level(ballots: Sequence[Sequence[str]], level: int | None) -> Iterator[list[list[str]]]:
    """The labels of each neighbour at a level, then at each level above it, up to the first parts alone.

    Args:
        ballots: the whole labels of each neighbour.
        level: the deepest level; None: the whole labels.
    """
    deepest = max(map(depth, chain.from_iterable(ballots)), default=1)
    lowest = deepest if level is None else min(level, deepest)
    if lowest == deepest:
        yield [list(dict.fromkeys(labels)) for labels in ballots]  # nothing to cut
        lowest -= 1
    for each in range(lowest, 0, -1):
        yield [cut_labels(labels, each) for labels in ballots]
