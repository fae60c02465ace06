"""Novelty and prediction sets of a real memory that was judged; and what is answered where it was not."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Prune
from visual_memory.schemas.errors import NotJudged
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.voting.decide import decide

EACH = 8


@pytest.fixture
def judged(parts: Parts) -> Parts:
    for kind in ("disc", "bars"):
        parts.teach(*(picture(kind) for _ in range(EACH)), labels=[f"shape/{kind}"])
    parts.judge()
    return parts


def familiar(parts: Parts) -> tuple[bytes, str]:
    """The picture, with its label, that is nearest to its neighbours: itself among them, nearer than any in memory."""

    def distance(image: StoredImage) -> float:
        decision = parts.ask(parts.pictures.read(image.picture), k=5)
        return -sum(neighbour.similarity for neighbour in decision.neighbours)

    images, _ = parts.memory.images.page(parts.tenant, [], 1000)
    nearest_to_all = min(images, key=distance)
    return parts.pictures.read(nearest_to_all.picture), nearest_to_all.labels[0]


def test_what_is_like_the_memory_is_known_and_what_is_not_is_unknown(judged: Parts) -> None:
    question, label = familiar(judged)
    asked = {"k": 5, "unknown_above": 0.9, "coverage": 0.8}
    answers = [judged.answer(each, **asked) for each in (question, picture("cross"))]
    [known], [unknown] = (each.decisions for each in answers)
    assert (known.label, known.prediction_set, known.reason) == (label, [label], None)
    assert unknown.label is None
    assert unknown.novelty is not None
    assert known.novelty is not None
    assert (known.novelty.quantile, unknown.novelty.quantile) == (0, 1)
    assert unknown.reason is not None
    assert f"{unknown.novelty.distance:.4f}" in unknown.reason
    assert (unknown.voters, len(unknown.neighbours)) == (5, 5)
    assert unknown.prediction_set, "what the vote would say stays visible"
    for each, answer in zip((known, unknown), answers, strict=True):
        assert decide(each.neighbours, answer.options, each.encoder, each.novelty, each.set_share) == each


def test_what_was_not_asked_for_is_not_there(judged: Parts) -> None:
    plain, novel, likely = (judged.ask(picture("disc"), k=5, **each) for each in asked_apart())
    assert (plain.novelty, plain.prediction_set, plain.set_share) == (None, None, None)
    assert novel.novelty is not None
    assert novel.prediction_set is None
    assert likely.novelty is None
    assert likely.prediction_set is not None


def asked_apart() -> list[dict[str, Any]]:
    return [{}, {"unknown_above": 1}, {"coverage": 0.9}]


def test_nobody_who_votes_is_no_novelty(judged: Parts) -> None:
    decision = judged.ask(picture("disc"), filter={"labels": "none"}, unknown_above=0.5, coverage=0.9)
    assert (decision.label, decision.novelty, decision.prediction_set) == (None, None, None)
    assert decision.reason == "no remembered image meets the filter"


@pytest.mark.parametrize("asked", asked_apart()[1:])
def test_a_memory_that_was_not_judged_says_what_to_do(parts: Parts, asked: dict[str, Any]) -> None:
    parts.teach(picture("disc"))
    with pytest.raises(NotJudged, match="visual-memory judge"):
        parts.ask(picture("disc"), **asked)
    parts.judge()  # one image has no other to be compared with
    with pytest.raises(NotJudged, match="no two images"):
        parts.ask(picture("disc"), **asked)
    assert parts.memory.images.count_by_state(parts.tenant) == {State.REMEMBERED: 1}


def test_one_judgement_is_looked_up_for_all_of_a_decision(judged: Parts) -> None:
    looked: list[str] = []

    def current(tenant: str) -> Judgement | None:
        looked.append(tenant)
        return judged.judgements.current(tenant)

    classify = replace(judged.classify(), judgement=current)
    vectors = classify.embed(judged.tenant, [picture("disc")])
    classify.decide(judged.tenant, vectors, ClassifyOptions(k=5, prune=Prune.SOFT, coverage=0.9))
    assert looked == [judged.tenant]
    classify.decide(judged.tenant, vectors, ClassifyOptions(k=5))
    assert looked == [judged.tenant], "nothing asks for it"


def test_a_judgement_is_counted_once_and_a_new_one_at_once(judged: Parts) -> None:
    question, label = familiar(judged)
    options = ClassifyOptions(k=5, unknown_above=0.9, effort=Effort.EXACT)
    first = judged.judgements.current(judged.tenant)
    assert first is not None
    close = first.sample.model_copy(update={"similarities": [[1.0] * len(row) for row in first.sample.similarities]})
    counts = [first]
    classify = replace(judged.classify(), judgement=lambda _tenant: counts[-1])

    def answered() -> str | None:
        return classify.decide(judged.tenant, classify.embed(judged.tenant, [question]), options).decisions[0].label

    assert answered() == label
    counts.append(first.model_copy(update={"sample": close}))
    assert answered() == label, "it is at hand under the id of the judgement"
    counts.append(first.model_copy(update={"sample": close, "id": f"{first.id}-two"}))
    assert answered() is None, "among images that are all equal, everything else is unknown"
