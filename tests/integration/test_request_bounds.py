"""What one request may cause, and what is kept of it, is bounded by bytes: many neighbours, many and long labels."""

import pytest

from tests.support.memory_images import image, units
from tests.support.wired_service import Parts
from visual_memory.schemas.classify_options import MAX_LABEL_TEXT, MAX_VOTES, ClassifyOptions
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.errors import InvalidFilter, TooLarge
from visual_memory.schemas.explanation import DecisionPreviewRequest, Intervention
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.moments import now
from visual_memory.schemas.text_rules import LABEL_LENGTH, MAX_LABELS
from visual_memory.services.vector_engines.engine_contract import Vectors

LONGEST = [f"{number:02}" + "x" * (LABEL_LENGTH - 2) for number in range(MAX_LABELS)]


def remember(parts: Parts, number: int, labels: list[str]) -> Vectors:
    """Images with random vectors; these."""
    images = [image(parts.tenant, f"i{each:03}", labels=labels, accepted_at=now()) for each in range(number)]
    vectors = units(number, 0, parts.memory.dimension)
    parts.memory.writes.put(images)
    assert parts.memory.embeddings.store(images, vectors) == number
    return vectors


def asked(parts: Parts, vectors: Vectors, **options: object) -> Decisions:
    return parts.classify().decide(parts.tenant, vectors, ClassifyOptions.model_validate(options))


def test_too_many_votes_are_refused_before_a_picture_is_decoded(parts: Parts) -> None:
    check = parts.classify().check
    check(ClassifyOptions(k=1000), MAX_VOTES // 1000)
    with pytest.raises(TooLarge, match=r"33 pictures or vectors with k = 1000 are 33,000 votes"):
        check(ClassifyOptions(k=1000), MAX_VOTES // 1000 + 1)
    with pytest.raises(InvalidFilter, match="65,536"):
        check(ClassifyOptions(filter=Filter({"labels": ["x" * 1000] * 100})), 1)


def test_labels_that_are_too_long_for_one_answer_are_refused(parts: Parts) -> None:
    vectors = remember(parts, 120, LONGEST)
    fitting = MAX_LABEL_TEXT // (MAX_LABELS * LABEL_LENGTH)  # neighbours that may vote
    answer = asked(parts, vectors[: fitting // 100], k=100, effort="exact")
    assert [each.voters for each in answer.decisions] == [100] * (fitting // 100)
    with pytest.raises(TooLarge, match="4,194,304 characters"):
        asked(parts, vectors[: fitting // 100 + 1], k=100, effort="exact")


def test_a_decision_that_is_too_large_is_not_kept_and_no_other_of_its_request(parts: Parts) -> None:
    vectors = remember(parts, 180, LONGEST)
    made, kept = asked(parts, vectors[:2], k=180, effort="exact"), parts.decisions()
    small = made.decisions[0].model_copy(update={"neighbours": []})
    with pytest.raises(TooLarge, match="at most 1,048,576 are stored"):
        parts.keep_made(kept, vectors[:2], made.options, [small, made.decisions[1]])
    assert list(kept.latest(parts.tenant, 10)) == []


def test_what_is_kept_of_a_tenant_is_bounded_in_bytes(parts: Parts) -> None:
    vectors = remember(parts, 3, ["cat"])
    made = asked(parts, vectors, k=3, effort="exact")
    size = len(parts.keep_made(parts.decisions(), vectors[:1], made.options, made.decisions[:1])[0].model_dump_json())
    kept = parts.decisions(keep=100, keep_bytes=10 * size)
    ids = [parts.keep_made(kept, vectors[:1], made.options, made.decisions[:1])[0].id for _ in range(30)]
    left = [each.id for each in kept.latest(parts.tenant, 100)]
    assert 3 < len(left) < 10
    assert left == ids[: -len(left) - 1 : -1], "the oldest went"


def test_a_preview_of_more_than_is_read_at_once_is_refused(parts: Parts) -> None:
    vectors = remember(parts, 150, LONGEST)
    made, kept = asked(parts, vectors[:1], k=150, effort="exact"), parts.decisions()
    for _ in range(35):
        parts.keep_made(kept, vectors[:1], made.options, made.decisions)
    request = DecisionPreviewRequest(action=Intervention.MUTE, image_ids=["i000"], last=35)
    with pytest.raises(TooLarge, match="the latest 35 decisions are over 33,554,432 bytes"):
        parts.explain().preview(parts.tenant, request)
    assert parts.explain().preview(parts.tenant, request.model_copy(update={"last": 3})).touched == 3
