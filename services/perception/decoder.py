"""Many pictures at once: decoded side by side in the sandbox, and a bad one is named by its place."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import PIL.Image

from schemas.errors import DecoderFailed, InvalidPicture, TooLarge, UnsupportedFormat, VisualMemoryError
from services.perception.decoding import check_bytes
from services.perception.sandbox import Sandbox

BYTES_PER_PIXEL = 3
_ERRORS = {kind.code: kind for kind in (InvalidPicture, UnsupportedFormat, TooLarge)}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Decoder:
    """Decodes within limits, in the sandbox.

    Attributes:
        sandbox: its processes decode.
        pool: its threads wait for them, so that several pictures are decoded at the same time.
    """

    sandbox: Sandbox
    pool: Executor

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

    def all(self, pictures: Sequence[bytes]) -> list[PIL.Image.Image]:
        """Decode pictures; an error names the first bad one by its place, counted from 1."""
        return self._each(self.one, pictures)

    def check(self, pictures: Sequence[bytes]) -> None:
        """Decode pictures and keep none of them; raises as `all`."""
        self._each(lambda picture: self._ask({"do": "check"}, picture), pictures)

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

    def _each(self, work: Callable[[bytes], Result], pictures: Sequence[bytes]) -> list[Result]:
        def named(place: int, picture: bytes) -> Result:
            try:
                return work(picture)
            except VisualMemoryError as error:
                where = f"picture {place} of {len(pictures)}: " if len(pictures) > 1 else ""
                raise type(error)(f"{where}{error.message}") from error

        side_by_side = self.pool.map if len(pictures) > 1 else map  # one alone is not worth a thread's turn
        return list(side_by_side(named, range(1, len(pictures) + 1), pictures))
