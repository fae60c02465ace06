"""Promise 2: a removal that was recorded is carried out, at whatever step its process dies, and its receipt is true."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import delete

from tests.support.databases import SHORT, new_database
from tests.support.memory_images import reject
from tests.support.shape_pictures import picture
from tests.support.wired_service import NEVER, TESTER, Hooked, Killed, Once, Parts, Transactions
from visual_memory.schemas.errors import Blocked, Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Event
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.infrastructure.records.tables import leases
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImages
from visual_memory.services.removal.removal_records import removal_resource
from visual_memory.services.removal.steps.removal_steps import RemovalSteps

REQUEST = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to", "block": True})
WRITES = {"mark", "clear", "transaction", "delete"}


@pytest.fixture(params=SHORT)
def parts(request: pytest.FixtureRequest, memory: Memory, parts: Parts) -> Iterator[Parts]:
    """On each database."""
    with new_database(request.param, parts.folder / "another") as database:
        yield Parts(parts.folder, memory, parts.pool, given=database)


class Countdown:
    """Kills at the n-th write."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def __call__(self, name: str) -> None:
        if name in WRITES:
            self.left -= 1
            if self.left <= 0:  # what is dead does nothing more
                raise Killed


def fill(parts: Parts) -> tuple[dict[State, int], list[str]]:
    """Ann's images in every state, and two of Bob's; hers by state, and the ids of all."""
    remembered = parts.teach(*(picture("disc") for _ in range(2)), subject="ann")
    [lost] = (each.image_id for each in parts.send(picture("disc"), subject="ann"))
    reject(parts.memory, parts.held(lost)[0], "as a test")
    his = parts.teach(*(picture("bars") for _ in range(2)), subject="bob")
    [waiting] = (each.image_id for each in parts.send(picture("disc"), subject="ann"))
    by_state = {State.REMEMBERED: 2, State.REJECTED: 1, State.WAITING: 1}
    return by_state, [*remembered, lost, waiting, *his]


def killed(parts: Parts, hook: Callable[[Countdown], dict[str, Countdown]], writes: int) -> bool:
    """Run a removal until its n-th write; whether it came that far."""
    countdown = Countdown(writes)
    memory, pictures = (Hooked(each, **hook(countdown)) for each in (parts.memory, parts.pictures))
    database = Transactions(parts.database, **hook(countdown))
    try:
        parts.remove(REQUEST, parts.forget(memory=memory, pictures=pictures, database=database))
    except Killed:
        return True
    return False


# either suffices for each database: dead after a write is dead before the next one
HOOKS: dict[str, Callable[[Countdown], dict[str, Countdown]]] = {
    "before": lambda countdown: {"before": countdown},
    "after": lambda countdown: {"after": countdown},
}


@pytest.mark.parametrize("hook", [HOOKS["before"], pytest.param(HOOKS["after"], marks=pytest.mark.faults)], ids=HOOKS)
def test_killed_at_any_step_it_is_carried_on_to_the_same_receipt(
    parts: Parts, hook: Callable[[Countdown], dict[str, Countdown]]
) -> None:
    recorded, writes = 0, 1
    while True:
        each = Parts(parts.folder / str(writes), parts.memory, parts.pool, given=parts.database)
        by_state, ids = fill(each)
        if not killed(each, hook, writes):
            break
        each.forget().resume_all()
        writes += 1
        removals = each.removals.latest(each.tenant).data
        if not removals:  # it died before its record: nobody was promised anything, and nothing may have gone
            assert len(each.memory.images.get(each.tenant, ids)) == len(ids)
            continue
        recorded += 1
        [receipt] = removals
        assert (receipt.status, receipt.images, receipt.pictures) == (RemovalStatus.DONE, 4, 4)
        assert receipt.by_state == by_state
        assert receipt.verified_at is not None
        assert len(each.memory.images.get(each.tenant, ids)) == 2
        assert len(each.files()) == 2
        assert receipt.filter is None
        assert [*each.covered.pages(receipt.id)] == []
        assert [entry.event for entry in each.receipts.log.entries(each.tenant)] == [Event.REQUESTED, Event.DONE]
        assert each.verify()().faults == []
        with pytest.raises(Blocked):
            each.send(picture("disc"), subject="ann")
    assert recorded > 10, "the loop went through the steps"


def test_a_removal_in_work_is_left_to_whoever_works_on_it(parts: Parts) -> None:
    _, ids = fill(parts)
    recorded = parts.forget().request(parts.tenant, REQUEST, TESTER)
    lease = parts.removals.leases.acquire(removal_resource(recorded.id), NEVER)
    assert lease is not None
    slept: list[float] = []
    waiting = replace(parts.forget(NEVER), sleep=slept.append)
    assert waiting.resume_all() == 0
    with pytest.raises(Unavailable):
        waiting.resume(parts.tenant, recorded.id, timedelta(seconds=10))
    assert sum(slept) >= 10
    assert len(parts.memory.images.get(parts.tenant, ids)) == len(ids)
    parts.removals.leases.release(lease)
    assert waiting.resume_all() == 1
    assert parts.removals.load(parts.tenant, recorded.id).removal.status is RemovalStatus.DONE


def test_carried_on_twice_the_receipt_is_that_of_one(parts: Parts) -> None:
    by_state, _ = fill(parts)
    recorded = parts.forget().request(parts.tenant, REQUEST, TESTER)
    first = parts.forget().resume(parts.tenant, recorded.id)
    second = parts.forget().resume(parts.tenant, recorded.id)
    assert first == second
    assert first.by_state == by_state


class Undeclared:
    """The memory after its metadata field was taken out of the settings."""

    def __init__(self, parts: Parts) -> None:
        self._memory = parts.memory
        self.metadata: dict[str, FieldType] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self._memory, name)


def test_a_removal_that_cannot_be_done_any_more_holds_no_other_up(parts: Parts) -> None:
    tenants = sorted(
        (parts, Parts(parts.folder, parts.memory, parts.pool, given=parts.database)), key=lambda each: each.tenant
    )
    for each in tenants:
        fill(each)
    stuck, after = tenants
    by_age = RemovalRequest.model_validate({"filter": {"metadata.age": 3}, "reason": "asked to"})
    first = stuck.forget().request(stuck.tenant, by_age, TESTER)
    second = after.forget().request(after.tenant, REQUEST, TESTER)
    assert parts.forget(memory=Undeclared(parts)).resume_all() == 1
    assert stuck.removals.load(stuck.tenant, first.id).removal.status is RemovalStatus.RUNNING
    assert after.removals.load(after.tenant, second.id).removal.status is RemovalStatus.DONE


def test_a_store_that_is_gone_is_not_waited_for_once_a_record(parts: Parts) -> None:
    other = Parts(parts.folder, parts.memory, parts.pool, given=parts.database)
    for each in (parts, other):
        each.forget().request(each.tenant, REQUEST, TESTER)
    calls: list[str] = []

    def fail(name: str) -> None:
        calls.append(name)
        raise Unavailable("the store does not answer")

    with pytest.raises(Unavailable):
        parts.forget(memory=Hooked(parts.memory, fail)).resume_all()
    assert calls == ["count_by_removal", "ping"]


def test_what_was_accepted_before_the_request_but_written_after_the_mark_goes_too(parts: Parts) -> None:
    fill(parts)
    request = REQUEST.model_copy(update={"block": False})
    recorded = parts.forget().request(parts.tenant, request, TESTER)

    def come_in() -> None:
        parts.send(picture("disc"), image_id="late", subject="ann")
        [late] = parts.held("late")
        earlier = late.model_copy(update={"accepted_at": recorded.requested_at})
        parts.memory.writes.put([earlier], {"late": late})

    memory = Hooked(parts.memory, Once("delete", come_in))
    receipt = parts.forget(memory=memory).resume(parts.tenant, recorded.id)
    assert (receipt.status, receipt.images, receipt.pictures) == (RemovalStatus.DONE, 5, 5)
    assert parts.memory.images.get(parts.tenant, ["late"]) == {}
    assert len(parts.files()) == 2


def test_what_would_have_a_blocked_subject_from_before_is_refused_before_the_mark(parts: Parts) -> None:
    parts.teach(picture("disc"), image_id="one", subject="ann")
    recorded = parts.forget().request(parts.tenant, REQUEST, TESTER)
    with pytest.raises(Blocked):
        parts.send(picture("disc"), image_id="one")
    receipt = parts.forget().resume(parts.tenant, recorded.id)
    assert (receipt.status, receipt.images) == (RemovalStatus.DONE, 1)
    assert parts.memory.images.get(parts.tenant, ["one"]) == {}


@dataclass
class Recorder:
    """A hook that keeps what it is called with, and may fail first."""

    calls: list[tuple[str, list[int], set[str]]] = field(default_factory=list)
    fails: int = 0

    def __call__(self, tenant: str, covered: CoveredImages) -> None:
        ids = {note.image_id for page in covered for note in page}
        self.calls.append((tenant, [len(page) for page in covered], ids))
        if len(self.calls) <= self.fails:
            raise Unavailable("as a test")


def put_many(parts: Parts, number: int) -> set[str]:
    """Waiting images of Ann, more than a page of a removal; their ids."""
    images = [
        StoredImage(
            image_id=f"image-{each}",
            labels=["cat"],
            state=State.WAITING,
            subject="ann",
            accepted_at=now(),
            content_hash=f"{each:064d}",
            tenant=parts.tenant,
            picture=f"vector.{each}",
        )
        for each in range(number)
    ]
    parts.memory.writes.put(images)
    return {image.image_id for image in images}


def test_a_hook_is_called_once_for_all_pages_and_again_after_a_crash(parts: Parts) -> None:
    ids, hook = put_many(parts, 2100), Recorder(fails=1)
    forget = replace(parts.forget(), hooks=[hook])
    recorded = forget.request(parts.tenant, REQUEST, TESTER)
    with pytest.raises(Unavailable):
        forget.resume(parts.tenant, recorded.id)
    assert hook.calls == [(parts.tenant, [1000, 1000, 100], ids)]
    assert forget.resume(parts.tenant, recorded.id).images == 2100
    assert hook.calls == [(parts.tenant, [1000, 1000, 100], ids)] * 2


def test_hooks_are_told_of_a_filter_that_covers_nothing(parts: Parts) -> None:
    hook = Recorder()
    assert parts.remove(REQUEST, replace(parts.forget(), hooks=[hook])).images == 0
    assert hook.calls == [(parts.tenant, [], set())]


def test_a_store_that_does_not_answer_leaves_it_to_be_carried_on(parts: Parts) -> None:
    fill(parts)

    def fail(name: str) -> None:
        if name == "delete":
            raise Unavailable("the store does not answer")

    forget = parts.forget(memory=Hooked(parts.memory, fail))
    recorded = forget.request(parts.tenant, REQUEST, TESTER)
    with pytest.raises(Unavailable):
        forget.resume(parts.tenant, recorded.id)
    assert parts.removals.load(parts.tenant, recorded.id).removal.status is RemovalStatus.RUNNING
    assert parts.forget().resume_all() == 1
    assert parts.removals.load(parts.tenant, recorded.id).removal.images == 4


BY_LABEL = RemovalRequest.model_validate({"filter": {"labels": "cat"}, "reason": "asked to"})
WRITTEN = ("mark", "delete", "transaction")


def steps_of(parts: Parts, between: Callable[[], object], at: int) -> RemovalSteps:
    """Removals that let something else happen before their n-th write."""
    left = [at]

    def before(name: str) -> None:
        if name in WRITTEN:
            left[0] -= 1
            if left[0] == 0:
                between()

    memory, database = Hooked(parts.memory, before), Transactions(parts.database, before)
    return parts.forget(NEVER, memory=memory, database=database)


@pytest.mark.parametrize("at", range(1, 24, 3))
def test_of_two_that_overlap_the_one_with_block_covers_what_the_other_takes(parts: Parts, at: int) -> None:
    """One by label without block, and one by subject with it, asked for at each step of the first."""
    data = picture("disc")
    [image_id] = parts.teach(data, subject="ann")
    asked: list[str] = []

    def ask() -> None:
        asked.append(parts.forget().request(parts.tenant, REQUEST, TESTER).id)

    by_label = parts.remove(BY_LABEL, steps_of(parts, ask, at))
    if not asked:
        ask()
    by_subject = parts.forget(NEVER).resume(parts.tenant, asked[0])
    assert by_label.images <= 1
    assert by_label.images + by_subject.images >= 1
    assert parts.memory.images.get(parts.tenant, [image_id]) == {}
    assert by_label.verified_at is not None
    if by_subject.requested_at <= by_label.verified_at:
        assert by_subject.images == 1, at
        with pytest.raises(Blocked):
            parts.send(data)
    with pytest.raises(Blocked):
        parts.send(picture("bars"), subject="ann")
    assert parts.verify()([str(each.receipt) for each in (by_label, by_subject)]).faults == []


@pytest.mark.parametrize("at", range(2, 24, 3))
def test_one_that_stood_still_writes_nothing_more(parts: Parts, at: int) -> None:
    """At each step another takes over, and does all of it; then the first one wakes."""
    by_state, ids = fill(parts)
    finished: list[int] = []

    def stand_still() -> None:
        with parts.database.write() as connection:
            connection.execute(delete(leases))
        finished.append(parts.forget(NEVER).resume_all())

    stood = steps_of(parts, stand_still, at)
    receipt = parts.remove(REQUEST, stood)
    assert (receipt.images, receipt.pictures, receipt.by_state) == (4, 4, by_state)
    assert len(parts.memory.images.get(parts.tenant, ids)) == 2
    assert [entry.event for entry in parts.receipts.log.entries(parts.tenant)] == [Event.REQUESTED, Event.DONE]
    assert parts.verify()([str(receipt.receipt)]).faults == []


def test_a_mark_that_comes_after_the_end_is_cleared(parts: Parts) -> None:
    [image_id] = parts.teach(picture("disc"), subject="bob")
    receipt = parts.remove(REQUEST)
    parts.memory.marks.mark(parts.tenant, [], receipt.id, now())  # by a process that wakes
    assert parts.voters(picture("disc")) == set()
    parts.forget().resume_all()
    assert parts.voters(picture("disc")) == {image_id}
