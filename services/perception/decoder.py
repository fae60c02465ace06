"""Many pictures at once: decoded side by side, and a bad one is named by its place."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import PIL.Image

from schemas.errors import VisualMemoryError
from services.perception.decoding import Limits, decode

Result = TypeVar("Result")


@dataclass(frozen=True)
class Decoder:
    """Decodes within limits.

    Attributes:
        limits: the largest picture that is taken.
        pool: its threads decode; Pillow lets them run at the same time.
    """

    limits: Limits
    pool: Executor

    def one(self, picture: bytes) -> PIL.Image.Image:
        """Decode a picture; as `decode`."""
        return decode(picture, self.limits)

    def all(self, pictures: Sequence[bytes]) -> list[PIL.Image.Image]:
        """Decode pictures; an error names the first bad one by its place, counted from 1."""
        return self._each(self.one, pictures)

    def check(self, pictures: Sequence[bytes]) -> None:
        """Decode pictures and keep none of them; raises as `all`."""
        self._each(lambda picture: self.one(picture).size, pictures)

    def _each(self, work: Callable[[bytes], Result], pictures: Sequence[bytes]) -> list[Result]:
        def named(place: int, picture: bytes) -> Result:
            try:
                return work(picture)
            except VisualMemoryError as error:
                where = f"picture {place} of {len(pictures)}: " if len(pictures) > 1 else ""
                raise type(error)(f"{where}{error.message}") from error

        side_by_side = self.pool.map if len(pictures) > 1 else map  # one alone is not worth a thread's turn
        return list(side_by_side(named, range(1, len(pictures) + 1), pictures))
