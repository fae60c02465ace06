"""What images that are sent are to what is there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.image import ImageFields, State, StoredImage
from visual_memory.schemas.labels import LabelRule
from visual_memory.services.intake.plan_put import Plan, Rules, ToPut, is_known, planned, sent_together
from visual_memory.services.memory.points.point_payload import AMENDABLE

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDS = ["a", "b", "c", "d"]
RULES = Rules()


def image(image_id: str = "a", **fields: Any) -> StoredImage:
    said: dict[str, Any] = {
        "labels": ["cat"],
        "state": State.WAITING,
        "accepted_at": NOON,
        "content_hash": "0" * 64,
        "picture": f"t/00/{image_id}.held",
        "tenant": "t",
    }
    return StoredImage(image_id=image_id, **(said | fields))


def sent(image_id: str = "a", **fields: Any) -> StoredImage:
    return image(image_id, picture=f"t/00/{image_id}.sent", accepted_at=NOON + timedelta(days=1), **fields)


def plan_of(
    one: StoredImage, held: StoredImage | None, said: frozenset[str] = frozenset(AMENDABLE), rules: Rules = RULES
) -> Plan:
    return planned({one.image_id: ToPut(one, said)}, {} if held is None else {held.image_id: held}, NOON, rules)


def test_what_is_not_there_is_new() -> None:
    plan = plan_of(sent(), None)
    assert (plan.new, plan.amended, plan.states) == ((sent(),), (), {"a": State.WAITING})


@pytest.mark.parametrize("state", [State.WAITING, State.REMEMBERED, State.MUTED])
def test_what_is_there_with_the_same_content_and_fields_is_left_alone(state: State) -> None:
    plan = plan_of(sent(), image(state=state, attempts=2))
    assert (plan.new, plan.amended, plan.states) == ((), (), {"a": state})


def test_other_content_replaces_and_what_was_rejected_is_tried_anew() -> None:
    for held in (image(content_hash="1" * 64), image(state=State.REJECTED, reason="damaged")):
        plan = plan_of(sent(), held)
        [new] = plan.new
        assert new.revision > held.revision, "what was read of the former picture is told from this one"
        assert (new.model_copy(update={"revision": 0}), plan.amended) == (sent(), ())
        assert plan.states == {"a": State.WAITING}


def test_other_labels_and_fields_amend_and_keep_all_else() -> None:
    held = image(state=State.REMEMBERED, encoder="e", subject="bob", metadata={"age": 1})
    plan = plan_of(sent(labels=["dog"], source="camera"), held)
    [(before, after)] = plan.amended
    assert before == held
    assert (after.labels, after.source, after.subject, after.metadata) == (["dog"], "camera", None, {})
    assert [each.labels for each in after.history] == [["cat"]]
    kept = {"picture", "accepted_at", "state", "encoder", "content_hash"}
    assert after.model_dump(include=kept) == held.model_dump(include=kept)
    assert plan.states == {"a": State.REMEMBERED}


fields = st.fixed_dictionaries(
    {"labels": st.sampled_from([["cat"], ["dog"]]), "content_hash": st.sampled_from(["0" * 64, "1" * 64])},
    optional={"source": st.sampled_from(["x", "y"]), "subject": st.sampled_from(["ann", "bob"])},
)


@given(
    given_now=st.dictionaries(st.sampled_from(IDS), fields, min_size=1),
    there=st.dictionaries(st.sampled_from(IDS), st.tuples(fields, st.sampled_from(State))),
)
def test_each_image_is_one_thing_and_done_twice_nothing_is_left_to_do(
    given_now: dict[str, dict[str, Any]], there: dict[str, tuple[dict[str, Any], State]]
) -> None:
    asked = {image_id: sent(image_id, **said) for image_id, said in given_now.items()}
    held = {image_id: image(image_id, **{**said, "state": state}) for image_id, (said, state) in there.items()}
    plan = planned({name: ToPut(one) for name, one in asked.items()}, held, NOON)
    new, amended = {each.image_id for each in plan.new}, {each.image_id for each, _ in plan.amended}
    same = asked.keys() - new - amended
    assert not new & amended
    assert all(not is_known(asked[each], held.get(each), NOON) for each in new)
    for image_id in same:
        assert all(getattr(asked[image_id], name) == getattr(held[image_id], name) for name in AMENDABLE)
    after = held | {each.image_id: each for each in plan.written}
    for image_id, one in asked.items():
        assert all(getattr(after[image_id], name) == getattr(one, name) for name in (*AMENDABLE, "content_hash"))
        assert after[image_id].state is plan.states[image_id]
    again = planned({name: ToPut(one) for name, one in asked.items()}, after, NOON + timedelta(hours=1))
    assert (again.new, again.amended, again.states) == ((), (), plan.states)


SAID: dict[str, Any] = {
    "file_name": "a.jpg",
    "source": "camera",
    "subject": "ann",
    "captured_at": NOON,
    "expires_at": NOON + timedelta(days=9),
    "metadata": {"age": 1},
}


@pytest.mark.parametrize("content", ["0" * 64, "1" * 64], ids=["the same", "another"])
@pytest.mark.parametrize("state", [State.REMEMBERED, State.REJECTED])
def test_what_is_left_out_stays_and_null_clears(content: str, state: State) -> None:
    held = image(content_hash=content, state=state, **SAID)
    for said in [frozenset({"labels"}), *(frozenset({"labels", name}) for name in SAID)]:
        plan = plan_of(sent(), held, said)
        [after] = plan.written or [held]
        for name, value in SAID.items():
            assert getattr(after, name) == (getattr(sent(), name) if name in said else value), name


def test_one_that_has_expired_begins_anew() -> None:
    held = image(subject="ann", expires_at=NOON, state=State.REMEMBERED)
    [new] = plan_of(sent(), held, frozenset({"labels"})).new
    assert (new.subject, new.expires_at, new.state) == ("ann", None, State.WAITING)


def test_what_stays_is_limited_as_what_is_sent() -> None:
    rules = Rules(limited=lambda image: image.model_copy(update={"expires_at": image.accepted_at}))
    [(_, after)] = plan_of(sent(), image(), rules=rules).amended
    assert after.expires_at == NOON, "by when it was accepted, not by when it was sent again"


@pytest.mark.parametrize("content", ["0" * 64, "1" * 64], ids=["the same", "another"])
@pytest.mark.parametrize(
    ("rule", "labels", "told"),
    [
        (LabelRule.REPLACE, ["dog"], frozenset()),
        (LabelRule.KEEP, ["cat", "pet"], frozenset({"a"})),
        (LabelRule.ADD, ["cat", "pet", "dog"], frozenset()),
    ],
)
def test_labels_of_what_is_there_are_replaced_as_the_caller_says(
    content: str, rule: LabelRule, labels: list[str], told: frozenset[str]
) -> None:
    held = image(content_hash=content, labels=["cat", "pet"])
    plan = plan_of(sent(labels=["dog"]), held, rules=Rules(rule))
    [after] = plan.written or [held]
    assert (after.labels, plan.other_labels) == (labels, told)
    assert plan_of(sent(labels=["pet", "cat"]), held, rules=Rules(LabelRule.KEEP)).other_labels == frozenset()
    assert plan_of(sent(labels=["dog"]), None, rules=Rules(rule)).new[0].labels == ["dog"]


def test_too_many_labels_are_refused() -> None:
    held = image(labels=[f"label-{number}" for number in range(32)])
    with pytest.raises(InvalidRequest, match="at most 32"):
        plan_of(sent(labels=["dog"]), held, rules=Rules(LabelRule.ADD))


def test_of_images_sent_together_the_later_says_what_it_says() -> None:
    first = ImageFields(labels=["cat"], subject="ann", source="camera")
    other = ImageFields(labels=["dog"])
    last = ImageFields(labels=["cat", "pet"], source=None)
    together = [*sent_together([("a", first), ("b", other), ("a", last)], LabelRule.REPLACE)]
    assert together[:2] == [first, other]
    assert together[2].model_dump(exclude_unset=True) == {"labels": ["cat", "pet"], "subject": "ann", "source": None}
    kept = [*sent_together([("a", first), ("a", last)], LabelRule.KEEP)]
    assert kept[1].labels == ["cat"]
