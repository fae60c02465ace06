"""Promise 1: what was accepted becomes remembered or rejected with a reason, however workers fail."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any, NoReturn, cast

import PIL.Image
import pytest

from tests.support.failing_decoder import spoilt
from tests.support.running_service import until
from tests.support.shape_pictures import as_file, picture
from tests.support.wired_service import (
    AT_ONCE,
    NEVER,
    Hooked,
    Killed,
    Once,
    Parts,
    Pixels,
    faulty_sandbox,
    sound_sandbox,
)
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.image import State
from visual_memory.schemas.labels import LabelCheck
from visual_memory.services.curation.check_labels_of_new_images import CheckLabels
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.intake.remember_pictures import RememberPictures
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Engine

ODD = (7, 7)


def odd_picture() -> bytes:
    return as_file(PIL.Image.new("RGB", ODD, "red"))


def no_odd_ones(images: Sequence[PIL.Image.Image]) -> None:
    if any(image.size == ODD for image in images):
        raise ValueError("cannot look at this")


def test_one_picture_that_the_encoder_fails_on_takes_no_other_with_it(parts: Parts) -> None:
    odd, *good = (each.image_id for each in parts.send(odd_picture(), *(picture("disc") for _ in range(3))))
    parts.work(Pixels(before=no_odd_ones))
    assert {image.state for image in parts.held(*good)} == {State.REMEMBERED}
    [image] = parts.held(odd)
    assert (image.state, image.encoder) == (State.REJECTED, None)
    assert image.reason == "the encoder cannot embed it: cannot look at this"
    assert parts.voters(picture("disc")) == set(good)


def test_a_rejected_image_sent_again_is_tried_again(parts: Parts) -> None:
    data = odd_picture()
    [accepted] = parts.send(data)
    parts.work(Pixels(before=no_odd_ones))
    assert parts.held(accepted.image_id)[0].state is State.REJECTED
    [again] = parts.send(data)
    assert again.state is State.WAITING
    parts.work()
    [image] = parts.held(accepted.image_id)
    assert (image.state, image.reason) == (State.REMEMBERED, None)
    assert len(parts.files()) == 1


def test_a_picture_that_is_gone_or_damaged_is_rejected_with_its_reason(parts: Parts) -> None:
    gone, damaged, whole = (each.image_id for each in parts.send(*(picture("disc") for _ in range(3))))
    parts.pictures.delete([parts.held(gone)[0].picture])
    parts.pictures.drop_pixels([parts.held(damaged)[0].picture])
    parts.pictures.write(parts.held(damaged)[0].picture, b"no picture any more")
    parts.work()
    first, second, third = parts.held(gone, damaged, whole)
    assert (first.state, first.reason) == (State.REJECTED, "its picture is gone from the blob store")
    assert second.state is State.REJECTED
    assert "not a picture" in (second.reason or "")
    assert third.state is State.REMEMBERED


def die(_images: Sequence[PIL.Image.Image]) -> None:
    raise Killed


def test_attempts_that_do_not_end_are_counted_and_given_up(parts: Parts) -> None:
    [image_id] = (each.image_id for each in parts.send(picture("disc")))
    deadly = parts.remember(Pixels(before=die), lease=AT_ONCE, max_attempts=3)
    for attempts in (1, 2, 3):
        with pytest.raises(Killed):
            deadly(parts.tenant)
        [image] = parts.held(image_id)
        assert (image.state, image.attempts) == (State.WAITING, attempts)
    deadly(parts.tenant)
    [image] = parts.held(image_id)
    assert (image.state, image.reason) == (State.REJECTED, "gave up after 3 attempts that did not end")


def kill_for_odd_ones(images: Sequence[PIL.Image.Image]) -> None:
    if any(image.size == ODD for image in images):
        raise Killed


def test_a_picture_that_kills_the_worker_takes_no_other_with_it(parts: Parts) -> None:
    sent = [picture("disc"), picture("disc"), odd_picture(), *(picture("disc") for _ in range(3))]
    first, second, killer, *later = (each.image_id for each in parts.send(*sent))
    deadly = Pixels(before=kill_for_odd_ones)
    for deaths in (1, 2, 3):
        with pytest.raises(Killed):
            parts.work(deadly, lease=AT_ONCE, max_attempts=3)
        assert parts.held(killer)[0].attempts == deaths
    assert {image.state for image in parts.held(first, second, *later)} == {State.REMEMBERED}
    parts.work(deadly, lease=AT_ONCE, max_attempts=3)
    [image] = parts.held(killer)
    assert (image.state, image.reason) == (State.REJECTED, "gave up after 3 attempts that did not end")


def test_the_image_of_a_dead_worker_is_left_alone_for_the_lease(parts: Parts) -> None:
    [image_id] = (each.image_id for each in parts.send(picture("disc")))
    with pytest.raises(Killed):
        parts.work(Pixels(before=die))
    parts.work(lease=NEVER)
    assert parts.held(image_id)[0].state is State.WAITING
    parts.work(lease=AT_ONCE)
    [image] = parts.held(image_id)
    assert (image.state, image.attempts) == (State.REMEMBERED, 0)


def test_what_may_have_ended_a_worker_is_begun_beside_no_other_such(parts: Parts) -> None:
    [image_id] = (each.image_id for each in parts.send(picture("disc")))
    with pytest.raises(Killed):
        parts.work(Pixels(before=die))
    worker = parts.remember(lease=AT_ONCE)
    parts.enqueued.clear()
    with worker.alone:  # as while another thread is at one
        worker(parts.tenant)
    [image] = parts.held(image_id)
    assert (image.state, image.attempts) == (State.WAITING, 1), "it is not begun, so that no death counts against it"
    assert parts.enqueued == [parts.tenant]
    worker(parts.tenant)
    assert parts.held(image_id)[0].state is State.REMEMBERED


def fail() -> NoReturn:
    raise Unavailable("it does not answer")


@pytest.mark.parametrize("part", ["memory", "encoder"])
def test_a_part_that_does_not_answer_is_no_attempt(parts: Parts, part: str) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(2)))]
    broken = {
        "memory": parts.remember(memory=Hooked(parts.memory, Once("store", fail))),
        "encoder": parts.remember(Pixels(before=lambda _images: fail())),
    }[part]
    with pytest.raises(Unavailable):
        broken(parts.tenant)
    assert {(image.state, image.attempts, image.begun_at) for image in parts.held(*ids)} == {(State.WAITING, 0, None)}
    parts.work(lease=NEVER)
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


def test_a_picture_that_cannot_be_read_holds_up_no_other_and_is_no_attempt(parts: Parts) -> None:
    first, *unreadable, last = (each.image_id for each in parts.send(*(picture("disc") for _ in range(6))))
    broken = {image.picture for image in parts.held(*unreadable)}

    class Broken:
        def pixels(self, key: str) -> bytes | None:
            return fail() if key in broken else parts.pictures.pixels(key)

        def __getattr__(self, name: str) -> Any:
            return getattr(parts.pictures, name)

    worker = parts.remember(pictures=Broken(), lease=NEVER)
    worker(parts.tenant)
    assert parts.enqueued[-1:] == [parts.tenant], "more than a slice of them wait"
    worker(parts.tenant)
    assert {image.state for image in parts.held(first, last)} == {State.REMEMBERED}
    assert {(image.state, image.attempts) for image in parts.held(*unreadable)} == {(State.WAITING, 0)}
    assert parts.memory.leases.oldest_waiting(parts.tenant, 10, NEVER) == [], "they are left alone for the lease"
    parts.work(lease=AT_ONCE)
    assert {image.state for image in parts.held(*unreadable)} == {State.REMEMBERED}


def test_where_no_picture_can_be_read_all_wait_without_a_lease(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(2)))]

    class Silent:
        def pixels(self, _key: str) -> bytes | None:
            return fail()

        def ping(self) -> None:
            fail()

    with pytest.raises(Unavailable):
        parts.remember(pictures=Silent(), lease=NEVER)(parts.tenant)
    assert {(image.state, image.attempts, image.begun_at) for image in parts.held(*ids)} == {(State.WAITING, 0, None)}


def test_a_message_is_put_back_while_more_wait_once_a_slice_is_begun_and_before_it_is_decoded(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(6)))]
    seen: list[list[bool]] = []

    class Decoding(Decoder):
        def unpack(self, pixels: bytes) -> PIL.Image.Image | None:
            if parts.enqueued:
                seen.append([image.begun_at is not None for image in parts.held(*ids)])
            return super().unpack(pixels)

    parts.enqueued.clear()
    parts.decoder = Decoding(sound_sandbox(), parts.pool)
    worker = parts.remember()
    worker(parts.tenant)
    assert parts.enqueued == [parts.tenant]
    assert seen[0] == [True] * 4 + [False] * 2
    worker(parts.tenant)
    assert parts.enqueued == [parts.tenant], "nothing more waits"
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


def test_several_workers_serve_one_tenant_at_once(parts: Parts) -> None:
    """A message that is put back is taken by another worker while the first one is still at it."""
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(12)))]
    together = Barrier(3)
    with ThreadPoolExecutor(3) as threads:
        tasks: list[Future[None]] = []

        def put_back(tenant: str) -> None:
            tasks.append(threads.submit(worker, tenant))

        worker = replace(parts.remember(Pixels(before=lambda _images: together.wait(60))), enqueue=put_back)
        put_back(parts.tenant)
        until(lambda: len(tasks) == 3, "a message for each slice")
        for task in tasks:
            task.result(60)
    assert {(image.state, image.attempts) for image in parts.held(*ids)} == {(State.REMEMBERED, 0)}


def test_a_slice_whose_time_is_up_ends_where_it_is(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(3)))]
    parts.enqueued.clear()
    hurried = replace(parts.remember(), slice_seconds=0)
    hurried(parts.tenant)
    assert [image.state for image in parts.held(*ids)] == [State.REMEMBERED, State.WAITING, State.WAITING]
    assert {(image.attempts, image.begun_at) for image in parts.held(*ids)} == {(0, None)}
    assert parts.enqueued == [parts.tenant]


class Counting:
    """An engine that notes what it was asked for, over the real one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        held = getattr(self._engine, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            return held(*arguments, **named)

        return call


@pytest.mark.parametrize(
    ("gate", "asked"),
    [
        (LabelCheck.OFF, ["scroll_ordered", "write", "write"]),
        (LabelCheck.WARN, ["scroll_ordered", "write", "query_batch", "write"]),
    ],
)
def test_a_slice_takes_three_round_trips_to_the_store_and_one_more_with_the_gate(
    parts: Parts, gate: LabelCheck, asked: list[str]
) -> None:
    """Whatever becomes of its images."""
    gone, *_ = (each.image_id for each in parts.send(*(picture("disc") for _ in range(4))))
    parts.pictures.delete([parts.held(gone)[0].picture])
    engine = Counting(parts.memory.points.engine)
    counted = Memory(cast(Engine, engine), parts.encoder.name, parts.encoder.dimension, {})
    RememberPictures(
        counted,
        parts.pictures,
        parts.encoder,
        parts.decoder,
        parts.enqueued.append,
        4,
        NEVER,
        3,
        CheckLabels(counted, gate),
    )(parts.tenant)
    assert parts.memory.images.count_by_state(parts.tenant) == {State.REMEMBERED: 3, State.REJECTED: 1}
    assert [name for name in engine.asked if name != "facet"] == asked


def with_faults(parts: Parts) -> None:
    """Pictures that are spoilt fail their decoder from now on."""
    parts.decoder = Decoder(faulty_sandbox(), parts.pool)
    for path in parts.pixels():
        path.unlink()  # so that the worker decodes again


@pytest.mark.parametrize(
    ("word", "reason"),
    [("abort", "decoding this picture ended the decoder"), ("hang", "decoding this picture took more than 1 s")],
)
def test_a_picture_that_fails_its_decoder_is_tried_three_times_and_its_mates_are_remembered_at_once(
    parts: Parts, word: str, reason: str
) -> None:
    sent = [picture("disc"), spoilt(picture("disc"), word), picture("disc")]
    first, guilty, last = (each.image_id for each in parts.send(*sent))
    with_faults(parts)
    parts.work()
    assert {image.state for image in parts.held(first, last)} == {State.REMEMBERED}
    [image] = parts.held(guilty)
    assert (image.state, image.attempts) == (State.WAITING, 1)
    parts.work(lease=NEVER)
    assert parts.held(guilty) == [image], "until its lease ends it is not tried again"
    parts.work(lease=AT_ONCE)
    assert parts.held(guilty)[0].state is State.WAITING
    parts.work(lease=AT_ONCE)
    [image] = parts.held(guilty)
    assert (image.state, image.attempts, image.reason) == (State.REJECTED, 3, reason)


def test_after_a_picture_that_fails_its_decoder_nobody_waits_for_its_slice(parts: Parts) -> None:
    """Its like may follow: else their lease would end, and others begin them until they are given up."""
    words = ["hang"] * 3 + ["", "abort", ""]
    ids = [each.image_id for each in parts.send(*(spoilt(picture("disc"), word) for word in words))]
    with_faults(parts)
    parts.enqueued.clear()
    worker = replace(parts.remember(max_attempts=1), slice_size=len(ids))
    for failed in range(1, 4):
        worker(parts.tenant)
        images = parts.held(*ids)
        assert [image.state for image in images] == [State.REJECTED] * failed + [State.WAITING] * (6 - failed)
        assert {image.attempts for image in images[failed:]} == {0}
        assert parts.enqueued == [parts.tenant] * failed
    parts.work(max_attempts=1)
    states = [image.state for image in parts.held(*ids)]
    assert states == [State.REJECTED if word else State.REMEMBERED for word in words]


def test_a_part_that_does_not_answer_takes_nothing_back_from_a_picture_that_failed_its_decoder(parts: Parts) -> None:
    sent = [picture("disc"), spoilt(picture("disc"), "abort"), picture("disc")]
    first, guilty, last = (each.image_id for each in parts.send(*sent))
    with_faults(parts)
    with pytest.raises(Unavailable):
        parts.work(Pixels(before=lambda _images: fail()))
    assert [image.attempts for image in parts.held(first, guilty, last)] == [0, 1, 0]


def test_an_empty_memory_says_so_and_so_does_one_that_still_waits(parts: Parts) -> None:
    empty = parts.ask(picture("disc"))
    assert (empty.label, empty.voters, empty.reason) == (None, 0, "the memory is empty: no image is remembered yet")
    parts.send(picture("disc"))
    assert parts.ask(picture("disc")).reason == empty.reason
    parts.teach(picture("disc"))
    assert parts.ask(picture("disc"), filter={"labels": "dog"}).reason == "no remembered image meets the filter"


def test_concurrent_questions_each_get_their_own_answer(parts: Parts) -> None:
    pictures = [picture(kind) for kind in ("disc", "bars", "checks", "cross")] * 4
    ids = parts.teach(*pictures)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda data: parts.ask(data, k=1), pictures))
    assert [answer.neighbours[0].image_id for answer in answers] == ids


def test_a_tenant_sees_nothing_of_another(parts: Parts) -> None:
    other = Parts(parts.folder, parts.memory, parts.pool)
    data = picture("disc")
    parts.teach(data)
    assert other.ask(data).label is None
    assert other.memory.images.count(other.tenant) == 0
    vector = Pixels().encode([parts.decoder.decode_one(parts.tenant, data)])
    assert other.classify().decide(other.tenant, vector, ClassifyOptions()).decisions[0].voters == 0
