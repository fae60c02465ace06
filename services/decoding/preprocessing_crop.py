"""The part of a picture that an encoder's preprocessing starts with: decoding produces no more pixels than that."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import PIL.Image
from PIL.Image import Resampling

Preprocessing = Literal[1, 2]
"""A version of the preprocessing. Version 1 is the first one; it is kept for the vectors that were made with it."""

PILLOW_MAX_PIXELS = 178_956_970
"""Pillow refuses larger pictures."""
MAX_ASPECT_RATIO = 8
"""Of a longer picture only the middle is used: with a short side of 256, a picture of 1 x 100,000 pixels would have
6.6 billion."""
OVERSAMPLING = 2
"""Pixels of a reduced picture per pixel of the encoder's input, along a side: the encoder does the last resize."""


@dataclass(frozen=True)
class PreprocessingCrop:
    """A resize and a centre crop, of which version 2 does as much as whole pixels allow.

    Attributes:
        resize_side: short side that the encoder resizes to, in pixels. 0: the encoder takes whole pictures; nothing is
            cut.
        crop_side: side of the centre crop after the resize, 1 to `resize_side`. 0: no centre crop.
        version: how the pixels are made. 1: the picture is resized here in one step (bicubic); a small picture is
            enlarged if there is a centre crop, and otherwise left as it is. 2: the picture is cut at whole pixels and
            reduced by an integer factor; the encoder resizes the result. A centre crop of a picture smaller than
            `resize_side` is made as in version 1, because whole pixels are too coarse there. Both versions limit the
            long side to `MAX_ASPECT_RATIO` short sides.
        squash: the encoder resizes both sides to `resize_side` and ignores the aspect ratio. Version 2 only.
    """

    resize_side: int = 0
    crop_side: int = 0
    version: Preprocessing = 2
    squash: bool = False

    def apply(self, picture: PIL.Image.Image, size: tuple[float, float] | None = None) -> PIL.Image.Image:
        """Crop and reduce a picture; pixels outside of the crop are not computed.

        Args:
            picture: of any mode that can be resized.
            size: width and height of the content, from the upper left, if the rest is padding; default: all of it.
        """
        content = size or (float(picture.width), float(picture.height))
        if not self.resize_side:
            return picture
        too_small = self.crop_side and min(content) < self.resize_side
        return self._resize(picture, content) if self.version == 1 or too_small else self._reduce(picture, content)

    def max_pixels(self, pixels: int = PILLOW_MAX_PIXELS) -> int:
        """The largest number of pixels that `apply` returns for a picture of at most `pixels`."""
        if not self.resize_side:
            return pixels
        if self.version == 1:
            return self.crop_side**2 or min(pixels, MAX_ASPECT_RATIO * self.resize_side**2)
        square = (2 * OVERSAMPLING * (self.crop_side or self.resize_side)) ** 2
        if self.crop_side:
            return max(self.crop_side**2, min(pixels, square))
        return min(pixels, square if self.squash else max(square, MAX_ASPECT_RATIO * (2 * self.resize_side) ** 2))

    def _reduce(self, picture: PIL.Image.Image, content: tuple[float, float]) -> PIL.Image.Image:
        lengths = [round(length) for length in content]
        longest = (
            min(content) * self.crop_side / self.resize_side if self.crop_side else MAX_ASPECT_RATIO * min(content)
        )
        wanted = [min(length, longest) for length in content]
        factors = self._factors(*wanted)
        kept = [
            max(1, min(round(target / factor), length // factor)) * factor
            for target, length, factor in zip(wanted, lengths, factors, strict=True)
        ]
        left, upper = ((length - part) // 2 for length, part in zip(lengths, kept, strict=True))
        box = (left, upper, left + kept[0], upper + kept[1])
        if factors != (1, 1):
            return picture.reduce(factors, box)
        return picture if box == (0, 0, *picture.size) else picture.crop(box)

    def _factors(self, width: float, height: float) -> tuple[int, int]:
        """How many pixels, across and down, are averaged into one."""
        side = self.crop_side or self.resize_side
        if self.squash:
            return max(1, int(width) // (OVERSAMPLING * side)), max(1, int(height) // (OVERSAMPLING * side))
        factor = max(1, min(int(min(width, height)) // side, int(math.sqrt(width * height)) // (OVERSAMPLING * side)))
        return factor, factor

    def _resize(self, picture: PIL.Image.Image, content: tuple[float, float]) -> PIL.Image.Image:
        """Resize in one step.

        Without a centre crop, up to two pixels of the long side are cut off. The scale is then exact and the margins
        are whole pixels: an encoder that crops the centre itself gets the same pixels that it would have computed.
        """
        short = min(content)
        used = [min(length, MAX_ASPECT_RATIO * short) for length in content]
        if not self.crop_side and (short < self.resize_side or (short == self.resize_side and content == picture.size)):
            return picture if tuple(used) == picture.size else picture.crop(_centre_box(content, used))
        kept = [
            self.crop_side or self.resize_side + int(length * self.resize_side / short - self.resize_side) // 2 * 2
            for length in used
        ]
        box = _centre_box(content, [pixels * short / self.resize_side for pixels in kept])
        return picture.resize((kept[0], kept[1]), Resampling.BICUBIC, box)


def _centre_box(whole: Sequence[float], size: Sequence[float]) -> tuple[float, float, float, float]:
    """The box of a given size in the centre."""
    left, upper = ((length - part) / 2 for length, part in zip(whole, size, strict=True))
    return left, upper, left + size[0], upper + size[1]


NO_CROP = PreprocessingCrop()
