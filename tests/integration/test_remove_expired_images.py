"""Promise 2: what has expired is removed by itself, as by a removal, with a receipt."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.memory_images import quick_folder
from tests.support.shape_pictures import picture
from tests.support.wired_service import AT_ONCE, LIFETIMES, METADATA, NEVER, Parts, Pixels, failures
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.explanation import ReplayRequest
from visual_memory.schemas.image import ImagePatch
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.data_governance.remove_expired_images import RemoveExpiredImages
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
REQUEST = RemovalRequest.model_validate({"filter": {"subject": "ann"}, "reason": "asked to"})


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Each test's own: an expiry is for every tenant, and these simulate later moments."""
    with quick_folder() as folder:
        encoder = Pixels()
        opened = Memory(EdgeEngine(folder), encoder.name, encoder.dimension, METADATA)
        opened.open()
        yield opened
        opened.close()


def expire(parts: Parts, moment: datetime | None = None) -> int:
    return RemoveExpiredImages(parts.memory, parts.removals, parts.forget(AT_ONCE)).if_due(moment)


def let_expire(parts: Parts, *image_ids: str, since: timedelta = DAY) -> None:
    for image in parts.held(*image_ids):
        parts.memory.writes.amend(image, image.model_copy(update={"expires_at": now() - since}))


def test_what_has_expired_is_removed_with_a_receipt_and_nothing_else(parts: Parts) -> None:
    over = parts.teach(picture("disc"), picture("bars"), expires_at=now() + DAY)
    later = parts.teach(picture("disc"), expires_at=now() + DAY)
    unlimited = parts.teach(picture("disc"))
    other = Parts(parts.folder, parts.memory, parts.pool)
    others = other.teach(picture("cross"), expires_at=now() + DAY)
    assert expire(parts) == 0
    let_expire(parts, *over)
    let_expire(other, *others)

    assert expire(parts) == 3
    assert set(parts.memory.images.get(parts.tenant, [*over, *later, *unlimited])) == {*later, *unlimited}
    assert parts.voters(picture("disc")) == {*later, *unlimited}
    [receipt] = parts.removals.latest(parts.tenant).data
    assert (receipt.status, receipt.images, receipt.requested_by) == (RemovalStatus.DONE, 2, "retention")
    assert [each.images for each in other.removals.latest(other.tenant).data] == [1]
    assert expire(parts) == 0
    assert len(parts.removals.latest(parts.tenant).data) == 1, (
        "nothing expired, so there is nothing to have a receipt for"
    )


def in_another_process(parts: Parts) -> Parts:
    """The same tenant, in a process that has not looked yet who has images that expire."""
    memory = Memory(parts.memory.points.engine, parts.encoder.name, parts.encoder.dimension, METADATA)
    return replace(parts, memory=memory)


@pytest.mark.parametrize("as_of", [timedelta(0), timedelta(minutes=1)])
def test_what_has_expired_votes_no_more_before_it_is_removed(parts: Parts, as_of: timedelta) -> None:
    over, later, unlimited = (
        parts.teach(picture("disc"), **limit) for limit in ({"expires_at": now() + DAY},) * 2 + ({},)
    )
    options = {"k": 1000} | ({"as_of": now().isoformat()} if as_of else {})
    everybody = {*over, *later, *unlimited}
    assert {each.image_id for each in in_another_process(parts).ask(picture("disc"), **options).neighbours} == everybody
    let_expire(parts, *over, since=timedelta(seconds=1))

    asked = in_another_process(parts)
    assert {each.image_id for each in asked.ask(picture("disc"), **options).neighbours} == {*later, *unlimited}
    assert expire(parts) == 0, "its hour is not over"
    assert set(parts.memory.images.get(parts.tenant, over)) == {*over}
    judged = asked.judge()
    assert judged is not None
    assert judged.images == 2


def test_a_replay_says_that_a_voter_has_expired(parts: Parts) -> None:
    [over] = parts.teach(picture("disc"), expires_at=now() + DAY)
    parts.teach(picture("disc"))
    [decision] = parts.keep(picture("disc"), k=2)
    let_expire(parts, over)
    replay = in_another_process(parts).explain().replay(parts.tenant, str(decision.id), ReplayRequest())
    assert [(each.neighbour.image_id, each.why) for each in replay.gone] == [(over, "expired")]


def test_a_camera_has_one_removal_an_hour_and_one_call_of_each_hook(parts: Parts) -> None:
    """Its images expire one a minute for three hours; it is looked after every minute."""
    start, minutes = now() + DAY, 180
    ids = parts.teach(*(picture("disc") for _ in range(6)))
    images = [
        image.model_copy(update={"image_id": f"image-{number}", "expires_at": start + timedelta(minutes=number)})
        for number, image in enumerate(parts.held(*ids * (minutes // len(ids))))
    ]
    parts.memory.writes.put(images)
    calls: list[int] = []
    forget = replace(parts.forget(), hooks=[lambda _, covered: calls.append(sum(map(len, covered)))])
    duty = RemoveExpiredImages(parts.memory, parts.removals, forget)
    for minute in range(minutes + 61):
        duty.if_due(start + timedelta(minutes=minute))
    assert calls == [61, 61, 58]
    assert [each.images for each in parts.removals.latest(parts.tenant).data][::-1] == calls
    assert len(parts.memory.images.get(parts.tenant, ids)) == len(ids)


def test_a_clock_that_was_set_back_removes_nothing_early_and_holds_up_nothing(parts: Parts) -> None:
    [image_id] = parts.teach(picture("disc"), expires_at=now() + DAY)
    assert expire(parts, now() - 300 * DAY) == 0
    assert expire(parts, now() + DAY) == 0
    assert expire(parts, now() + DAY + HOUR) == 1
    assert parts.memory.images.get(parts.tenant, [image_id]) == {}


def test_one_tenant_whose_removal_fails_delays_no_other(parts: Parts) -> None:
    tenants = sorted((parts, Parts(parts.folder, parts.memory, parts.pool)), key=lambda each: each.tenant)
    for each in tenants:
        let_expire(each, *each.teach(picture("disc"), expires_at=now() + DAY))
    stuck, after = tenants
    before = failures("expiry")
    memory = Stuck(parts.memory, stuck.tenant)
    assert RemoveExpiredImages(parts.memory, parts.removals, parts.forget(NEVER, memory=memory)).if_due() == 1
    assert failures("expiry") == before + 1
    assert [each.status for each in after.removals.latest(after.tenant).data] == [RemovalStatus.DONE]
    assert [each.status for each in stuck.removals.latest(stuck.tenant).data] == [RemovalStatus.RUNNING]


def test_an_expiry_that_was_begun_is_not_begun_again(parts: Parts) -> None:
    ids = parts.teach(picture("disc"), expires_at=now() + DAY)
    let_expire(parts, *ids)
    stuck = Stuck(parts.memory, parts.tenant)
    assert RemoveExpiredImages(parts.memory, parts.removals, parts.forget(NEVER, memory=stuck)).if_due() == 0
    assert RemoveExpiredImages(parts.memory, parts.removals, parts.forget(NEVER)).if_due() == 0
    assert parts.forget(AT_ONCE).resume_all() == 1
    assert [receipt.images for receipt in parts.removals.latest(parts.tenant).data] == [1]


class Stuck:
    """The memory, in which nothing of one tenant can be marked."""

    def __init__(self, memory: Memory, tenant: str) -> None:
        self._memory, self._tenant, self.marks = memory, tenant, self

    def mark(self, tenant: str, *arguments: Any) -> None:
        if tenant == self._tenant:
            raise RuntimeError("as a test")
        self._memory.marks.mark(tenant, *arguments)

    def __getattr__(self, name: str) -> Any:
        marks = self._memory.marks
        return getattr(marks if hasattr(marks, name) else self._memory, name)


def test_the_source_limits_the_life_and_a_picture_may_shorten_it(parts: Parts) -> None:
    [limited] = parts.held(*parts.teach(picture("disc"), source="short-lived"))
    assert limited.expires_at == limited.accepted_at + LIFETIMES["short-lived"]
    soon = now() + DAY
    [shorter] = parts.held(*parts.teach(picture("disc"), source="short-lived", expires_at=soon))
    assert shorter.expires_at == soon
    [longer] = parts.held(*parts.teach(picture("disc"), source="short-lived", expires_at=now() + 300 * DAY))
    assert longer.expires_at == longer.accepted_at + LIFETIMES["short-lived"]
    [free] = parts.held(*parts.teach(picture("disc"), source="elsewhere"))
    assert free.expires_at is None


def test_a_change_cannot_get_around_the_rule(parts: Parts) -> None:
    [image_id] = parts.teach(picture("disc"))
    amend = parts.amend_image()
    moved = amend(parts.tenant, image_id, ImagePatch(source="short-lived"))
    assert moved.expires_at == moved.accepted_at + LIFETIMES["short-lived"]
    cleared = amend(parts.tenant, image_id, ImagePatch(expires_at=None))
    assert cleared.expires_at == moved.expires_at
    assert parts.held(image_id)[0].expires_at == moved.expires_at


def test_sent_again_it_lives_from_then_on(parts: Parts) -> None:
    data = picture("disc")
    [image_id] = parts.teach(data, expires_at=now() + DAY)
    until = now() + 2 * DAY
    parts.send(data, expires_at=until)
    assert parts.held(image_id)[0].expires_at == until


@pytest.mark.parametrize("moment", [datetime(2020, 1, 1, tzinfo=UTC)])
def test_a_moment_that_has_passed_is_refused(parts: Parts, moment: datetime) -> None:
    with pytest.raises(InvalidRequest, match="has passed"):
        parts.send(picture("disc"), expires_at=moment)
    [image_id] = parts.teach(picture("disc"))
    with pytest.raises(InvalidRequest, match="has passed"):
        parts.amend_image()(parts.tenant, image_id, ImagePatch(expires_at=moment))
    assert len(parts.files()) == 1


def test_a_rule_for_every_other_source(parts: Parts) -> None:
    rule = RetentionLimits({"*": DAY, "kept": 10 * DAY})
    [image_id] = parts.teach(picture("disc"))
    [image] = parts.held(image_id)
    for source, lifetime in (("kept", 10 * DAY), ("any", DAY), (None, DAY)):
        limited = rule.limited(image.model_copy(update={"source": source}))
        assert limited.expires_at == image.accepted_at + lifetime
