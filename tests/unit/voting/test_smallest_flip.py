"""The smallest set of neighbours whose going flips a vote, against trying every set."""

from collections.abc import Iterable
from itertools import combinations, repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, Vote
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups
from visual_memory.services.voting.smallest_flip import smallest_flip, table_cells


def line(
    *labels: str, step: float = 0.01, wrong: Iterable[int] = repeat(0), copies: Iterable[bool] = repeat(False)
) -> list[Seen]:
    """Neighbours with these labels, ``+`` between several, and so many wrong votes, the nearest first.

    Where it says so, one is a copy of that before it.
    """
    voters: list[Seen] = []
    for label, votes, copy in zip(labels, wrong, copies, strict=False):
        content = int(voters[-1].content) + (not copy) if voters else 0
        similarity = 0.9 - step * content
        reliability = 1.75 / (1 + votes) if votes else 1.0
        voters.append(Seen(str(len(voters)), similarity, label.split("+"), reliability, str(content)))
    return voters


def winner(voters: list[Seen], options: ClassifyOptions) -> str | None:
    return decide(first_groups(voters, options.k)[0], options, "").label


def by_trying(voters: list[Seen], options: ClassifyOptions, most: int) -> int | None:
    """The size of the smallest set without which another class wins."""
    for size in range(1, most + 1):
        for places in combinations(range(len(voters)), size):
            left = [voter for place, voter in enumerate(voters) if place not in places]
            if winner(left, options) not in (None, winner(voters, options)):
                return size
    return None


def test_the_next_nearest_comes_in() -> None:
    plurality = ClassifyOptions(vote=Vote.PLURALITY, k=3)
    assert smallest_flip(line("a", "a", "b", "b"), plurality, 4) == [0]
    assert smallest_flip(line("a", "a", "b", "a", "a", "b"), plurality, 4) == [0, 1, 3]


def test_who_goes_need_not_have_voted_for_the_winner() -> None:
    rank = ClassifyOptions(k=9, alpha=0.1)
    voters = line("c", "b", "a", "a", "a", "a", "a", "a", "a")
    assert winner(voters, rank) == "c"
    assert smallest_flip(voters, rank, 3) == [0]
    late = line("a", "c", "b", "b", "b", "b")
    options = ClassifyOptions(k=6, alpha=1.2)
    assert winner(late, options) == "b"
    places = smallest_flip(late, options, 2)
    assert places is not None
    assert len(places) == by_trying(late, options, 2)


def test_copies_that_stay_have_the_vote_of_those_that_go() -> None:
    alike = line("a", "a", "a", "b", copies=[False, True, True, False])
    assert smallest_flip(alike, ClassifyOptions(), 2) is None
    assert smallest_flip(alike, ClassifyOptions(), 3) == [0, 1, 2]


def test_of_many_copies_with_other_labels_as_many_go_as_it_takes() -> None:
    number = 400
    alike = line(*("ab"[place % 5 > 2] for place in range(number)), copies=[place > 0 for place in range(number)])
    places = smallest_flip(alike, ClassifyOptions(), 81)
    assert places is not None
    assert len(places) in {80, 81}, "240 votes against 160"
    assert smallest_flip(alike, ClassifyOptions(), 79) is None


def test_each_number_of_copies_that_may_go_takes_a_table() -> None:
    contents, copies = (line(*["a", "b"] * 50, copies=[copy] * 100) for copy in (False, True))
    assert table_cells(contents, 16) == 100 * 2 * 17
    assert table_cells(copies, 16) == 17 * 2 * 17 * 17


def test_nothing_flips_where_all_agree_or_too_few_may_go() -> None:
    assert smallest_flip(line("a", "a", "a"), ClassifyOptions(), 3) is None
    assert smallest_flip([], ClassifyOptions(), 3) is None
    assert smallest_flip(line("a", "a", "a", "a", "b"), ClassifyOptions(vote=Vote.PLURALITY), 2) is None


@settings(max_examples=400, deadline=None)
@given(
    labels=st.lists(
        st.lists(st.sampled_from(["a", "b", "c", "a/x", "b/x"]), min_size=1, max_size=2, unique=True).map("+".join),
        min_size=1,
        max_size=8,
    ),
    wrong=st.lists(st.sampled_from([0, 0, 1, 6]), min_size=8, max_size=8),
    copies=st.lists(st.booleans(), min_size=8, max_size=8),
    level=st.sampled_from([None, 1]),
    vote=st.sampled_from(list(Vote)),
    k=st.integers(1, 6),
    alpha=st.sampled_from([0.5, 1.0, 2.0, 6.0]),
    step=st.sampled_from([0.0, 0.01, 0.3]),
    most=st.integers(1, 8),
)
def test_it_is_the_smallest_of_all(
    labels: list[str],
    wrong: list[int],
    copies: list[bool],
    level: int | None,
    vote: Vote,
    k: int,
    alpha: float,
    step: float,
    most: int,
) -> None:
    options = ClassifyOptions(vote=vote, k=k, alpha=alpha, temperature=0.2, level=level)
    voters = line(*labels, step=step, wrong=wrong, copies=copies)
    places = smallest_flip(voters, options, most)
    assert (None if places is None else len(places)) == by_trying(voters, options, most)
    if places is not None:
        left = [voter for place, voter in enumerate(voters) if place not in places]
        assert winner(left, options) not in (None, winner(voters, options))
