"""Answers at hand: the latest, of every tenant alone."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from visual_memory.services.classification.reranking.answer_cache import AnswerCache, digest

TENANTS = st.sampled_from(["north", "south"])
QUESTIONS = st.sampled_from("abc")
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), TENANTS, QUESTIONS, st.sampled_from(["cat", "dog"])),
        st.tuples(st.just("get"), TENANTS, QUESTIONS),
        st.tuples(st.just("forget"), TENANTS),
    )
)


@given(DEEDS, st.integers(0, 4))
def test_it_keeps_what_was_last_asked_for_until_it_is_forgotten(deeds: list[tuple[str, ...]], size: int) -> None:
    answers, plain = AnswerCache(size), list[tuple[tuple[str, str], str]]()
    for what, tenant, *rest in deeds:
        if what == "forget":
            answers.delete(tenant)
            plain = [each for each in plain if each[0][0] != tenant]
            continue
        entry = (tenant, rest[0])
        held = dict(plain).get(entry)
        if what == "get":
            assert answers.get(*entry) == held
        else:
            answers.put(*entry, rest[1])
        now = held if what == "get" else rest[1]
        if now is not None:
            plain = [*(each for each in plain if each[0] != entry), (entry, now)][-size or len(plain) + 1 :]
    assert {entry: answers.get(*entry) for entry in dict(plain)} == dict(plain)
    assert not any(answers.get(*entry) for entry in product(("north", "south"), "abc") if entry not in dict(plain))


def test_a_digest_tells_apart_what_reads_alike() -> None:
    questions = [("a", ["b", "c"]), ("a", ["b, c"]), ("a", ["b"], "c"), ("a', ['b", "c"), ("a", [])]
    assert len({digest(*each) for each in questions}) == len(questions)
