"""What an encoder begins with of a picture, so that whoever decodes it makes no more than that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import PIL.Image
from PIL.Image import Resampling

Preprocessing = Literal[1, 2]
"""A version of how pixels are made of a picture: 1 was the first, and is kept for vectors that were made with it."""

MOST = 178_956_970
"""Pixels: Pillow refuses more."""
LONGEST = 8
"""Of a picture that is longer than so many short sides the middle is taken: 1 x 100,000 pixels whose short side is made
256 long would be 6.6 thousand million."""
SPARE = 2
"""How many pixels of a large picture are left for each that the encoder takes, along a side: it resizes them itself."""


@dataclass(frozen=True)
class View:
    """A part of a picture, and how small its pixels may be made.

    Attributes:
        side: how long the encoder makes the short side, in pixels. 0: it takes whole pictures, and nothing is cut.
        crop: side of the square that it takes out of the middle then, 1 to `side`. 0: it takes all.
        version: how its pixels are made. 1: the picture is resized here, in one step (bicubic); a small one is made
            larger where there is a `crop`, and else stays. 2: it is cut on whole pixels, a large one is made smaller by
            a whole factor, and the encoder resizes what comes of it; only a crop of one that is smaller than `side` is
            made as by 1, for whole pixels are too coarse there. Either takes `LONGEST` short sides at most.
        squash: the encoder makes both sides `side` long, whatever they were. Of version 2 alone.
    """

    side: int = 0
    crop: int = 0
    version: Preprocessing = 2
    squash: bool = False

    def of(self, picture: PIL.Image.Image, size: tuple[float, float] | None = None) -> PIL.Image.Image:
        """The view of a picture: no pixel outside is computed.

        Args:
            picture: of any mode that can be resized.
            size: what of it is picture, from the upper left, where the rest is padding; all of it unless it is said.
        """
        whole = size or (float(picture.width), float(picture.height))
        if not self.side:
            return picture
        coarse = self.crop and min(whole) < self.side
        return self._resized(picture, whole) if self.version == 1 or coarse else self._cut(picture, whole)

    def largest(self, pixels: int = MOST) -> int:
        """The most pixels that a view of a picture of so many has."""
        if not self.side:
            return pixels
        if self.version == 1:
            return self.crop**2 or min(pixels, LONGEST * self.side**2)
        square = (2 * SPARE * (self.crop or self.side)) ** 2
        if self.crop:
            return max(self.crop**2, min(pixels, square))
        return min(pixels, square if self.squash else max(square, LONGEST * (2 * self.side) ** 2))

    def _cut(self, picture: PIL.Image.Image, whole: tuple[float, float]) -> PIL.Image.Image:
        lengths = [round(length) for length in whole]
        longest = min(whole) * self.crop / self.side if self.crop else LONGEST * min(whole)
        wanted = [min(length, longest) for length in whole]
        factors = self._factors(*wanted)
        kept = [
            max(1, min(round(most / factor), length // factor)) * factor
            for most, length, factor in zip(wanted, lengths, factors, strict=True)
        ]
        left, upper = ((length - part) // 2 for length, part in zip(lengths, kept, strict=True))
        box = (left, upper, left + kept[0], upper + kept[1])
        if factors != (1, 1):
            return picture.reduce(factors, box)
        return picture if box == (0, 0, *picture.size) else picture.crop(box)

    def _factors(self, width: float, height: float) -> tuple[int, int]:
        """How many pixels of a part that large, across and down, may become one."""
        side = self.crop or self.side
        if self.squash:
            return max(1, int(width) // (SPARE * side)), max(1, int(height) // (SPARE * side))
        factor = max(1, min(int(min(width, height)) // side, int(math.sqrt(width * height)) // (SPARE * side)))
        return factor, factor

    def _resized(self, picture: PIL.Image.Image, whole: tuple[float, float]) -> PIL.Image.Image:
        """In one step.

        Without a crop, up to two pixels of the long side are cut off, so that the scale is exact and `side` can be cut
        out of the very middle: an encoder that does so then meets each pixel where it would have computed it itself,
        instead of between two of ours.
        """
        short = min(whole)
        taken = [min(length, LONGEST * short) for length in whole]
        if not self.crop and (short < self.side or (short == self.side and whole == picture.size)):
            return picture if tuple(taken) == picture.size else picture.crop(_middle(whole, taken))
        kept = [self.crop or self.side + int(length * self.side / short - self.side) // 2 * 2 for length in taken]
        box = _middle(whole, [pixels * short / self.side for pixels in kept])
        return picture.resize((kept[0], kept[1]), Resampling.BICUBIC, box)


def _middle(whole: Sequence[float], taken: Sequence[float]) -> tuple[float, float, float, float]:
    """The box of a part of that size in the middle."""
    left, upper = ((length - part) / 2 for length, part in zip(whole, taken, strict=True))
    return left, upper, left + taken[0], upper + taken[1]


ALL = View()
