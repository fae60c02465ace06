"""Labels as paths: to vote at a level, and to back off to what enough of the vote agrees on.

A level cuts each label to its first so many parts; a label with fewer stays whole. Labels of one neighbour that become
equal count once, as it is one neighbour that says so.

Backing off goes up level by level, from the whole labels (or the level asked for) to their first parts, and holds the
vote anew at each. The answer is the winner of the deepest level at which the winner's share is large enough, and the
decision is then the one that this level alone would have given, shares and ties included. Going up a level never
lowers a share, so it stops where it should: a label's score is part of the score of what stands above it, and the sum
of all scores can only shrink, where labels of one neighbour become equal. What is answered need not stand above the
winner of a deeper level: where one kind of car has 30 % of the vote, and seven kinds of animals 10 % each, it is
``animal``.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

SEPARATOR = "/"


def cut_labels(labels: Sequence[str], level: int) -> list[str]:
    """Labels cut to their first `level` parts, each once, in the order they came."""
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
        yield [list(dict.fromkeys(labels)) for labels in ballots]  # cutting would only take time
        lowest -= 1
    for each in range(lowest, 0, -1):
        yield [cut_labels(labels, each) for labels in ballots]
