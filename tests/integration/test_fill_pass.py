"""Promise 8: what is filled is what the encoder makes of the stored picture, whatever comes in between."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.integration.test_remember_pictures import no_odd_ones, odd_picture
from tests.support.memory_images import mute, units
from tests.support.shape_pictures import KINDS, picture
from tests.support.two_encoders import ENGINES, FIRST, QUIET, SECOND, Migrating, Tones, migrating, over
from tests.support.wired_service import Hooked, Killed, Once
from visual_memory.schemas.encoder import FillCounts, FillSettings
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent

pytestmark = QUIET


@pytest.fixture(params=ENGINES)
def parts(request: pytest.FixtureRequest, _sandboxes: None) -> Iterator[Migrating]:
    with over(request.param) as made:
        yield made


def teach(parts: Migrating, number: int, **fields: Any) -> list[str]:
    return parts.teach(*(picture(KINDS[each % len(KINDS)]) for each in range(number)), **fields)


def counts(parts: Migrating, tenant: str | None = None) -> FillCounts:
    return parts.added.missing_vectors.counts(tenant)


def test_what_is_remembered_or_muted_gets_its_vector_and_nothing_else(parts: Migrating) -> None:
    ids = teach(parts, 12)
    muted = Filter({"image_id": ids[0]}).clauses({})
    assert mute(parts.memory, parts.tenant, muted) == 1
    [waits] = parts.send(picture("disc"))
    parts.add()
    assert counts(parts) == FillCounts(left=12)
    assert parts.fill() == 12
    assert counts(parts) == FillCounts(filled=12)
    assert parts.vectors_of(SECOND).keys() == set(ids)
    parts.check_vectors()
    assert parts.held(ids[0])[0].state is State.MUTED
    assert parts.held(waits.image_id)[0].state is State.WAITING
    assert parts.fill() == 0, "nothing is left"


def test_images_of_every_tenant_are_filled_in_turn(parts: Migrating) -> None:
    first, second = parts, migrating(parts.folder, parts.engine, parts.pool)
    teach(first, 20)
    teach(second, 3)
    first.add()
    seen: list[str] = []
    encoder = Tones()
    encode = encoder.encode
    encoder.encode = lambda images, tenant="": seen.append(tenant) or encode(images, tenant)  # type: ignore[method-assign,func-returns-value]
    one_at_a_time = FillSettings(share=0.99)
    assert parts.fill(encoder, settings=lambda: one_at_a_time, slice_size=4) == 23
    assert second.tenant in seen[:4], "it does not wait for the end of the larger one"
    for each in (first, second):
        each.check_vectors()
        assert counts(parts, each.tenant).left == 0


def test_what_cannot_be_encoded_is_given_up_with_its_reason_and_ends_the_filling(parts: Migrating) -> None:
    odd, gone, damaged, good = parts.teach(odd_picture(), *(picture("disc") for _ in range(3)))
    parts.pictures.delete([parts.held(gone)[0].picture])
    parts.pictures.write(parts.held(damaged)[0].picture, b"no picture any more")
    parts.add()
    assert parts.fill(Tones(before=no_odd_ones)) == 1
    assert counts(parts) == FillCounts(filled=1, failed=3)
    found, cursor = parts.added.missing_vectors.page_with_reasons(parts.tenant, 10, None)
    assert cursor is None
    assert {image.image_id for image, _ in found} == {odd, gone, damaged}
    assert parts.vectors_of(SECOND).keys() == {good}
    assert parts.vectors_of(FIRST).keys() == {odd, gone, damaged, good}, "they vote on by the first"
    assert parts.fill() == 0


def test_images_that_came_as_vectors_are_counted_and_stay_with_their_encoder(parts: Migrating) -> None:
    teach(parts, 2)
    accept = AcceptVectors(parts.accept().put, parts.memory, FIRST.name)
    fields = [ImageFields(labels=["cat"], image_id=f"v{n}") for n in range(3)]
    accept(parts.tenant, Sent(FIRST.name, units(3, dimension=FIRST.dimension), fields))
    parts.add()
    assert parts.fill() == 2
    assert counts(parts) == FillCounts(filled=2, vectors_only=3)
    found, _ = parts.added.missing_vectors.page_with_reasons(parts.tenant, 10, None)
    assert {image.image_id for image, _ in found} == {"v0", "v1", "v2"}


def test_it_stops_where_it_is_paused_and_goes_on_from_there(parts: Migrating) -> None:
    teach(parts, 60)
    parts.add()
    encoder = Tones()
    done = parts.fill(encoder, settings=lambda: FillSettings(paused=encoder.encoded > 20), slice_size=8)
    assert done == encoder.encoded, "what was encoded is not thrown away"
    assert 0 < done < 60
    assert counts(parts) == FillCounts(filled=done, left=60 - done)
    assert parts.fill() == 60 - done, "nothing twice"
    parts.check_vectors()


def test_it_stops_where_it_is_dropped_or_the_process_ends(parts: Migrating) -> None:
    teach(parts, 3)
    parts.add()
    ended = threading.Event()
    ended.set()
    assert parts.fill(settings=lambda: None) == 0
    assert parts.fill(ended=ended) == 0
    assert counts(parts).left == 3


def test_it_leaves_the_rest_of_its_share_to_others(parts: Migrating) -> None:
    teach(parts, 24)
    parts.add()

    def slow(_images: Sequence[PIL.Image.Image]) -> None:
        time.sleep(0.1)

    begun = time.monotonic()
    parts.fill(Tones(before=slow), settings=lambda: FillSettings(share=0.2), slice_size=8)
    assert time.monotonic() - begun > 3 * 0.1 / 0.2
    parts.check_vectors()


def test_a_removal_while_it_fills_leaves_no_vector_of_either_encoder(parts: Migrating) -> None:
    kept, goes = teach(parts, 6), teach(parts, 6, subject="goes")
    parts.add()
    forget = parts.forget()

    def remove(_images: object) -> None:
        if next(slices) == 0:
            request = RemovalRequest(filter=Filter({"subject": "goes"}), reason="asked to")
            receipts.append(parts.remove(request, forget))

    receipts: list[Any] = []
    slices = count()
    parts.fill(Tones(before=remove))
    assert receipts[0].images == 6
    parts.fill()
    assert parts.vectors_of(SECOND).keys() == parts.vectors_of(FIRST).keys() == set(kept)
    assert parts.memory.images.get(parts.tenant, goes) == {}
    parts.check_vectors()
    assert counts(parts) == FillCounts(filled=6)


def test_a_picture_that_is_exchanged_while_it_is_encoded_gets_no_vector_of_the_old_one(parts: Migrating) -> None:
    [image_id] = parts.teach(picture("disc"), image_id="same")
    parts.add()
    exchange = Once("now", lambda: parts.teach(picture("bars"), image_id="same"))
    parts.fill(Tones(before=lambda _images: exchange("now")))
    parts.check_vectors()
    parts.fill()
    assert parts.vectors_of(SECOND).keys() == {image_id}
    parts.check_vectors()


@pytest.mark.parametrize("step", ["page", "store"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_process_that_dies_in_the_middle_leaves_the_rest_to_the_next(parts: Migrating, step: str, side: str) -> None:
    ids = teach(parts, 20)
    parts.add()

    def die() -> None:
        raise Killed

    with pytest.raises(Killed):
        parts.fill(filling=Hooked(parts.added.missing_vectors, **{side: Once(step, die)}))
    parts.check_vectors()
    parts.fill()
    assert parts.vectors_of(SECOND).keys() == set(ids)
    parts.check_vectors()


def test_a_store_that_is_away_costs_no_image(parts: Migrating) -> None:
    teach(parts, 9)
    parts.add()

    def away() -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        parts.fill(filling=Hooked(parts.added.missing_vectors, before=Once("store", away)))
    parts.fill()
    assert counts(parts) == FillCounts(filled=9)


def test_several_fill_the_same_memory_and_write_the_same(parts: Migrating) -> None:
    ids = teach(parts, 40)
    parts.add()
    with ThreadPoolExecutor(3) as fillers:
        done = list(fillers.map(lambda _: parts.fill(), range(3)))
    assert sum(done) >= 40
    assert parts.vectors_of(SECOND).keys() == set(ids)
    parts.check_vectors()


def test_each_slice_is_one_write(parts: Migrating) -> None:
    teach(parts, 16)
    parts.add()
    calls: list[str] = []
    parts.fill(filling=Hooked(parts.added.missing_vectors, before=calls.append))
    assert calls.count("store") <= 3
    assert calls.count("give_up") == 0


def test_an_encoder_that_fails_on_any_picture_lets_none_be_given_up(parts: Migrating) -> None:
    teach(parts, 5)
    parts.add()

    def out_of_memory(_images: object) -> None:
        raise MemoryError

    with pytest.raises(Unavailable, match="fails on any picture"):
        parts.fill(Tones(before=out_of_memory))
    assert counts(parts) == FillCounts(left=5)
    parts.fill()
    assert counts(parts) == FillCounts(filled=5)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[each], other[each]) for each in one)


def test_the_vectors_of_the_first_encoder_stay_as_they_are(parts: Migrating) -> None:
    teach(parts, 8)
    before = parts.vectors_of(FIRST)
    parts.add()
    parts.fill()
    assert _same(before, parts.vectors_of(FIRST))
