"""Stored decisions asked again: replays, counterfactuals, previews, influence, each against doing it."""

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.test_stored_decisions import remove
from tests.support.shape_pictures import picture
from tests.support.wired_service import Parts, Pixels
from visual_memory.schemas.classify_options import ClassifyOptions, Effort, Vote
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import EncoderMismatch, InvalidRequest
from visual_memory.schemas.explanation import DecisionPreviewRequest, ReplayRequest
from visual_memory.schemas.image import ImagePatch
from visual_memory.services.classification.search_voters import WhatIf
from visual_memory.services.decisions.explanations.explain import Explain


def preview_of(**asked: object) -> DecisionPreviewRequest:
    return DecisionPreviewRequest.model_validate(asked)


def teach(parts: Parts, labels: Sequence[str], kind: str = "disc") -> list[str]:
    return [parts.teach(picture(kind), labels=[label], source=f"of-{label}")[0] for label in labels]


def ids_of(decision: Decision) -> list[str]:
    return [each.image_id for each in decision.neighbours]


def test_nothing_changed_and_a_replay_says_so(parts: Parts) -> None:
    teach(parts, "aab")
    [decision] = parts.keep(picture("disc"), k=2)
    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest())
    assert (replay.before, replay.changed, replay.decision.label) == (decision.label, False, decision.label)
    assert (replay.came, replay.gone, replay.relabelled, replay.reweighted) == ([], [], [], [])
    assert replay.decision.neighbours == decision.neighbours
    assert replay.decision.id is None


def test_a_replay_names_what_is_different(parts: Parts) -> None:
    ids = teach(parts, "aaab")
    [decision] = parts.keep(question := picture("disc"), k=3, vote="plurality")
    nearest, second, third = ids_of(decision)
    beyond = (set(ids) - {nearest, second, third}).pop()
    remove(parts, filter={"image_id": nearest})
    parts.amend_image()(parts.tenant, second, ImagePatch(labels=["z"]))
    twin = parts.teach(question, image_id="twin", labels=["z"])[0]
    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest())
    assert [each.image_id for each in replay.came] == [twin]
    assert replay.decision.label == "z"
    assert replay.changed
    assert [(each.image_id, each.after) for each in replay.relabelled] == [(second, ["z"])]
    assert replay.gone == [], "the removed one is in the stored decision no more"

    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest(without=[twin, second]))
    assert [(each.neighbour.image_id, each.why) for each in replay.gone] == [(second, "left out, as requested")]
    assert [each.image_id for each in replay.came] == [beyond]
    options = ClassifyOptions(k=1, effort=Effort.EXACT)
    replay = parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest(options=options))
    assert {each.why for each in replay.gone} == {"others are nearer"}
    assert len(replay.reweighted) == 0
    by_rank = ReplayRequest(options=ClassifyOptions(k=3, effort=Effort.EXACT))
    assert len(parts.explain().replay(parts.tenant, str(decision.id), by_rank).reweighted) == 2


def test_vectors_of_another_encoder_are_not_compared(parts: Parts) -> None:
    teach(parts, "ab")
    other = Parts(parts.folder, parts.memory, parts.pool, encoder=Pixels(name="another"), tenant=parts.tenant)
    [decision] = other.keep(picture("disc"))
    with pytest.raises(EncoderMismatch, match="another"):
        parts.explain().replay(parts.tenant, str(decision.id), ReplayRequest())
    preview = parts.explain().preview(parts.tenant, preview_of(action="mute", image_ids=["x"]))
    assert (preview.decisions, preview.changed) == (0, [])


def test_a_decision_is_questioned_by_the_encoder_that_it_was_made_with(parts: Parts) -> None:
    engine, before = parts.memory.points.engine, parts.memory
    engine.add_vector("before", before.dimension)
    try:
        old = Parts(
            parts.folder,
            before.with_encoder("before", before.dimension),
            parts.pool,
            Pixels(name="before"),
            parts.tenant,
        )
        ids = teach(parts, "ab")
        images, question = parts.held(*ids), picture("disc")
        vectors = parts.classify().embed(parts.tenant, [question, question])
        old.memory.missing_vectors.store(images, np.stack([vectors[0], -vectors[0]]).astype(np.float32))
        [by_old], [by_new] = old.keep(question, k=2, vote="rank"), parts.keep(question, k=1)
        known = Explain.of(parts.classify(), parts.decisions(), {"before": old.classify()}.__getitem__)
        replay = known.replay(parts.tenant, str(by_old.id), ReplayRequest())
        assert (replay.decision.neighbours, replay.changed) == (by_old.neighbours, False)
        assert (replay.decision.encoder, by_new.encoder) == ("before", "pixels")
        assert [round(each.similarity, 3) for each in replay.decision.neighbours] == [1, -1]
        found = known.counterfactual(parts.tenant, str(by_old.id))
        assert (found.label, found.becomes, [each.image_id for each in found.images]) == ("a", "b", [ids[0]])
        preview = known.preview(parts.tenant, preview_of(action="mute", image_ids=[ids[0]]))
        assert preview.decisions == 2, "each is counted by its own"
        assert by_old.id in {each.id for each in preview.changed}
    finally:
        engine.drop_vector("before")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.text("ab", min_size=2, max_size=7), vote=st.sampled_from(Vote), k=st.integers(1, 5))
def test_a_counterfactual_is_what_comes_out_when_it_is_done(parts: Parts, labels: str, vote: Vote, k: int) -> None:
    each = Parts(parts.folder, parts.memory, parts.pool)
    teach(each, labels)
    [decision] = each.keep(question := picture("disc"), k=k, vote=vote)
    found = each.explain().counterfactual(each.tenant, str(decision.id))
    assert found.label == decision.label
    if len(set(labels)) == 1:
        assert (found.becomes, found.images) == (None, [])
        assert found.reason
        return
    assert found.becomes not in (None, decision.label)
    remove(each, filter={"image_id": [pivot.image_id for pivot in found.images]})
    assert each.ask(question, k=k, vote=vote).label == found.becomes


@pytest.mark.parametrize("action", ["mute", "relabel", "remove"])
def test_a_preview_is_what_comes_out_when_it_is_done(parts: Parts, action: str) -> None:
    chance = Random(action)
    ids = teach(parts, "abcabcabcabc")
    questions = [picture("disc") for _ in range(12)]
    options: list[dict[str, Any]] = [
        {"k": chance.choice([1, 3, 5]), "vote": chance.choice(list(Vote))} for _ in questions
    ]
    kept = [parts.keep(question, **asked)[0] for question, asked in zip(questions, options, strict=True)]
    some = ids[:8]
    labels = {"labels": ["b"]} if action == "relabel" else {}
    preview = parts.explain().preview(parts.tenant, preview_of(action=action, image_ids=[*some, "unknown"], **labels))
    assert (preview.images, preview.decisions) == (8, 12)
    assert preview.touched == sum(not set(ids_of(decision)).isdisjoint(some) for decision in kept)
    by_filter = {"action": action, "filter": {"image_id": some}, **labels}
    assert parts.explain().preview(parts.tenant, preview_of(**by_filter)) == preview

    if labels:
        for image_id in some:
            parts.amend_image()(parts.tenant, image_id, ImagePatch(labels=["b"]))
    else:
        remove(parts, filter={"image_id": some})
    after = [parts.ask(question, **asked).label for question, asked in zip(questions, options, strict=True)]
    changed = {each.id: (before.label, label) for each, before, label in zip(kept, kept, after, strict=True)}
    assert {each.id: (each.before, each.after) for each in preview.changed} == {
        decision_id: (before, label) for decision_id, (before, label) in changed.items() if before != label
    }
    assert preview.changed


def test_a_preview_of_the_last_alone(parts: Parts) -> None:
    ids = teach(parts, "a")
    decisions = [parts.keep(picture("disc"))[0] for _ in range(3)]
    preview = parts.explain().preview(parts.tenant, preview_of(action="remove", filter={}, last=2))
    assert (preview.images, preview.decisions, preview.touched) == (len(ids), 2, 2)
    assert [(each.id, each.before, each.after) for each in preview.changed] == [
        (decisions[2].id, "a", None),
        (decisions[1].id, "a", None),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "mute"},
        {"action": "mute", "image_ids": ["x"], "filter": {}},
        {"action": "relabel", "image_ids": ["x"]},
        {"action": "mute", "image_ids": ["x"], "labels": ["a"]},
        {"action": "mute", "image_ids": ["x"] * 1001},
    ],
)
def test_a_preview_says_what_is_wrong(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"image_ids|labels"):
        DecisionPreviewRequest.model_validate(wrong)


def test_a_preview_of_too_many_is_refused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visual_memory.services.decisions.explanations.intervention_preview.MAX_VALUES", 2)
    teach(parts, "abc")
    with pytest.raises(InvalidRequest, match="more than the 2 images"):
        parts.explain().preview(parts.tenant, preview_of(action="mute", filter={}))


def test_influence_sums_the_shares_of_winners(parts: Parts) -> None:
    teach(parts, ["a", "a", "b", "a/x"])
    kept = [parts.keep(picture("disc"), k=k)[0] for k in (1, 2, 4)]
    found = parts.explain().influence(parts.tenant, 100)
    assert found.decisions == 3
    by_hand: dict[str, float] = {}
    for decision in kept:
        for each in decision.neighbours:
            if decision.label in each.labels or each.labels[0].startswith(f"{decision.label}/"):
                by_hand[each.image_id] = by_hand.get(each.image_id, 0.0) + each.share
    assert {each.image_id: each.share for each in found.images} == pytest.approx(by_hand)
    assert [each.share for each in found.images] == pytest.approx(sorted(by_hand.values(), reverse=True))
    assert sum(each.share for each in found.labels) == pytest.approx(sum(by_hand.values()))
    assert sum(each.share for each in found.sources) == pytest.approx(sum(by_hand.values()))
    assert {each.source for each in found.images} >= {each.name for each in found.sources}


def test_what_would_be_otherwise_is_searched_for_alone(parts: Parts) -> None:
    ids = teach(parts, "ab")
    classify = parts.classify()
    query = classify.embed(parts.tenant, [picture("disc")])
    options = ClassifyOptions(effort=Effort.EXACT)
    [[hit]], *_ = classify.search(parts.tenant, query, options, 5, WhatIf(without=[ids[0]]))
    assert hit.image_id == ids[1]
    relabelled = classify.search(parts.tenant, query, options, 5, WhatIf(labels={ids[0]: ["z"]}))[0][0]
    assert {each.image_id: each.labels for each in relabelled} == {ids[0]: ("z",), ids[1]: ("b",)}
