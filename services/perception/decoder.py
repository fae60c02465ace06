"""Many pictures at once: decoded side by side in the sandbox, and a bad one is named by its place."""

from collections import deque
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
        pool: its threads help the caller's, so that several of its pictures are decoded at the same time.
        view: what of a picture is wanted; as in `services.perception.decoding.decode`.
    """

    def __init__(self, sandbox: Sandbox, pool: Executor, view: View = ALL) -> None:
        self.sandbox = sandbox
        self._pool = pool
        self.view = view
        self._largest = BYTES_PER_PIXEL * max(sandbox.limits.max_pixels, view.crop**2)
        most = (LARGEST_AT_ONCE + sandbox.processes) * self._largest
        self.room = Room(most + self._largest, most)  # a tenant that fills its part leaves a picture's to the others

    def for_view(self, view: View) -> "Decoder":
        """One in the same sandbox that makes another view."""
        return Decoder(self.sandbox, self._pool, view)

    def one(self, tenant: str, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `services.perception.decoding.decode`.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: as there.
            DecoderFailed: it took too much time or memory, or ended the process.
        """
        decoded = self._decoded(tenant, picture, self._largest)
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
            image = self.one(hold.tenant, picture)
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
        tenant: str,
        pictures: Sequence[bytes],
        keep: Callable[[int, bytes], object] = lambda _place, _pixels: None,
        places: Sequence[int] | None = None,
    ) -> None:
        """Decode pictures and hold none of them; raises as `some`.

        Args:
            tenant: whose they are.
            pictures: their files.
            keep: told of each, by its place from 0 and in any order, what `unpacked` takes; but not of huge ones.
            places: of those that are decoded; None: of all.
        """

        def check(place: int) -> None:
            decoded = self._decoded(tenant, pictures[place], MOST)
            if decoded is not None:
                keep(place, pack(*decoded, self.view))

        self._each(check, range(len(pictures)) if places is None else places, len(pictures))

    def thumbnail(self, tenant: str, picture: bytes, size: int) -> bytes:
        """The bytes of a small JPEG; as `services.perception.decoding.thumbnail`, raises as `one`."""
        _, small = self._ask(tenant, {"do": "thumbnail", "size": size}, picture, self._largest)
        return bytes(small)

    def thumbnails(self, tenant: str, pictures: Sequence[bytes], size: int) -> list[bytes]:
        """As `thumbnail`, of many; raises as `some`."""
        places = range(len(pictures))
        return self._each(lambda place: self.thumbnail(tenant, pictures[place], size), places, len(pictures))

    def _decoded(self, tenant: str, picture: bytes, most: int) -> tuple[Size, bytearray] | None:
        """A picture's size and pixels, if these are at most so many bytes."""
        head, pixels = self._ask(tenant, {"do": "decode", "view": asdict(self.view), "most": most}, picture, most)
        match head.get("size"):
            case [int(width), int(height)] if width > 0 and width * height * BYTES_PER_PIXEL == len(pixels) > 0:
                return (width, height), pixels
        return None

    def _ask(
        self, tenant: str, asked: dict[str, object], picture: bytes, most: int
    ) -> tuple[dict[str, object], bytearray]:
        check_bytes(picture, self.sandbox.limits)
        head, body = self.sandbox.run(tenant, asked, picture, most)
        if "error" in head:
            raise _ERRORS.get(str(head["error"]), DecoderFailed)(str(head.get("message")))
        return head, body

    def _each(self, work: Callable[[int], Result], places: Sequence[int], number: int) -> list[Result]:
        """What comes of the pictures at some places of so many; the first bad one ends it.

        The caller's thread does it, and those of the pool help while they have nothing else to do: so nobody's pictures
        wait for a thread that waits for another's.
        """
        waiting, results, errors = deque(places), dict[int, Result](), dict[int, BaseException]()

        def work_off() -> None:
            while waiting:
                try:
                    place = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[place] = work(place)
                except BaseException as error:  # noqa: BLE001 - it is the caller's
                    errors[place] = error
                    waiting.clear()

        helpers = [self._pool.submit(work_off) for _ in places[1 : self.sandbox.processes]]
        work_off()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        if errors:
            raise _named(errors[min(errors)], min(errors), number)
        return [results[place] for place in places]


def _named(error: BaseException, place: int, number: int) -> BaseException:
    """An error that names the bad one of several pictures."""
    if number == 1 or not isinstance(error, VisualMemoryError):
        return error
    named = type(error)(f"picture {place + 1} of {number}: {error.message}")
    named.__cause__ = error
    return named
