"""Copies of one content share a rank and a vote, and the vectorised form agrees with the plain one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.voting_neighbours import Seen
from visual_memory.schemas.classify_options import ClassifyOptions, GroupBy, Vote
from visual_memory.services.voting.brute_force_neighbours import MISSING
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups, into_groups, voting_order

seen = st.lists(
    st.tuples(st.sampled_from([0.2, 0.5, 0.5, 0.9]), st.integers(0, 5), st.sampled_from(["a", "b", "c"])), max_size=12
).map(
    lambda found: [
        Seen(str(place), similarity, [label], content=str(content))
        for place, (similarity, content, label) in enumerate(sorted(found, key=lambda each: -each[0]))
    ]
)


@given(found=seen, k=st.integers(1, 6))
def test_the_first_k_contents_vote_with_all_copies_that_are_as_near(found: list[Seen], k: int) -> None:
    voters, enough = first_groups(found, k)
    contents = list(dict.fromkeys(each.content for each in found))
    assert enough == (len(contents) >= k)
    assert list(dict.fromkeys(each.content for each in voters)) == contents[:k]
    reach = max((each.similarity for each in found if each.content == contents[k - 1]), default=0.0) if enough else -1
    expected = [each for each in found if each.content in contents[:k] and each.similarity >= reach]
    assert voters == expected


@given(rows=st.lists(seen, min_size=1, max_size=4), k=st.integers(1, 6))
def test_many_queries_at_once_are_ranked_like_each_alone(rows: list[list[Seen]], k: int) -> None:
    width = max(map(len, rows))
    groups, similarities = np.full((len(rows), width), MISSING), np.full((len(rows), width), -1.0)
    for row, found in enumerate(rows):
        groups[row, : len(found)] = [int(each.content) for each in found]
        similarities[row, : len(found)] = [each.similarity for each in found]
    together = voting_order(groups, similarities, k)
    for row, found in enumerate(rows):
        by_group = into_groups(first_groups(found, k)[0])
        ranks = [(rank, len(group)) for rank, group in enumerate(by_group) for _ in group]
        ids = [each.image_id for group in by_group for each in group]
        number = len(ids)
        assert [str(column) for column in together.order[row, :number].tolist()] == ids
        assert list(zip(together.ranks[row, :number], together.copies[row, :number], strict=True)) == ranks
        assert (together.ranks[row, number:] == MISSING).all()


@given(found=seen.filter(bool), vote=st.sampled_from(Vote))
def test_a_content_weighs_as_much_as_one_neighbour_at_its_rank(found: list[Seen], vote: Vote) -> None:
    options = ClassifyOptions(vote=vote)
    decision = decide(found, options, "encoder")
    assert decide(decision.neighbours, options, "encoder") == decision, "it is counted again from what it shows"
    groups = into_groups(found)
    alone = decide([group[0] for group in groups], options.model_copy(update={"group_by": GroupBy.NONE}), "encoder")
    for rank, group in enumerate(groups):
        shown = [each for each in decision.neighbours if each.rank == rank]
        assert [each.image_id for each in shown] == [each.image_id for each in group]
        assert {each.copies for each in shown} == {len(group)}
        if len({each.similarity for each in group}) == 1:
            assert sum(each.weight for each in shown) == pytest.approx(alone.neighbours[rank].weight)
            assert len({each.weight for each in shown}) == 1


def test_twenty_copies_of_a_mistake_are_one_vote() -> None:
    copies = [Seen(f"copy-{each}", 0.9, ["hat"], content="one") for each in range(20)]
    others = [Seen(f"dress-{each}", 0.8, ["dress"]) for each in range(3)]
    decision = decide([*copies, *others], ClassifyOptions(vote=Vote.PLURALITY), "encoder")
    assert {each.label: each.share for each in decision.shares} == pytest.approx({"dress": 0.75, "hat": 0.25})
