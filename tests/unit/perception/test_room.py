"""Promise 7: however many large pictures come at once, only so many are held decoded, and nobody waits for ever."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import PIL.Image
import pytest

from schemas.errors import InvalidPicture
from services.perception.decoder import BYTES_PER_PIXEL, Decoder
from services.perception.decoding import Limits
from services.perception.room import Full, Room
from services.perception.sandbox import Sandbox
from tests.shapes import as_file, picture
from tests.stack import until

SIDE = 500
LARGEST = BYTES_PER_PIXEL * SIDE * SIDE
LARGE = as_file(PIL.Image.new("L", (SIDE, SIDE)))
ROOM = 3


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    sandbox = Sandbox(Limits(2**20, SIDE * SIDE), 60, 2)
    with ThreadPoolExecutor(2) as pool:
        made = Decoder(sandbox, pool)
        made.room = Room(ROOM * LARGEST, ROOM * LARGEST)
        yield made
    sandbox.close()


def check_free(decoder: Decoder, number: int) -> None:
    """Check that exactly so many bytes are free."""
    with decoder.room.hold("a") as hold:
        hold.take(number)
        with pytest.raises(Full):
            hold.take(1)


def test_a_slice_ends_where_the_room_does(decoder: Decoder) -> None:
    with decoder.room.hold("a") as hold:
        assert len(decoder.some([LARGE] * 10, 2, 8, hold)) == ROOM
        with pytest.raises(Full):
            decoder.held(LARGE, hold)
    check_free(decoder, ROOM * LARGEST)


def test_small_pictures_take_what_they_are(decoder: Decoder) -> None:
    with decoder.room.hold("a") as hold:
        assert len(decoder.some([picture("disc")] * 10, 2, 99, hold)) == 8
        check_free(decoder, ROOM * LARGEST - 8 * BYTES_PER_PIXEL * 96 * 96)


def test_many_at_once_all_get_done_within_the_room(decoder: Decoder) -> None:
    held, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal held, most
        done = 0
        while done < 5:
            with decoder.room.hold(f"tenant-{number % 5}") as hold:
                decoded = len(decoder.some([LARGE] * 5, done, 4, hold))
                with lock:
                    held += decoded
                    most = max(most, held)
                done += decoded
                with lock:
                    held -= decoded
        return done

    with ThreadPoolExecutor(12) as callers:
        assert list(callers.map(work, range(24))) == [5] * 24
    assert 1 <= most <= ROOM
    check_free(decoder, ROOM * LARGEST)


def test_a_slice_that_fails_gives_everything_back(decoder: Decoder) -> None:
    for place in range(ROOM):
        pictures = [LARGE] * ROOM
        pictures[place] = b"no picture"
        with pytest.raises(InvalidPicture, match=f"picture {place + 1} of 3"), decoder.room.hold("a") as hold:
            decoder.some(pictures, 0, ROOM, hold)
        check_free(decoder, ROOM * LARGEST)


def test_a_tenant_that_holds_all_it_may_leaves_room_for_another() -> None:
    room = Room(11, 10)
    with room.hold("a") as first, room.hold("b") as other:
        first.take(10)
        other.take(1)
        with pytest.raises(Full):
            other.take(1)


def test_what_becomes_free_goes_to_the_tenant_that_holds_the_least() -> None:
    room = Room(10, 10)
    first, second, other = room.hold("a"), room.hold("a"), room.hold("c")
    for hold in (first, second):
        hold.take(4)
    other.take(2)

    def waiting(tenant: str) -> "Future[None]":
        taken: Future[None] = Future()

        def take() -> None:
            room.hold(tenant).take(4)
            taken.set_result(None)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        until(lambda: _waits(thread), "it to wait")
        return taken

    same = waiting("a")
    newcomer = waiting("b")
    first.give(4)
    newcomer.result(60)
    assert not same.done()
    second.give(4)
    same.result(60)


def _waits(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code is threading.Condition.wait.__code__
