import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.decoding.preprocessing_crop import NO_CROP
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.micro_batcher import MicroBatcher


def picture(number: int) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (1, 1), (number % 256, number // 256, 0))


def vector(number: int) -> NDArray[np.float32]:
    return np.array([np.cos(number), np.sin(number)], np.float32)


class Numbers:
    """Gives each picture the vector of its number; number 13 breaks a batch, and the gate holds batches back."""

    name = "numbers"
    dimension = 2
    batch_size = 2
    crop = NO_CROP

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        numbers = [int(np.asarray(image)[0, 0] @ [1, 256, 0]) for image in images]
        self.batches.append(numbers)
        assert self.gate.wait(60)
        if 13 in numbers:
            raise ValueError("13 is unlucky")
        return np.stack([vector(number) for number in numbers])


@contextmanager
def running(
    encoder: Numbers,
    batch_size: int,
    observe: Callable[[int, float], None] = lambda _size, _seconds: None,
    side_by_side: int = 1,
) -> Iterator[MicroBatcher]:
    encoder.batch_size = batch_size
    batcher = MicroBatcher(lambda: encoder, observe, side_by_side)
    try:
        yield batcher
    finally:
        batcher.close()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def waiting(batcher: MicroBatcher) -> int:
    return sum(map(len, batcher._waiting.values()))


def test_it_is_the_encoder_to_its_callers() -> None:
    with running(Numbers(), 4) as batcher:
        assert (batcher.name, batcher.dimension, batcher.batch_size) == ("numbers", 2, 4)
        assert batcher.encode([]).shape == (0, 2)
        assert np.array_equal(batcher.encode([picture(7)]), [vector(7)])


def test_large_calls_are_split_and_keep_their_order() -> None:
    seen: list[tuple[int, float]] = []
    encoder = Numbers()
    with running(encoder, 16, lambda size, seconds: seen.append((size, seconds))) as batcher:
        found = batcher.encode([picture(n) for n in range(100, 200)])
    assert np.array_equal(found, [vector(n) for n in range(100, 200)])
    assert [size for size, _ in seen] == [16] * 6 + [4]
    assert all(0 <= seconds < 10 for _, seconds in seen)


def test_small_calls_are_joined() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 8) as batcher, ThreadPoolExecutor(9) as callers:
        first = callers.submit(batcher.encode, [picture(100)])
        wait_until(lambda: encoder.batches == [[100]])
        rest = [callers.submit(batcher.encode, [picture(n)]) for n in range(1, 9)]
        wait_until(lambda: waiting(batcher) == 8)
        encoder.gate.set()
        assert np.array_equal(first.result(60), [vector(100)])
        for n, answer in enumerate(rest, start=1):
            assert np.array_equal(answer.result(60), [vector(n)])
    assert [len(batch) for batch in encoder.batches] == [1, 8]


def test_one_with_a_thousand_pictures_does_not_starve_one_with_one() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 10) as batcher, ThreadPoolExecutor(2) as callers:
        large = callers.submit(batcher.encode, [picture(n) for n in range(1000, 2000)])
        wait_until(lambda: len(encoder.batches) == 1)
        small = callers.submit(batcher.encode, [picture(1)])
        wait_until(lambda: waiting(batcher) == 2)
        encoder.gate.set()
        assert np.array_equal(small.result(60), [vector(1)])
        assert np.array_equal(large.result(60), [vector(n) for n in range(1000, 2000)])
    # One batch was under way and one of the large call's slices was next; then it was the small one's turn.
    assert [1 in batch for batch in encoder.batches].index(True) <= 2
    assert max(map(len, encoder.batches)) == 10


def test_many_callers_of_one_tenant_do_not_hold_up_another_tenant() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 10) as batcher, ThreadPoolExecutor(32) as callers:
        first = callers.submit(batcher.encode, [picture(1000)], "a")
        wait_until(lambda: len(encoder.batches) == 1)
        many = [callers.submit(batcher.encode, [picture(n) for n in range(100, 150)], "a") for _ in range(24)]
        wait_until(lambda: waiting(batcher) == 24)
        small = callers.submit(batcher.encode, [picture(1), picture(2)], "b")
        wait_until(lambda: waiting(batcher) == 25)
        encoder.gate.set()
        assert np.array_equal(small.result(60), [vector(1), vector(2)])
        for each in [first, *many]:
            each.result(60)
    assert {1, 2} <= set(encoder.batches[1]), "both in the next batch"
    assert len(encoder.batches[1]) == 10, "and the others fill it"


def test_what_waits_is_shared_among_those_who_are_free() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 8, side_by_side=2) as batcher, ThreadPoolExecutor(1) as callers:
        wait_until(lambda: batcher._free == 2)
        answer = callers.submit(batcher.encode, [picture(n) for n in range(100, 107)])
        wait_until(lambda: len(encoder.batches) == 2)
        encoder.gate.set()
        assert np.array_equal(answer.result(60), [vector(n) for n in range(100, 107)])
    assert sorted(encoder.batches) == [[100, 101, 102, 103], [104, 105, 106]]


def test_parts_that_end_in_another_order_come_back_in_theirs() -> None:
    class Slow(Numbers):
        def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
            answer = super().encode(images)
            if len(images) == 2:  # the first part waits until the second is done
                wait_until(lambda: len(batcher._waiting) == 0 and batcher._free == 1)
            return answer

    with running(Slow(), 8, side_by_side=2) as batcher:
        wait_until(lambda: batcher._free == 2)
        assert np.array_equal(batcher.encode([picture(n) for n in range(3)]), [vector(n) for n in range(3)])


def test_a_call_whose_parts_all_fail_fails_once() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 2, side_by_side=2) as batcher, ThreadPoolExecutor(1) as callers:
        answer = callers.submit(batcher.encode, [picture(13)] * 4)
        wait_until(lambda: len(encoder.batches) == 2)
        encoder.gate.set()
        with pytest.raises(ValueError, match="unlucky"):
            answer.result(60)
        assert np.array_equal(batcher.encode([picture(1)] * 3), [vector(1)] * 3)


def test_a_bad_picture_fails_its_own_caller_alone() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    with running(encoder, 8) as batcher, ThreadPoolExecutor(4) as callers:
        callers.submit(batcher.encode, [picture(100)])
        wait_until(lambda: len(encoder.batches) == 1)
        before = callers.submit(batcher.encode, [picture(1), picture(2)])
        wait_until(lambda: waiting(batcher) == 1)
        bad = callers.submit(batcher.encode, [picture(3), picture(13)])
        wait_until(lambda: waiting(batcher) == 2)
        after = callers.submit(batcher.encode, [picture(4)])
        wait_until(lambda: waiting(batcher) == 3)
        encoder.gate.set()
        assert np.array_equal(before.result(60), [vector(1), vector(2)])
        assert np.array_equal(after.result(60), [vector(4)])
        with pytest.raises(ValueError, match="13 is unlucky"):
            bad.result(60)
        assert np.array_equal(batcher.encode([picture(5)]), [vector(5)])
    assert encoder.batches[1:] == [[1, 2, 3, 13, 4], [1, 2], [3, 13], [4], [5]]


def test_a_failed_call_is_not_worked_on_further() -> None:
    encoder = Numbers()
    with running(encoder, 2) as batcher, pytest.raises(ValueError, match="unlucky"):
        batcher.encode([picture(13), *(picture(n) for n in range(100, 200))])
    assert encoder.batches == [[13, 100]]


def test_a_short_answer_of_an_encoder_is_an_error_and_not_a_hang() -> None:
    class Short(Numbers):
        def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
            return super().encode(images)[1:]

    with running(Short(), 4) as batcher, pytest.raises(EncoderUnusable, match="shape"):
        batcher.encode([picture(1), picture(2)])


def test_close_finishes_those_who_wait_and_refuses_others() -> None:
    encoder = Numbers()
    encoder.gate.clear()
    before = set(threading.enumerate())
    batcher = MicroBatcher(lambda: encoder)
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(batcher.encode, [picture(n)] * 3) for n in (1, 2)]
        wait_until(lambda: sum(map(len, encoder.batches)) > 0 and waiting(batcher) == 2)
        closing = callers.submit(batcher.close)
        wait_until(lambda: batcher._closed)
        with pytest.raises(Unavailable, match="shutting down"):
            batcher.encode([picture(3)])
        encoder.gate.set()
        closing.result(60)
        for n, answer in zip((1, 2), answers, strict=True):
            assert np.array_equal(answer.result(60), [vector(n)] * 3)
    batcher.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_many_callers_each_get_their_own(side_by_side: int) -> None:
    def call(start: int) -> bool:
        numbers = range(start, start + start % 23 + 1)
        return np.array_equal(batcher.encode([picture(n) for n in numbers]), [vector(n) for n in numbers])

    with running(Numbers(), 7, side_by_side=side_by_side) as batcher, ThreadPoolExecutor(16) as callers:
        assert all(callers.map(call, range(20, 320)))
