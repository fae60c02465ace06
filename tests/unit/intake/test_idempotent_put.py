"""What images that are sent are to what is there."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.image import State, StoredImage
from services.intake.idempotent_put import SENT_FIELDS, is_known, planned

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDS = ["a", "b", "c", "d"]


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


def plan_of(one: StoredImage, held: StoredImage | None) -> Any:
    return planned({one.image_id: one}, {} if held is None else {held.image_id: held}, NOON)


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
        assert (plan.new, plan.amended, plan.states) == ((sent(),), (), {"a": State.WAITING})


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
    plan = planned(asked, held, NOON)
    new, amended = {each.image_id for each in plan.new}, {each.image_id for each, _ in plan.amended}
    same = asked.keys() - new - amended
    assert not new & amended
    assert all(not is_known(asked[each], held.get(each)) for each in new)
    for image_id in same:
        assert all(getattr(asked[image_id], name) == getattr(held[image_id], name) for name in SENT_FIELDS)
    after = held | {each.image_id: each for each in plan.written}
    for image_id, one in asked.items():
        assert all(getattr(after[image_id], name) == getattr(one, name) for name in (*SENT_FIELDS, "content_hash"))
        assert after[image_id].state is plan.states[image_id]
    again = planned(asked, after, NOON + timedelta(hours=1))
    assert (again.new, again.amended, again.states) == ((), (), plan.states)
