"""Promise 7: however many large pictures come at once, only so many are held decoded, and nobody waits for ever."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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
        made.room = Room(ROOM * LARGEST)
        yield made
    sandbox.close()


def free(decoder: Decoder) -> int:
    return decoder.room._free


def test_a_slice_ends_where_the_room_does(decoder: Decoder) -> None:
    with decoder.room.hold() as hold:
        assert len(decoder.some([LARGE] * 10, 2, 8, hold)) == ROOM
        assert free(decoder) == 0
        with pytest.raises(Full):
            decoder.held(LARGE, hold)
    assert free(decoder) == ROOM * LARGEST


def test_small_pictures_take_what_they_are(decoder: Decoder) -> None:
    with decoder.room.hold() as hold:
        assert len(decoder.some([picture("disc")] * 10, 2, 99, hold)) == 8
        assert free(decoder) == ROOM * LARGEST - 8 * BYTES_PER_PIXEL * 96 * 96


def test_many_at_once_all_get_done_within_the_room(decoder: Decoder) -> None:
    held, most, lock = 0, 0, threading.Lock()

    def work(_: int) -> int:
        nonlocal held, most
        done = 0
        while done < 5:
            with decoder.room.hold() as hold:
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
    assert free(decoder) == ROOM * LARGEST


def test_a_slice_that_fails_gives_everything_back(decoder: Decoder) -> None:
    for place in range(ROOM):
        pictures = [LARGE] * ROOM
        pictures[place] = b"no picture"
        with pytest.raises(InvalidPicture, match=f"picture {place + 1} of 3"), decoder.room.hold() as hold:
            decoder.some(pictures, 0, ROOM, hold)
        until(lambda: free(decoder) == ROOM * LARGEST, "the room to be free")
    with decoder.room.hold() as hold:
        assert len(decoder.some([LARGE] * 4, 0, 4, hold)) == ROOM


def test_what_still_runs_when_a_slice_ends_takes_and_gives_nothing() -> None:
    room = Room(10)
    with room.hold() as hold:
        hold.take(10)
    assert room._free == 10
    hold.give(10)
    with pytest.raises(Full):
        hold.take(1)
    assert room._free == 10
