"""Changes are undone as far as nothing else happened since; after a crash at any step, and beside removals."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from tests.support.shape_pictures import picture
from tests.support.wired_service import Hooked, Once, Parts, Transactions
from visual_memory.schemas.bulk_request import BulkRequest
from visual_memory.schemas.change import Change, ChangeState
from visual_memory.schemas.errors import AlreadyUndone, Blocked, Conflict, Forbidden, NotFound, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Doubt, ImagePatch, State, StoredImage
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.changes.trim_changes import TrimChanges
from visual_memory.services.infrastructure.records.tables import change_mentions, changed_images, leases

SHOWN = (
    "labels",
    "file_name",
    "source",
    "subject",
    "captured_at",
    "expires_at",
    "metadata",
    "state",
    "doubt",
    "pruned_from",
)


def bulk(parts: Parts, memory: object = None, *, may_expire: bool = True, **asked: Any) -> Change:
    use_case = parts.changes(memory).change
    wanted = use_case.of_bulk(BulkRequest.model_validate(asked), may_expire=may_expire)
    return use_case(parts.tenant, wanted, "a test")


def undo(parts: Parts, change: Change, memory: object = None, **options: Any) -> Change:
    return parts.changes(memory).undo(parts.tenant, change.id, "a test", **options)


def remove(parts: Parts, *, block: bool = False, **condition: object) -> None:
    parts.remove(RemovalRequest(filter=Filter.model_validate(condition), reason="asked to", block=block))


def shown(images: Sequence[StoredImage]) -> list[dict[str, Any]]:
    return [{name: getattr(image, name) for name in SHOWN} for image in images]


def rows(parts: Parts) -> list[tuple[str, dict[str, Any]]]:
    """What changes recorded of images."""
    with parts.database.read() as connection:
        found = connection.execute(select(changed_images).where(changed_images.c.tenant == parts.tenant)).all()
    return [(row.image_id, row.before) for row in found]


@pytest.fixture
def ids(parts: Parts) -> list[str]:
    """Four images: two remembered ones of a source, one muted, one of another source."""
    one, two, muted = parts.teach(
        *(picture("disc") for _ in range(3)), source="north", subject="ann", metadata={"site": "a"}
    )
    [other] = parts.teach(picture("disc"), source="south")
    parts.curate(action="mute", filter={"image_id": muted})
    return [one, two, muted, other]


ACTIONS: list[tuple[dict[str, Any], int]] = [
    ({"action": "mute"}, 2),
    ({"action": "unmute"}, 1),
    ({"action": "relabel", "labels": ["dog", "animal/owl"]}, 3),
    ({"action": "amend", "patch": {"subject": "bob", "source": None, "metadata": {"site": "b"}, "labels": ["x"]}}, 3),
]


@pytest.mark.parametrize(("asked", "number"), ACTIONS, ids=[asked["action"] for asked, _ in ACTIONS])
def test_a_change_its_undo_and_the_undo_of_that(
    parts: Parts, ids: list[str], asked: dict[str, Any], number: int
) -> None:
    before = shown(parts.held(*ids))
    made = bulk(parts, **asked, filter={"source": "north"})
    assert (made.action, made.state, made.images, made.skipped) == (asked["action"], ChangeState.DONE, number, 0)
    after = shown(parts.held(*ids))
    assert after != before
    undone = undo(parts, made)
    assert (undone.action, undone.undoes, undone.images, undone.skipped) == ("undo", made.id, number, 0)
    assert shown(parts.held(*ids)) == before
    assert undo(parts, undone).images == number
    assert shown(parts.held(*ids)) == after
    recorded = parts.changes().records.load(parts.tenant, made.id)
    assert (recorded.undone_by, recorded.undone_at is None) == ("a test", False)
    for twice in (made, undone):
        with pytest.raises(AlreadyUndone, match="undo its undo"):
            undo(parts, twice)
    with pytest.raises(NotFound):
        parts.changes().undo("another", made.id, "a test")
    newest = parts.changes().records.page(parts.tenant, PageRequest(9)).data
    assert [each.undoes for each in newest] == [undone.id, made.id, None, None], "the latest first"


def test_ids_name_images_and_what_would_not_change_is_counted(parts: Parts, ids: list[str]) -> None:
    use_cases = parts.changes()
    asked = {"action": "mute", "image_ids": [*ids, "nothing"]}
    wanted = use_cases.change.of_bulk(BulkRequest.model_validate(asked), may_expire=True)
    preview = use_cases.preview(parts.tenant, wanted, may_read=True)
    assert (preview.images, preview.unchanged, preview.missing, preview.is_estimate) == (3, 1, 1, False)
    assert preview.by_state == {State.REMEMBERED: 3, State.MUTED: 1}
    assert preview.by_label == {"cat": 4}
    assert {each.image_id for each in preview.samples} == {*ids}
    assert parts.held(ids[0])[0].state is State.REMEMBERED
    assert use_cases.change(parts.tenant, wanted, "a test").images == 3
    relabel = {"action": "relabel", "labels": ["cat"], "image_ids": ids}
    wanted = use_cases.change.of_bulk(BulkRequest.model_validate(relabel), may_expire=True)
    assert (use_cases.preview(parts.tenant, wanted, may_read=True).unchanged) == 4
    assert use_cases.change(parts.tenant, wanted, "a test").images == 0


def test_an_estimate_says_that_it_is_one(parts: Parts, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visual_memory.services.changes.preview_change.EXAMINED", 2)
    monkeypatch.setattr("visual_memory.services.changes.preview_change.PAGE", 1)
    monkeypatch.setattr("visual_memory.services.changes.select_images.PAGE", 1)
    use_cases = parts.changes()
    asked = {"action": "relabel", "labels": ["dog"], "filter": {"labels": "cat"}}
    wanted = use_cases.change.of_bulk(BulkRequest.model_validate(asked), may_expire=True)
    preview = use_cases.preview(parts.tenant, wanted, may_read=False)
    assert (preview.images, preview.is_estimate, preview.samples, preview.by_label) == (len(ids), True, [], {})


def test_what_changed_again_since_was_replaced_or_is_gone_stays(parts: Parts, ids: list[str]) -> None:
    one, two, muted, other = ids
    made = bulk(parts, action="relabel", labels=["dog"], image_ids=ids)
    parts.amend_image()(parts.tenant, one, ImagePatch(source="elsewhere"))
    parts.send(picture("bars"), image_id=two, labels=["bars"])
    remove(parts, image_id=other)
    undone = undo(parts, made)
    assert (undone.images, undone.skipped) == (1, 3)
    assert [image.labels for image in parts.held(one, two, muted)] == [["dog"], ["bars"], ["cat"]]


def test_an_amendment_meanwhile_is_not_overwritten_and_the_image_changes_all_the_same(
    parts: Parts, ids: list[str]
) -> None:
    race = Once("change", lambda: parts.amend_image()(parts.tenant, ids[0], ImagePatch(subject="bob")))
    made = bulk(parts, Hooked(parts.memory, race), action="relabel", labels=["dog"], image_ids=ids)
    assert (made.images, made.skipped) == (4, 0)
    [image] = parts.held(ids[0])
    assert (image.labels, image.subject) == (["dog"], "bob")

    def again(name: str) -> None:
        if name == "change":
            [held] = parts.held(ids[0])
            parts.memory.writes.amend(held, held.model_copy(update={"source": f"{held.revision}"}))

    made = bulk(parts, Hooked(parts.memory, again), action="relabel", labels=["owl"], image_ids=ids)
    assert (made.images, made.skipped) == (3, 1), "it never got a turn"


class Crash(Exception):
    """The process is gone."""


def crash() -> None:
    raise Crash


def crashes(parts: Parts) -> dict[str, Callable[[], tuple[object, object]]]:
    """By step: the memory and the database of a process that dies there."""
    memory, database = parts.memory, parts.database
    return {
        "before the images are recorded": lambda: (memory, Transactions(database, Numbered(2))),
        "after the images are recorded": lambda: (Hooked(memory, Once("change", crash)), database),
        "after the images are written": lambda: (Hooked(memory, after=Once("change", crash)), database),
        "before that is recorded": lambda: (memory, Transactions(database, Numbered(3))),
        "before the change is done": lambda: (memory, Transactions(database, Numbered(4))),
    }


class Numbered:
    """Dies at the transaction with a number, counted from 1, and at all later ones."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _name: str) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Crash


STEPS = [
    ("before the images are recorded", 0),
    ("after the images are recorded", 0),
    ("after the images are written", 3),
    ("before that is recorded", 3),
    ("before the change is done", 3),
]


@pytest.mark.parametrize(("step", "number"), STEPS, ids=[step for step, _ in STEPS])
def test_a_change_that_a_crash_ended_says_what_it_changed_and_can_be_undone(
    parts: Parts, ids: list[str], step: str, number: int
) -> None:
    before = shown(parts.held(*ids))
    memory, database = crashes(parts)[step]()
    with pytest.raises(Crash):
        parts.curate(memory, database, action="relabel", filter={"source": "north"}, labels=["dog"])
    expire_leases(parts)
    assert [image.labels for image in parts.held(*ids)].count(["dog"]) == number
    parts.changes().settle(parts.tenant)
    latest = parts.changes().records.page(parts.tenant, PageRequest(1)).data[0]
    if not number:
        assert latest.action == "mute", "nothing is left of it"
        assert len(rows(parts)) == 1
        return
    assert (latest.action, latest.state, latest.images) == ("relabel", ChangeState.INTERRUPTED, number)
    assert undo(parts, latest).images == number
    assert shown(parts.held(*ids)) == before


@pytest.mark.parametrize("step", [step for step, _ in STEPS])
def test_an_undo_that_a_crash_ended_is_sent_again_and_does_the_rest(parts: Parts, ids: list[str], step: str) -> None:
    before = shown(parts.held(*ids))
    made = bulk(parts, action="amend", patch={"subject": "bob"}, image_ids=ids)
    memory, database = crashes(parts)[step]()
    with pytest.raises(Crash):
        parts.changes(memory, database).undo(parts.tenant, made.id, "a test")
    expire_leases(parts)
    undo(parts, made)
    assert shown(parts.held(*ids)) == before
    with pytest.raises(AlreadyUndone):
        undo(parts, made)


def expire_leases(parts: Parts) -> None:
    """As time does after a crash."""
    with parts.database.write() as connection:
        connection.execute(leases.delete().where(leases.c.resource.like("change:%")))


def test_a_change_that_is_being_made_is_not_undone(parts: Parts, ids: list[str]) -> None:
    seen: list[str] = []

    def look() -> None:
        [running, *_] = parts.changes().records.page(parts.tenant, PageRequest(1)).data
        with pytest.raises(Conflict, match="still being made"):
            undo(parts, running)
        seen.append(running.state)

    bulk(parts, Hooked(parts.memory, Once("change", look)), action="relabel", labels=["dog"], image_ids=ids)
    assert seen == ["running"]


def test_a_store_that_fails_ends_a_change_which_is_then_sent_again(parts: Parts, ids: list[str]) -> None:
    def fail() -> None:
        raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        bulk(parts, Hooked(parts.memory, after=Once("change", fail)), action="relabel", labels=["dog"], image_ids=ids)
    assert bulk(parts, action="relabel", labels=["dog"], image_ids=ids).images == 0
    parts.changes().settle(parts.tenant)
    states = [(each.state, each.images) for each in parts.changes().records.page(parts.tenant, PageRequest(2)).data]
    assert states == [(ChangeState.DONE, 0), (ChangeState.INTERRUPTED, 4)]


# --- removals ---------------------------------------------------------------------------------------------------------


def test_a_removal_leaves_nothing_of_its_images_in_changes(parts: Parts, ids: list[str]) -> None:
    """Promise 3; former fields of others that its filter names go too."""
    one, two, *_ = ids
    parts.amend_image()(parts.tenant, one, ImagePatch(subject="bob", metadata={"site": "secret"}))
    parts.amend_image()(parts.tenant, two, ImagePatch(file_name="eve.png"))
    assert {image_id for image_id, _ in rows(parts)} == {one, two, ids[2]}
    remove(parts, image_id=two)
    assert {image_id for image_id, _ in rows(parts)} == {one, ids[2]}
    assert parts.verify()().faults == []
    remove(parts, subject="ann")
    assert rows(parts) == [], "it was called ann, and must not be called so again"
    with parts.database.read() as connection:
        assert connection.execute(select(change_mentions)).all() == []


def test_what_a_removal_blocks_is_not_brought_back(parts: Parts, ids: list[str]) -> None:
    made = bulk(parts, action="amend", patch={"subject": "bob"}, image_ids=ids[:2])
    parts.block("subject", "ann")
    undone = undo(parts, made)
    assert (undone.images, undone.skipped) == (0, 2)
    race = Once("change", lambda: parts.block("subject", "tom"))
    with pytest.raises(Blocked):
        bulk(parts, Hooked(parts.memory, race), action="amend", patch={"subject": "tom"}, image_ids=ids[:2])
    assert {image.subject for image in parts.held(*ids[:2])} == {"bob"}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_removal_while_images_change_leaves_no_record_of_them(parts: Parts, ids: list[str], when: str) -> None:
    race = Once("change", lambda: remove(parts, source="north"))
    made = bulk(
        parts,
        Hooked(parts.memory, **{when: race}),
        action="amend",
        patch={"file_name": "x.png"},
        filter={"labels": "cat"},
    )
    assert race.called
    assert made.images == (1 if when == "before" else 4)
    assert {image_id for image_id, _ in rows(parts)} == {ids[3]}
    assert parts.verify()().faults == []


def test_a_removal_before_images_are_recorded_leaves_no_record_of_them(parts: Parts, ids: list[str]) -> None:
    """Not even where the process dies then: the record leaves out what has a tombstone."""
    done: list[int] = []

    def race(_name: str) -> None:
        done.append(1)
        if len(done) == 2:  # of the transaction that records the images
            remove(parts, source="north")

    memory, database = Hooked(parts.memory, Once("change", crash)), Transactions(parts.database, race)
    with pytest.raises(Crash):
        parts.curate(memory, database, action="relabel", filter={"labels": "cat"}, labels=["dog"])
    assert [image_id for image_id, _ in rows(parts)] == [ids[3]]


def test_a_record_that_came_back_is_found_and_removed_again(parts: Parts, ids: list[str]) -> None:
    bulk(parts, action="relabel", labels=["dog"], image_ids=ids)
    with parts.database.read() as connection:
        kept = [dict(row) for row in connection.execute(select(changed_images)).mappings()]
    remove(parts, image_id=ids[0])
    with parts.database.write() as connection:
        connection.execute(changed_images.insert(), [row for row in kept if row["image_id"] == ids[0]])
    verify = parts.verify()
    findings = verify()
    assert findings.faults == [f"1 images of {parts.tenant} that a removal covered are described by changes still"]
    verify.remove_again(findings)
    assert verify().faults == []


def mislabelled(parts: Parts) -> None:
    """Eight discs that are called so, three of which are ann's, and one that is called bars."""
    parts.teach(*(picture("disc") for _ in range(5)), labels=["disc"])
    parts.teach(picture("disc"), labels=["bars"], image_id="odd")
    parts.teach(*(picture("disc") for _ in range(3)), labels=["disc"], subject="ann")
    parts.judge()


def test_a_mute_that_a_removal_took_back_is_not_made_again_by_undoing(parts: Parts) -> None:
    """Promise 4: without ann's images the odd one would never have been muted for its wrong votes."""
    mislabelled(parts)
    muted = parts.curate(action="mute", wrong_votes=6)
    assert [(image.state, image.doubt) for image in parts.held("odd")] == [(State.MUTED, Doubt.PRUNED)]
    undone = undo(parts, muted)
    redone = undo(parts, undone)
    assert [(image.state, image.doubt) for image in parts.held("odd")] == [(State.MUTED, Doubt.PRUNED)], "deserved"
    undone = undo(parts, redone)
    remove(parts, subject="ann")
    assert undo(parts, undone).images == 1
    assert [(image.state, image.doubt) for image in parts.held("odd")] == [(State.REMEMBERED, None)]


def test_a_mute_that_a_removal_took_back_is_skipped(parts: Parts) -> None:
    mislabelled(parts)
    muted = parts.curate(action="mute", wrong_votes=6)
    remove(parts, subject="ann")
    assert [image.state for image in parts.held("odd")] == [State.REMEMBERED]
    undone = undo(parts, muted)
    assert (undone.images, undone.skipped) == (0, 1)


@pytest.mark.parametrize(("removed", "state"), [(False, State.MUTED), (True, State.REMEMBERED)])
def test_what_the_label_check_held_is_held_again_only_if_it_still_would_be(
    parts: Parts, removed: bool, state: State
) -> None:
    parts.teach(*(picture("disc") for _ in range(6)), labels=["disc"], subject="ann")
    parts.send(picture("disc"), labels=["bars"], image_id="odd")
    parts.work(gate=LabelCheck.HOLD)
    unmuted = parts.curate(action="unmute", filter={"image_id": "odd"})
    if removed:
        remove(parts, subject="ann")
    parts.changes(gate=LabelCheck.HOLD).undo(parts.tenant, unmuted.id, "a test")
    [odd] = parts.held("odd")
    assert (odd.state, odd.doubt, len(odd.objectors)) == (state, None if removed else Doubt.HELD, 0 if removed else 6)


def test_a_key_that_may_not_remove_lets_nothing_expire_earlier(parts: Parts, ids: list[str]) -> None:
    late = bulk(parts, action="amend", patch={"expires_at": "2999-01-01T00:00:00Z"}, image_ids=ids)
    later = bulk(parts, action="amend", patch={"expires_at": "3000-01-01T00:00:00Z"}, image_ids=ids)
    before = parts.held(*ids)
    with pytest.raises(Forbidden):
        undo(parts, later, may_expire=False)
    with pytest.raises(Forbidden):
        bulk(parts, may_expire=False, action="amend", patch={"expires_at": "2500-01-01T00:00:00Z"}, image_ids=ids)
    assert parts.held(*ids) == before
    assert undo(parts, later).images == 4
    assert undo(parts, late, may_expire=False).images == 0, "it is not as that change left it"


def test_old_changes_are_trimmed(parts: Parts, ids: list[str]) -> None:
    made = [bulk(parts, action="relabel", labels=[f"l{number}"], image_ids=ids).id for number in range(4)]

    def left() -> list[str]:
        return [each.id for each in parts.changes().records.page(parts.tenant, PageRequest(9)).data]

    TrimChanges(parts.database, keep=3, keep_for=timedelta(days=1))()
    assert left() == made[:0:-1]
    TrimChanges(parts.database, keep=9, keep_for=timedelta(days=1), max_images=8)()
    assert left() == made[:1:-1]
    TrimChanges(parts.database, keep=9, keep_for=timedelta(0))()
    assert (left(), rows(parts)) == ([], [])
