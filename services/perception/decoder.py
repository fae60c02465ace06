"""Many pictures at once: decoded side by side in the sandbox, and a bad one is named by its place."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from itertools import takewhile
from typing import TypeVar

import PIL.Image

from schemas.errors import DecoderFailed, InvalidPicture, TooLarge, UnsupportedFormat, VisualMemoryError
from services.perception.decoding import check_bytes
from services.perception.room import Full, Hold, Room
from services.perception.sandbox import Sandbox

BYTES_PER_PIXEL = 3
LARGEST_AT_ONCE = 8
"""How many pictures of the largest size are held decoded, beside those that are being decoded; usual ones, hundreds."""
_ERRORS = {kind.code: kind for kind in (InvalidPicture, UnsupportedFormat, TooLarge)}

Result = TypeVar("Result")


class Decoder:
    """Decodes within limits, in the sandbox.

    Args:
        sandbox: its processes decode.
        pool: its threads wait for them, so that several pictures are decoded at the same time.
    """

    def __init__(self, sandbox: Sandbox, pool: Executor) -> None:
        self.sandbox = sandbox
        self.pool = pool
        self._largest = BYTES_PER_PIXEL * sandbox.limits.max_pixels
        self.room = Room((LARGEST_AT_ONCE + sandbox.processes) * self._largest)

    def one(self, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `services.perception.decoding.decode`.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: as there.
            DecoderFailed: it took too much time or memory, or ended the process.
        """
        head, pixels = self._ask({"do": "decode"}, picture)
        match head.get("size"):
            case [int(width), int(height)] if width > 0 and width * height * BYTES_PER_PIXEL == len(pixels) > 0:
                return PIL.Image.frombytes("RGB", (width, height), pixels)
        raise DecoderFailed("decoding this picture made something that is no picture")

    def held(self, picture: bytes, hold: Hold) -> PIL.Image.Image:
        """Decode a picture and hold it; as `one`.

        Raises:
            Full: there is no room for it.
        """
        hold.take(self._largest)
        taken = 0
        try:
            image = self.one(picture)
            taken = BYTES_PER_PIXEL * image.width * image.height
            return image
        finally:
            hold.give(self._largest - taken)

    def some(self, pictures: Sequence[bytes], start: int, most: int, hold: Hold) -> list[PIL.Image.Image]:
        """Decode pictures from `start` on: at least one, at most `most`, and no more than there is room for.

        An error names the first bad one by its place, counted from 1.
        """
        full = False

        def one(picture: bytes) -> PIL.Image.Image | None:
            nonlocal full
            try:
                return None if full else self.held(picture, hold)
            except Full:
                full = True
                return None

        first = self._each(one, pictures, start, start + 1)  # alone, for the others do not wait for room
        rest = self._each(one, pictures, start + 1, start + most)
        return [image for image in takewhile(lambda image: image is not None, [*first, *rest]) if image is not None]

    def check(self, pictures: Sequence[bytes]) -> None:
        """Decode pictures and keep none of them; raises as `some`."""
        self._each(lambda picture: self._ask({"do": "check"}, picture), pictures, 0, len(pictures))

    def thumbnail(self, picture: bytes, size: int) -> bytes:
        """The bytes of a small JPEG; as `services.perception.decoding.thumbnail`, raises as `one`."""
        _, small = self._ask({"do": "thumbnail", "size": size}, picture)
        return bytes(small)

    def _ask(self, asked: dict[str, object], picture: bytes) -> tuple[dict[str, object], bytearray]:
        limits = self.sandbox.limits
        check_bytes(picture, limits)
        head, body = self.sandbox.run(asked, picture, limits.max_pixels * BYTES_PER_PIXEL)
        if "error" in head:
            raise _ERRORS.get(str(head["error"]), DecoderFailed)(str(head.get("message")))
        return head, body

    def _each(self, work: Callable[[bytes], Result], pictures: Sequence[bytes], start: int, end: int) -> list[Result]:
        def named(place: int) -> Result:
            try:
                return work(pictures[place])
            except VisualMemoryError as error:
                where = f"picture {place + 1} of {len(pictures)}: " if len(pictures) > 1 else ""
                raise type(error)(f"{where}{error.message}") from error

        places = range(len(pictures))[start:end]
        side_by_side = self.pool.map if len(places) > 1 else map  # one alone is not worth a thread's turn
        return list(side_by_side(named, places))
