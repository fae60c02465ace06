"""Many pictures at once: decoded side by side in the sandbox, and a bad one is named by its place."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import TypeVar

import PIL.Image

from visual_memory.schemas.errors import DecoderFailed, InvalidPicture, TooLarge, UnsupportedFormat, VisualMemoryError
from visual_memory.services.decoding.packed_pixels import MAX_PACKED_BYTES, Size, pack, unpack
from visual_memory.services.decoding.pillow_decode import check_bytes
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool

BYTES_PER_PIXEL = 3
THUMBNAIL_HEADER_BYTES = 2**16
"""Most bytes of a thumbnail beside its pixels, of which each takes fewer than `BYTES_PER_PIXEL`."""
_ERRORS = {kind.code: kind for kind in (InvalidPicture, UnsupportedFormat, TooLarge)}

Result = TypeVar("Result")


class Decoder:
    """Decodes within limits, in the sandbox.

    Args:
        sandbox: its processes decode.
        pool: its threads help the caller's, so that several of its pictures are decoded at the same time.
        view: what of a picture is wanted; as in `services.decoding.pillow_decode.decode`.
        keeps: whether `check` hands on what it decodes.
    """

    def __init__(
        self, sandbox: SandboxPool, pool: Executor, crop: PreprocessingCrop = NO_CROP, keeps: bool = True
    ) -> None:
        self.sandbox = sandbox
        self._pool = pool
        self.crop = crop
        self._keeps = keeps
        self._largest = BYTES_PER_PIXEL * crop.max_pixels(sandbox.limits.max_pixels)

    def with_crop(self, crop: PreprocessingCrop) -> "Decoder":
        """One in the same sandbox that makes another view."""
        return Decoder(self.sandbox, self._pool, crop)

    def checking_only(self) -> "Decoder":
        """One in the same sandbox whose `check` only checks: for who does not know which view will be wanted."""
        return Decoder(self.sandbox, self._pool, self.crop, keeps=False)

    def decode_one(self, tenant: str, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `services.decoding.pillow_decode.decode`.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: as there.
            DecoderFailed: it took too much time or memory, or ended the process.
        """
        decoded = self._decoded(tenant, picture, self._largest)
        if decoded is None:
            raise DecoderFailed("decoding this picture made something that is no picture")
        return PIL.Image.frombytes("RGB", *decoded)

    def unpack(self, pixels: bytes) -> PIL.Image.Image | None:
        """What `check` kept of a picture; None where it is damaged, or of another view."""
        return unpack(pixels, self.crop)

    def decode_some(self, tenant: str, pictures: Sequence[bytes], places: Sequence[int]) -> list[PIL.Image.Image]:
        """Decode the pictures at some places, counted from 0.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as `one`; of several pictures the first bad one
                is named by its place, counted from 1.
        """
        return self._each(lambda place: self.decode_one(tenant, pictures[place]), places, len(pictures))

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
            decoded = self._decoded(tenant, pictures[place], MAX_PACKED_BYTES)
            if decoded is not None and self._keeps:
                keep(place, pack(*decoded, self.crop))

        self._each(check, range(len(pictures)) if places is None else places, len(pictures))

    def thumbnail(self, tenant: str, picture: bytes, size: int) -> bytes:
        """The bytes of a small JPEG; as `services.decoding.pillow_decode.thumbnail`, raises as `one`."""
        most = THUMBNAIL_HEADER_BYTES + BYTES_PER_PIXEL * size**2
        _, small = self._ask(tenant, {"do": "thumbnail", "size": size}, picture, most)
        return bytes(small)

    def thumbnails(self, tenant: str, pictures: Sequence[bytes], size: int) -> list[bytes]:
        """As `thumbnail`, of many; raises as `some`."""
        places = range(len(pictures))
        return self._each(lambda place: self.thumbnail(tenant, pictures[place], size), places, len(pictures))

    def _decoded(self, tenant: str, picture: bytes, most: int) -> tuple[Size, bytearray] | None:
        """A picture's size and pixels, if these are at most so many bytes."""
        head, pixels = self._ask(tenant, {"do": "decode", "view": asdict(self.crop), "most": most}, picture, most)
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
