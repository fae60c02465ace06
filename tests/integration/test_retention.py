"""Promise 2: what has expired is removed by itself, as by a removal, with a receipt."""

from datetime import UTC, datetime, timedelta

import pytest

from schemas.errors import InvalidRequest
from schemas.image import ImagePatch, now
from schemas.removal import RemovalStatus
from services.forgetting.retention import Expire, Retention
from tests.shapes import picture

from .support import AT_ONCE, LIFETIMES, NEVER, Parts

DAY = timedelta(days=1)


def expire(parts: Parts) -> int:
    return Expire(parts.memory, parts.removals, parts.forget(AT_ONCE))()


def let_expire(parts: Parts, *image_ids: str) -> None:
    for image in parts.held(*image_ids):
        parts.memory.amend(image, image.model_copy(update={"expires_at": now() - DAY}))


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
    assert set(parts.memory.get(parts.tenant, [*over, *later, *unlimited])) == {*later, *unlimited}
    assert parts.voters(picture("disc")) == {*later, *unlimited}
    [receipt] = parts.removals.all(parts.tenant)
    assert (receipt.status, receipt.images, receipt.requested_by) == (RemovalStatus.DONE, 2, "retention")
    assert [each.images for each in other.removals.all(other.tenant)] == [1]
    assert expire(parts) == 0
    assert len(parts.removals.all(parts.tenant)) == 1, "nothing expired, so there is nothing to have a receipt for"


def test_an_expiry_that_was_begun_is_not_begun_again(parts: Parts) -> None:
    ids = parts.teach(picture("disc"), expires_at=now() + DAY)
    let_expire(parts, *ids)
    unfinished = Expire(parts.memory, parts.removals, parts.forget(NEVER, memory=Unmarkable(parts)))
    with pytest.raises(RuntimeError, match="as a test"):
        unfinished()
    assert Expire(parts.memory, parts.removals, parts.forget(NEVER))() == 0
    assert parts.forget(AT_ONCE).carry_on_all() == 1
    assert [receipt.images for receipt in parts.removals.all(parts.tenant)] == [1]


class Unmarkable:
    def __init__(self, parts: Parts) -> None:
        self.metadata = parts.memory.metadata

    def mark(self, *_: object) -> None:
        raise RuntimeError("as a test")


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
    accept = parts.accept()
    moved = accept.amend(parts.tenant, image_id, ImagePatch(source="short-lived"))
    assert moved.expires_at == moved.accepted_at + LIFETIMES["short-lived"]
    cleared = accept.amend(parts.tenant, image_id, ImagePatch(expires_at=None))
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
        parts.accept().amend(parts.tenant, image_id, ImagePatch(expires_at=moment))
    assert len(parts.files()) == 1


def test_a_rule_for_every_other_source(parts: Parts) -> None:
    rule = Retention({"*": DAY, "kept": 10 * DAY})
    [image_id] = parts.teach(picture("disc"))
    [image] = parts.held(image_id)
    for source, lifetime in (("kept", 10 * DAY), ("any", DAY), (None, DAY)):
        limited = rule.limited(image.model_copy(update={"source": source}))
        assert limited.expires_at == image.accepted_at + lifetime
