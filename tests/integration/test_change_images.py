"""Images are muted, unmuted and relabelled; what the service muted by itself, a removal takes back."""

from typing import cast

import pytest

from tests.support.memory_images import reject
from tests.support.shape_pictures import picture
from tests.support.wired_service import AT_ONCE, Hooked, Once, Parts, Pixels
from visual_memory.schemas.change import ChangePreview, ChangeState
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.errors import Conflict, InvalidFilter, NotJudged
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Doubt, State
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Engine


def curate(parts: Parts, action: str, memory: object = None, **asked: object) -> int:
    """How many images were changed."""
    done = parts.curate(memory, action=action, **asked)
    assert (done.action, done.state) == (action, ChangeState.DONE)
    return done.images


def preview(parts: Parts, action: str, **asked: object) -> ChangePreview:
    use_cases, request = parts.changes(), CurationRequest.model_validate({"action": action, **asked})
    return use_cases.preview(parts.tenant, use_cases.change.of_curation(parts.tenant, request), may_read=True)


def would(parts: Parts, action: str, **asked: object) -> int:
    """How many images would be changed."""
    return preview(parts, action, **asked).images


def remove(parts: Parts, **condition: object) -> None:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
    parts.remove(request)


def states(parts: Parts, *image_ids: str) -> list[State]:
    return [image.state for image in parts.held(*image_ids)]


def test_muted_images_are_silent_until_they_are_unmuted(parts: Parts) -> None:
    one, two = parts.teach(picture("disc"), picture("disc"), source="north")
    [other] = parts.teach(picture("disc"), source="south")
    where = {"filter": {"source": "north"}}
    assert would(parts, "mute", **where) == 2
    assert parts.voters(picture("disc")) == {one, two, other}
    assert curate(parts, "mute", **where) == 2
    assert curate(parts, "mute", **where) == 0
    assert parts.voters(picture("disc")) == {other}
    assert would(parts, "unmute", **where) == 2
    assert curate(parts, "unmute", filter={"state": "muted"}) == 2
    assert parts.voters(picture("disc")) == {one, two, other}


def test_relabelled_images_vote_for_the_new_labels_and_all_above_them(parts: Parts) -> None:
    ids = parts.teach(picture("disc"), picture("disc"), labels=["dog"])
    assert curate(parts, "relabel", filter={"labels": "dog"}, labels=["animal/cat", "pet"]) == 2
    assert {each.label for each in parts.ask(picture("disc")).shares} == {"animal/cat", "pet"}
    assert would(parts, "relabel", filter={"labels": "animal"}, labels=["x"]) == 2
    assert [image.labels for image in parts.held(*ids)] == [["animal/cat", "pet"]] * 2


def test_only_remembered_images_are_muted_and_only_muted_ones_unmuted(parts: Parts) -> None:
    [waiting] = (each.image_id for each in parts.send(picture("bars")))
    [rejected] = (each.image_id for each in parts.send(picture("bars")))
    reject(parts.memory, parts.held(rejected)[0], "as a test")
    every = {"filter": {"image_id": [waiting, rejected]}}
    assert (curate(parts, "mute", **every), curate(parts, "unmute", **every)) == (0, 0)
    assert states(parts, waiting, rejected) == [State.WAITING, State.REJECTED]
    assert parts.held(rejected)[0].reason == "as a test"
    parts.work()
    assert states(parts, waiting) == [State.REMEMBERED]


def test_a_muted_image_stays_muted_when_the_same_picture_comes_again_and_not_when_another_does(parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, image_id="one")
    curate(parts, "mute", filter={"image_id": "one"})
    [again] = parts.send(data, image_id="one")
    assert (again.state, states(parts, "one")) == (State.MUTED, [State.MUTED])
    parts.send(picture("disc"), image_id="one")
    assert states(parts, "one") == [State.WAITING]
    curate(parts, "unmute", filter={"image_id": "one"})
    assert states(parts, "one") == [State.WAITING], "it has no vector yet"


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"action": "mute"}, "at least one condition"),
    ({"action": "relabel", "filter": {"source": "x"}}, "labels are given to relabel"),
    ({"action": "mute", "filter": {"source": "x"}, "labels": ["x"]}, "labels are given to relabel"),
    ({"action": "unmute", "filter": {"source": "x"}, "wrong_votes": 3}, "only for mute"),
]


@pytest.mark.parametrize(("asked", "said"), REFUSED)
def test_a_request_that_cannot_be_meant_is_refused(asked: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CurationRequest.model_validate(asked)


def test_a_filter_of_unknown_fields_or_votes_that_nobody_counted_are_refused(parts: Parts) -> None:
    with pytest.raises(InvalidFilter, match="no field 'colour'"):
        curate(parts, "mute", filter={"colour": "red"})
    with pytest.raises(NotJudged, match="POST /v1/judgements"):
        curate(parts, "mute", wrong_votes=3)


def mislabelled(parts: Parts) -> str:
    """Five discs that are called so, and one that is called bars."""
    parts.teach(*(picture("disc") for _ in range(5)), labels=["disc"])
    [odd] = parts.teach(picture("disc"), labels=["bars"], image_id="odd")
    return odd


@pytest.mark.parametrize("judged_between", [False, True])
def test_what_was_muted_for_its_wrong_votes_votes_again_where_a_removal_leaves_too_few(
    parts: Parts, judged_between: bool
) -> None:
    """And only there: promise 4, a memory that never saw those that are gone would have muted the others too."""
    odd = mislabelled(parts)
    first, *others = parts.teach(*(picture("disc") for _ in range(3)), labels=["disc"], subject="ann")
    parts.judge()
    assert curate(parts, "mute", wrong_votes=6, filter={"labels": "cross"}) == 0, "both must hold"
    assert would(parts, "mute", wrong_votes=6) == 1
    assert curate(parts, "mute", wrong_votes=6) == 1
    assert [(image.state, image.doubt) for image in parts.held(odd)] == [(State.MUTED, Doubt.PRUNED)]
    if judged_between:
        parts.judge()
    remove(parts, image_id=first)
    assert [(image.state, image.doubt) for image in parts.held(odd)] == [(State.MUTED, Doubt.PRUNED)]
    remove(parts, image_id=others)
    assert [(image.state, image.doubt) for image in parts.held(odd)] == [(State.REMEMBERED, None)]
    judgement = parts.judgements.current(parts.tenant)
    assert judgement is not None
    assert judgement.votes[odd] == (5, 0)


def test_what_a_person_muted_stays_so(parts: Parts) -> None:
    odd = mislabelled(parts)
    parts.judge()
    curate(parts, "mute", wrong_votes=4)
    curate(parts, "mute", filter={"image_id": odd})
    remove(parts, labels="disc")
    assert states(parts, odd) == [State.MUTED]


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_removal_while_it_is_muted_by_wrong_votes_leaves_it_to_vote(parts: Parts, side: str) -> None:
    odd = mislabelled(parts)
    [gone] = parts.teach(picture("disc"), labels=["disc"])
    parts.judge()
    race = Once("change", lambda: remove(parts, image_id=gone))
    with pytest.raises(Conflict, match="replaced"):
        curate(parts, "mute", memory=Hooked(parts.memory, **{side: race}), wrong_votes=6)
    assert [(image.state, image.doubt) for image in parts.held(odd)] == [(State.REMEMBERED, None)]


def gated(parts: Parts, gate: LabelCheck, memory: object = None) -> None:
    parts.send(picture("disc"), labels=["bars"], image_id="odd")
    parts.work(gate=gate, memory=memory)


@pytest.mark.parametrize(
    ("gate", "state", "doubt"),
    [
        (LabelCheck.OFF, State.REMEMBERED, None),
        (LabelCheck.WARN, State.REMEMBERED, Doubt.WARNED),
        (LabelCheck.HOLD, State.MUTED, Doubt.HELD),
    ],
)
def test_neighbours_object_to_a_label(parts: Parts, gate: LabelCheck, state: State, doubt: Doubt | None) -> None:
    parts.teach(*(picture("disc") for _ in range(6)), labels=["disc"])
    gated(parts, gate)
    [image] = parts.held("odd")
    assert (image.state, image.doubt) == (state, doubt)
    assert ("vote for disc" in (image.reason or "")) == (gate is not LabelCheck.OFF)
    assert ("odd" in parts.voters(picture("disc"))) == (state is State.REMEMBERED)
    [good] = parts.send(picture("disc"), labels=["disc"])
    parts.work(gate=gate)
    assert [(each.state, each.reason) for each in parts.held(good.image_id)] == [(State.REMEMBERED, None)]
    curate(parts, "unmute", filter={"state": "muted"})
    assert states(parts, "odd") == [State.REMEMBERED]


def test_a_few_neighbours_object_to_nothing(parts: Parts) -> None:
    parts.teach(*(picture("disc") for _ in range(4)), labels=["disc"])
    gated(parts, LabelCheck.HOLD)
    assert states(parts, "odd") == [State.REMEMBERED]


def gate_again(parts: Parts, gate: LabelCheck, **condition: object) -> None:
    forget = parts.forget(gate=gate)
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
    parts.remove(request, forget)


def test_a_removal_takes_back_what_nobody_objects_to_any_more(parts: Parts) -> None:
    """Promise 4: as in a memory without those that were removed; and nothing is encoded again for it."""
    parts.teach(*(picture("disc") for _ in range(6)), labels=["disc"], subject="ann")
    gated(parts, LabelCheck.HOLD)
    parts.send(picture("disc"), labels=["cross"], image_id="warned")
    parts.work(gate=LabelCheck.WARN)
    encoded = parts.encoder.encoded
    gate_again(parts, LabelCheck.HOLD, subject="ann")
    assert [(image.state, image.doubt, image.reason, image.objectors) for image in parts.held("odd", "warned")] == [
        (State.REMEMBERED, None, None, [])
    ] * 2
    assert parts.encoder.encoded == encoded


@pytest.mark.parametrize(("gate", "state"), [(LabelCheck.WARN, State.REMEMBERED), (LabelCheck.HOLD, State.MUTED)])
def test_what_others_object_to_without_those_that_are_gone_stays_doubted(
    parts: Parts, gate: LabelCheck, state: State
) -> None:
    parts.teach(*(picture("disc") for _ in range(12)), labels=["disc"])
    gated(parts, gate)
    [before] = parts.held("odd")
    gate_again(parts, gate, image_id=before.objectors[0])
    [after] = parts.held("odd")
    assert (after.state, after.doubt) == (state, before.doubt)
    assert before.objectors[0] not in after.objectors
    assert len(after.objectors) == 10
    assert after.reason == "its 10 nearest neighbours vote for disc, with 100% of the vote"


def test_what_was_objected_to_by_others_than_those_that_are_gone_is_not_looked_at(parts: Parts) -> None:
    parts.teach(*(picture("disc") for _ in range(10)), labels=["disc"])
    [far] = parts.teach(picture("bars"), labels=["bars"])
    gated(parts, LabelCheck.HOLD)
    gate_again(parts, LabelCheck.OFF, image_id=far)
    assert states(parts, "odd") == [State.MUTED]
    gate_again(parts, LabelCheck.OFF, image_id=parts.held("odd")[0].objectors[0])
    assert states(parts, "odd") == [State.REMEMBERED], "the gate was opened since"


def test_no_objection_that_an_encoder_made_before_names_who_is_gone(parts: Parts) -> None:
    """Promise 3, where the encoder that classifies now has no vector of what was objected to."""
    parts.teach(*(picture("disc") for _ in range(10)), labels=["disc"], subject="ann")
    gated(parts, LabelCheck.HOLD)
    [before], engine = parts.held("odd"), parts.memory.points.engine
    assert before.objectors
    engine.add_vector("new", 4)
    try:
        now_active = Parts(
            parts.folder, parts.memory.with_encoder("new", 4), parts.pool, Pixels(name="new"), parts.tenant
        )
        gate_again(now_active, LabelCheck.HOLD, subject="ann")
        [after] = parts.held("odd")
        assert (after.state, after.doubt, after.objectors) == (State.REMEMBERED, None, [])
    finally:
        engine.drop_vector("new")


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_objection_of_images_outlasts_their_removal_at_the_same_moment(parts: Parts, when: str) -> None:
    """Before the doubt is written and it is looked for those who voted, and between that and what follows."""
    parts.teach(*(picture("disc") for _ in range(6)), labels=["disc"], subject="ann")
    race = Once("UpdateVectors", lambda: remove(parts, subject="ann"))
    engine = Hooked(parts.memory.points.engine, **{when: race})
    gated(parts, LabelCheck.HOLD, Memory(cast(Engine, engine), "pixels", parts.memory.dimension, parts.memory.metadata))
    assert race.called
    assert [(image.state, image.reason) for image in parts.held("odd")] == [(State.WAITING, None)]
    parts.work(gate=LabelCheck.HOLD, lease=AT_ONCE)
    assert [(image.state, image.doubt) for image in parts.held("odd")] == [(State.REMEMBERED, None)]
