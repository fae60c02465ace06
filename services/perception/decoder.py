"""Many pictures at once: decoded side by side in the sandbox, and a bad one is named by its place."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from itertools import takewhile
from typing import TypeVar

import PIL.Image

from schemas.errors import DecoderFailed, InvalidPicture, TooLarge, UnsupportedFormat, VisualMemoryError
from services.perception.decoding import check_bytes
from services.perception.pixels import MOST, Size, pack, unpack
from services.perception.room import Full, Hold, Room
from services.perception.sandbox import Sandbox
from services.perception.view import ALL, View

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
        view: what of a picture is wanted; as in `services.perception.decoding.decode`.
    """

    def __init__(self, sandbox: Sandbox, pool: Executor, view: View = ALL) -> None:
        self.sandbox = sandbox
        self.pool = pool
        self.view = view
        self._largest = BYTES_PER_PIXEL * max(sandbox.limits.max_pixels, view.crop**2)
        self.room = Room((LARGEST_AT_ONCE + sandbox.processes) * self._largest)

    def one(self, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `services.perception.decoding.decode`.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: as there.
            DecoderFailed: it took too much time or memory, or ended the process.
        """
        decoded = self._decoded(picture, self._largest)
        if decoded is None:
            raise DecoderFailed("decoding this picture made something that is no picture")
        return PIL.Image.frombytes("RGB", *decoded)

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

    def unpacked(self, pixels: bytes, hold: Hold) -> PIL.Image.Image | None:
        """What `check` kept of a picture, which is held from now on; None where it is damaged, or of another view.

        Raises:
            Full: there is no room for it.
        """
        picture = unpack(pixels, self.view)
        if picture is not None:
            hold.take(BYTES_PER_PIXEL * picture.width * picture.height)
        return picture

    def some(self, pictures: Sequence[bytes], start: int, most: int, hold: Hold) -> list[PIL.Image.Image]:
        """Decode pictures from `start` on: at least one, at most `most`, and no more than there is room for.

        An error names the first bad one by its place, counted from 1.
        """
        full = False

        def one(place: int) -> PIL.Image.Image | None:
            nonlocal full
            try:
                return None if full else self.held(pictures[place], hold)
            except Full:
                full = True
                return None

        places = range(len(pictures))[start : start + most]
        first = self._each(one, places[:1], len(pictures))  # alone, for the others do not wait for room
        rest = self._each(one, places[1:], len(pictures))
        return [image for image in takewhile(lambda image: image is not None, [*first, *rest]) if image is not None]

    def check(
        self,
        pictures: Sequence[bytes],
        keep: Callable[[int, bytes], object] = lambda _place, _pixels: None,
        places: Sequence[int] | None = None,
    ) -> None:
        """Decode pictures and hold none of them; raises as `some`.

        Args:
            pictures: their files.
            keep: told of each, by its place from 0 and in any order, what `unpacked` takes; but not of huge ones.
            places: of those that are decoded; None: of all.
        """

        def check(place: int) -> None:
            decoded = self._decoded(pictures[place], MOST)
            if decoded is not None:
                keep(place, pack(*decoded, self.view))

        self._each(check, range(len(pictures)) if places is None else places, len(pictures))

    def thumbnail(self, picture: bytes, size: int) -> bytes:
        """The bytes of a small JPEG; as `services.perception.decoding.thumbnail`, raises as `one`."""
        _, small = self._ask({"do": "thumbnail", "size": size}, picture, self._largest)
        return bytes(small)

    def _decoded(self, picture: bytes, most: int) -> tuple[Size, bytearray] | None:
        """A picture's size and pixels, if these are at most so many bytes."""
        head, pixels = self._ask({"do": "decode", "view": asdict(self.view), "most": most}, picture, most)
        match head.get("size"):
            case [int(width), int(height)] if width > 0 and width * height * BYTES_PER_PIXEL == len(pixels) > 0:
                return (width, height), pixels
        return None

    def _ask(self, asked: dict[str, object], picture: bytes, most: int) -> tuple[dict[str, object], bytearray]:
        check_bytes(picture, self.sandbox.limits)
        head, body = self.sandbox.run(asked, picture, most)
        if "error" in head:
            raise _ERRORS.get(str(head["error"]), DecoderFailed)(str(head.get("message")))
        return head, body

    def _each(self, work: Callable[[int], Result], places: Sequence[int], number: int) -> list[Result]:
        """What comes of the pictures at some places of so many."""

        def named(place: int) -> Result:
            try:
                return work(place)
            except VisualMemoryError as error:
                where = f"picture {place + 1} of {number}: " if number > 1 else ""
                raise type(error)(f"{where}{error.message}") from error

        side_by_side = self.pool.map if len(places) > 1 else map  # one alone is not worth a thread's turn
        return list(side_by_side(named, places))
