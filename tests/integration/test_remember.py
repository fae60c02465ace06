"""Promise 1: what was accepted becomes remembered or rejected with a reason, however workers fail."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import cast

import PIL.Image
import pytest

from schemas.decision import ClassifyOptions
from schemas.errors import Unavailable
from schemas.image import State
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.infrastructure.task_queue.task_names import REMEMBER_QUEUE, URGENT_QUEUE
from services.intake.remember import Sweep
from services.memory.memory import Memory
from services.perception.decoder import Decoder
from services.perception.room import Room
from tests.faulty import spoilt
from tests.shapes import as_file, picture
from tests.stack import until

from .support import AT_ONCE, LIMITS, NEVER, Hooked, Killed, Once, Parts, Pixels, faulty_sandbox

ODD = (7, 7)


def odd_picture() -> bytes:
    return as_file(PIL.Image.new("RGB", ODD, "red"))


def no_odd_ones(images: Sequence[PIL.Image.Image]) -> None:
    if any(image.size == ODD for image in images):
        raise ValueError("cannot look at this")


def test_one_picture_that_the_encoder_fails_on_takes_no_other_with_it(parts: Parts) -> None:
    odd, *good = (each.image_id for each in parts.send(odd_picture(), *(picture("disc") for _ in range(3))))
    parts.remember(Pixels(before=no_odd_ones))(parts.tenant, [odd, *good])
    assert {image.state for image in parts.held(*good)} == {State.REMEMBERED}
    [image] = parts.held(odd)
    assert (image.state, image.encoder) == (State.REJECTED, None)
    assert image.reason == "the encoder cannot embed it: cannot look at this"
    assert parts.voters(picture("disc")) == set(good)


def test_a_rejected_image_sent_again_is_tried_again(parts: Parts) -> None:
    data = odd_picture()
    [accepted] = parts.send(data)
    parts.remember(Pixels(before=no_odd_ones))(parts.tenant, [accepted.image_id])
    assert parts.held(accepted.image_id)[0].state is State.REJECTED
    [again] = parts.send(data)
    assert again.state is State.WAITING
    parts.remember()(parts.tenant, [accepted.image_id])
    [image] = parts.held(accepted.image_id)
    assert (image.state, image.reason) == (State.REMEMBERED, None)
    assert len(parts.files()) == 1


def test_a_picture_that_is_gone_or_damaged_is_rejected_with_its_reason(parts: Parts) -> None:
    gone, damaged, whole = (each.image_id for each in parts.send(*(picture("disc") for _ in range(3))))
    parts.pictures.delete([parts.held(gone)[0].picture])
    parts.pictures.drop_pixels([parts.held(damaged)[0].picture])
    parts.pictures.write(parts.held(damaged)[0].picture, b"no picture any more")
    parts.remember()(parts.tenant, [gone, damaged, whole])
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
            deadly(parts.tenant, [image_id])
        [image] = parts.held(image_id)
        assert (image.state, image.attempts) == (State.WAITING, attempts)
    deadly(parts.tenant, [image_id])
    [image] = parts.held(image_id)
    assert (image.state, image.reason) == (State.REJECTED, "gave up after 3 attempts that did not end")


def kill_for_odd_ones(images: Sequence[PIL.Image.Image]) -> None:
    if any(image.size == ODD for image in images):
        raise Killed


def test_a_picture_that_kills_the_worker_takes_no_other_with_it(parts: Parts) -> None:
    good = [each.image_id for each in parts.send(*(picture("disc") for _ in range(5)))]
    [killer] = (each.image_id for each in parts.send(odd_picture()))
    ids = [*good[:2], killer, *good[2:]]
    worker = parts.remember(Pixels(before=kill_for_odd_ones), lease=AT_ONCE, max_attempts=3)
    for deaths in (1, 2, 3):
        with pytest.raises(Killed):
            worker(parts.tenant, ids)
        assert parts.held(killer)[0].attempts == deaths
    assert {image.state for image in parts.held(*good)} == {State.REMEMBERED}
    worker(parts.tenant, ids)
    [image] = parts.held(killer)
    assert (image.state, image.reason) == (State.REJECTED, "gave up after 3 attempts that did not end")


def test_what_did_not_end_before_is_worked_on_alone(parts: Parts) -> None:
    [suspect] = (each.image_id for each in parts.send(odd_picture()))
    with pytest.raises(Killed):
        parts.remember(Pixels(before=die))(parts.tenant, [suspect])
    first, later = ([each.image_id for each in parts.send(picture("disc"), picture("bars"))] for _ in range(2))
    order: list[str] = []
    entered, waited = Event(), Event()

    def encode(images: Sequence[PIL.Image.Image]) -> None:
        order.append("suspect" if images[0].size == ODD else "others")
        entered.set()
        assert waited.wait(30)
        order.append("end")

    worker = parts.remember(Pixels(before=encode), lease=AT_ONCE)
    with ThreadPoolExecutor(3) as threads:
        tasks = [threads.submit(worker, parts.tenant, first)]
        assert entered.wait(30)
        tasks.append(threads.submit(worker, parts.tenant, [suspect]))
        until(worker.turns._door.locked, "the suspect to wait for its turn")
        tasks.append(threads.submit(worker, parts.tenant, later))
        waited.set()
        for task in tasks:
            task.result(30)
    assert order == ["others", "end", "suspect", "end", "others", "end"]
    assert {image.state for image in parts.held(suspect, *first, *later)} == {State.REMEMBERED}


def test_the_image_of_a_dead_worker_is_left_alone_for_the_lease(parts: Parts) -> None:
    [image_id] = (each.image_id for each in parts.send(picture("disc")))
    with pytest.raises(Killed):
        parts.remember(Pixels(before=die))(parts.tenant, [image_id])
    parts.remember(lease=NEVER)(parts.tenant, [image_id])
    assert parts.held(image_id)[0].state is State.WAITING
    parts.remember(lease=AT_ONCE)(parts.tenant, [image_id])
    [image] = parts.held(image_id)
    assert (image.state, image.attempts) == (State.REMEMBERED, 0)


def fail() -> None:
    raise Unavailable("it does not answer")


@pytest.mark.parametrize("part", ["memory", "pictures", "encoder"])
def test_a_part_that_does_not_answer_is_no_attempt(parts: Parts, part: str) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(2)))]
    broken = {
        "memory": parts.remember(memory=Hooked(parts.memory, Once("remember", fail))),
        "pictures": parts.remember(pictures=Hooked(parts.pictures, Once("pixels", fail))),
        "encoder": parts.remember(Pixels(before=lambda _images: fail())),
    }[part]
    with pytest.raises(Unavailable):
        broken(parts.tenant, ids)
    assert {(image.state, image.attempts, image.begun_at) for image in parts.held(*ids)} == {(State.WAITING, 0, None)}
    parts.remember(lease=NEVER)(parts.tenant, ids)
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


def test_a_message_of_any_size_is_embedded_in_batches(parts: Parts) -> None:
    ids = [each.image_id for each in parts.send(*(picture("disc") for _ in range(10)))]
    sizes: list[int] = []
    parts.remember(Pixels(before=lambda images: sizes.append(len(images))))(parts.tenant, ids)
    assert sizes == [4, 4, 2]
    assert {image.state for image in parts.held(*ids)} == {State.REMEMBERED}


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
    parts.remember()(parts.tenant, [first, guilty, last])
    assert {image.state for image in parts.held(first, last)} == {State.REMEMBERED}
    [image] = parts.held(guilty)
    assert (image.state, image.attempts) == (State.WAITING, 1)
    parts.remember(lease=NEVER)(parts.tenant, [guilty])
    assert parts.held(guilty) == [image], "until its lease ends it is not tried again"
    parts.remember(lease=AT_ONCE)(parts.tenant, [guilty])
    assert parts.held(guilty)[0].state is State.WAITING
    parts.remember(lease=AT_ONCE)(parts.tenant, [guilty])
    [image] = parts.held(guilty)
    assert (image.state, image.attempts, image.reason) == (State.REJECTED, 3, reason)


def test_pictures_that_take_long_do_not_let_the_lease_of_their_mates_end(parts: Parts) -> None:
    """Else other workers would begin the mates again and again, until they are given up before their turn comes."""
    words = ["hang"] * 5 + ["", "abort", ""]
    ids = [each.image_id for each in parts.send(*(spoilt(picture("disc"), word) for word in words))]
    with_faults(parts)
    lease = timedelta(seconds=3)  # one picture takes a second at most, the five take five
    other = replace(parts.remember(lease=lease, max_attempts=1), slice_size=len(ids))
    watched = Hooked(parts.memory, after=lambda name: other(parts.tenant, ids) if name == "reject" else None)
    replace(other, memory=cast(Memory, watched))(parts.tenant, ids)
    states = [image.state for image in parts.held(*ids)]
    assert states == [State.REJECTED if word else State.REMEMBERED for word in words]


def test_a_part_that_does_not_answer_takes_nothing_back_from_a_picture_that_failed_its_decoder(parts: Parts) -> None:
    sent = [picture("disc"), spoilt(picture("disc"), "abort"), picture("disc")]
    first, guilty, last = (each.image_id for each in parts.send(*sent))
    with_faults(parts)
    with pytest.raises(Unavailable):
        parts.remember(Pixels(before=lambda _images: fail()))(parts.tenant, [first, guilty, last])
    assert [image.attempts for image in parts.held(first, guilty, last)] == [0, 1, 0]


class Queue:
    """What the sweeper sees of the broker; everything that it enqueues is kept."""

    def __init__(self, messages: dict[str, int] | None = None, *, up: bool = True) -> None:
        self.messages = messages or {}
        self.up = up
        self.enqueued: dict[str, list[str]] = {}

    def waiting_messages(self, queue: str) -> int:
        return self.messages.get(queue, 0)

    def enqueue(self, tenant: str, image_ids: list[str], queue: str) -> bool:
        assert queue == URGENT_QUEUE
        self.enqueued[tenant] = image_ids
        return self.up


def sweep(parts: Parts, queue: Queue, overdue: timedelta = AT_ONCE) -> int:
    return Sweep(parts.memory, cast(TaskQueue, queue), overdue)()


def test_the_sweep_enqueues_what_waits_too_long_and_for_nothing_else(parts: Parts) -> None:
    parts.teach(picture("disc"))
    waiting = [each.image_id for each in parts.send(*(picture("disc") for _ in range(2)))]
    queue, early = Queue(), Queue()
    assert sweep(parts, queue) >= 2
    assert sorted(queue.enqueued[parts.tenant]) == sorted(waiting)
    sweep(parts, early, NEVER)
    assert parts.tenant not in early.enqueued


def test_the_sweep_adds_nothing_to_what_it_enqueued_before(parts: Parts) -> None:
    [waiting] = (each.image_id for each in parts.send(picture("disc")))
    queue = Queue({URGENT_QUEUE: 1})
    assert sweep(parts, queue) == 0
    assert queue.enqueued == {}
    assert sweep(parts, Queue(up=False)) == 0
    loaded = Queue({REMEMBER_QUEUE: 1000})
    assert sweep(parts, loaded) >= 1
    assert loaded.enqueued[parts.tenant] == [waiting], "a backlog keeps nobody waiting whose message was lost"


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
    assert other.memory.count(other.tenant) == 0
    vector = Pixels().encode([parts.decoder.one(parts.tenant, data)])
    assert other.classify().decide(other.tenant, vector, ClassifyOptions()).decisions[0].voters == 0


def test_large_pictures_are_remembered_a_few_at_a_time_where_there_is_no_room_for_all(parts: Parts) -> None:
    large = [as_file(PIL.Image.new("RGB", (1000, 1000), (shade, 0, 0))) for shade in range(5)]
    ids = [each.image_id for each in parts.send(*large)]
    parts.decoder.room = Room(2 * 3 * LIMITS.max_pixels, 2 * 3 * LIMITS.max_pixels)
    batches: list[int] = []
    parts.remember(Pixels(before=lambda images: batches.append(len(images))))(parts.tenant, ids)
    assert {(image.state, image.attempts) for image in parts.held(*ids)} == {(State.REMEMBERED, 0)}
    assert batches == [2, 2, 1]
