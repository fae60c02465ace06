"""Decode several pictures in parallel in the sandbox; an error names the position of the bad picture."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import TypeVar

import PIL.Image

from visual_memory.schemas.errors import DecoderFailed, InvalidPicture, TooLarge, UnsupportedFormat, VisualMemoryError
from visual_memory.services.decoding.picture_limits import check_bytes
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.decoding.serialize_pixels import MAX_PACKED_BYTES, Size, pack, unpack

BYTES_PER_PIXEL = 3
THUMBNAIL_SIDE = 256
"""Longest side of the thumbnail that is stored with each picture, in pixels."""
THUMBNAIL_HEADER_BYTES = 2**16
"""Upper bound for a thumbnail's file without its pixels; each of these takes less than `BYTES_PER_PIXEL`."""
_ERRORS = {kind.code: kind for kind in (InvalidPicture, UnsupportedFormat, TooLarge)}

Result = TypeVar("Result")


@dataclass(frozen=True)
class CheckedPicture:
    """What a check found out about a picture, to be stored with it.

    Attributes:
        thumbnail: a JPEG with a longest side of at most `THUMBNAIL_SIDE`; empty if a faulty decoder made none.
        pixels: packed, as `Decoder.unpack` accepts them; None if there are more than `MAX_PACKED_BYTES`, or if the
            decoder does not know the crop yet.
    """

    thumbnail: bytes
    pixels: bytes | None


class Decoder:
    """Decodes pictures within limits, in the sandbox.

    Args:
        sandbox: its processes decode.
        pool: its threads help the caller's thread, so that several of the caller's pictures are decoded in parallel.
        crop: the part of a picture that is needed; as in `services.decoding.pillow_decode.decode`.
        packs_pixels: whether `check` passes the decoded pixels to its callback.
    """

    def __init__(
        self, sandbox: SandboxPool, pool: Executor, crop: PreprocessingCrop = NO_CROP, packs_pixels: bool = True
    ) -> None:
        self.sandbox = sandbox
        self._pool = pool
        self.crop = crop
        self._packs_pixels = packs_pixels
        self._max_bytes = BYTES_PER_PIXEL * crop.max_pixels(sandbox.limits.max_pixels)

    def with_crop(self, crop: PreprocessingCrop) -> "Decoder":
        """A decoder in the same sandbox with another crop."""
        return Decoder(self.sandbox, self._pool, crop)

    def checking_only(self) -> "Decoder":
        """A decoder in the same sandbox whose `check` drops the pixels: for callers that do not know the crop yet."""
        return Decoder(self.sandbox, self._pool, self.crop, packs_pixels=False)

    def decode_one(self, tenant: str, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `services.decoding.pillow_decode.decode`.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge: as there.
            DecoderFailed: it took too much time or memory, or crashed the process.
        """
        decoded, _ = self._decode(tenant, picture, self._max_bytes)
        if decoded is None:
            raise DecoderFailed("decoding this picture returned no picture")
        return PIL.Image.frombytes("RGB", *decoded)

    def unpack(self, pixels: bytes) -> PIL.Image.Image | None:
        """The picture from the packed pixels of `check`; None if they are damaged or belong to another crop."""
        return unpack(pixels, self.crop)

    def decode_some(self, tenant: str, pictures: Sequence[bytes], positions: Sequence[int]) -> list[PIL.Image.Image]:
        """Decode the pictures at some positions, counted from 0.

        Raises:
            InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as `decode_one`; if there are several pictures,
                the message names the position of the first bad one, counted from 1.
        """
        return self._map(lambda position: self.decode_one(tenant, pictures[position]), positions, len(pictures))

    def check(
        self,
        tenant: str,
        pictures: Sequence[bytes],
        keep: Callable[[int, CheckedPicture], object] = lambda _position, _checked: None,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Decode pictures without returning them; raises as `decode_some`.

        Args:
            tenant: whose they are.
            pictures: their files.
            keep: called with each picture's position, counted from 0, in any order.
            positions: of the pictures that are decoded; None: all.
        """

        def check_one(position: int) -> None:
            decoded, small = self._decode(tenant, pictures[position], MAX_PACKED_BYTES, THUMBNAIL_SIDE)
            packed = pack(*decoded, self.crop) if decoded is not None and self._packs_pixels else None
            keep(position, CheckedPicture(small, packed))

        self._map(check_one, range(len(pictures)) if positions is None else positions, len(pictures))

    def thumbnail(self, tenant: str, picture: bytes, side: int = THUMBNAIL_SIDE) -> bytes:
        """Make a small JPEG; as `services.decoding.pillow_decode.thumbnail`, raises as `decode_one`."""
        _, jpeg = self._request(tenant, {"do": "thumbnail", "side": side}, picture, _max_thumbnail_bytes(side))
        return bytes(jpeg)

    def thumbnails(self, tenant: str, pictures: Sequence[bytes], side: int) -> list[bytes]:
        """Make small JPEGs; raises as `decode_some`."""
        positions = range(len(pictures))
        return self._map(lambda position: self.thumbnail(tenant, pictures[position], side), positions, len(pictures))

    def _decode(
        self, tenant: str, picture: bytes, max_bytes: int, side: int = 0
    ) -> tuple[tuple[Size, bytearray] | None, bytes]:
        """A picture's size and pixels, None if there are more than `max_bytes` of these; and its thumbnail.

        Args:
            tenant: whose it is.
            picture: its file.
            max_bytes: of the pixels.
            side: longest side of the thumbnail; 0: none is made, and it is empty.
        """
        request = {"do": "decode", "view": asdict(self.crop), "most": max_bytes, "side": side}
        expected = max_bytes + _max_thumbnail_bytes(side) if side else max_bytes
        header, pixels = self._request(tenant, request, picture, expected)
        small = b""
        match header.get("thumbnail"):
            case int(number) if side and 0 < number <= len(pixels):
                small = bytes(pixels[-number:])
                del pixels[-number:]
        match header.get("size"):
            case [int(width), int(height)] if width > 0 and width * height * BYTES_PER_PIXEL == len(pixels) > 0:
                return ((width, height), pixels), small
        return None, small

    def _request(
        self, tenant: str, request: dict[str, object], picture: bytes, max_bytes: int
    ) -> tuple[dict[str, object], bytearray]:
        check_bytes(picture, self.sandbox.limits)
        header, body = self.sandbox.run(tenant, request, picture, max_bytes)
        if "error" in header:
            raise _ERRORS.get(str(header["error"]), DecoderFailed)(str(header.get("message")))
        return header, body

    def _map(self, function: Callable[[int], Result], positions: Sequence[int], number: int) -> list[Result]:
        """Call a function for some positions; the first error ends it.

        The caller's thread does the work, and idle threads of the pool help: no caller's pictures wait for a thread
        that waits for another caller's.
        """
        waiting, results, errors = deque(positions), dict[int, Result](), dict[int, BaseException]()

        def work_off() -> None:
            while waiting:
                try:
                    position = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[position] = function(position)
                except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                    errors[position] = error
                    waiting.clear()

        helpers = [self._pool.submit(work_off) for _ in positions[1 : self.sandbox.processes]]
        work_off()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        if errors:
            raise _with_position(errors[min(errors)], min(errors), number)
        return [results[position] for position in positions]


def _max_thumbnail_bytes(side: int) -> int:
    return THUMBNAIL_HEADER_BYTES + BYTES_PER_PIXEL * side**2


def _with_position(error: BaseException, position: int, number: int) -> BaseException:
    """The same error with the picture's position in its message, if there are several pictures."""
    if number == 1 or not isinstance(error, VisualMemoryError):
        return error
    named = type(error)(f"picture {position + 1} of {number}: {error.message}")
    named.__cause__ = error
    return named
