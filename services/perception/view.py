"""What an encoder begins with of a picture, so that whoever decodes it makes no more than that."""

from dataclasses import dataclass
from typing import Literal

import PIL.Image
from PIL.Image import Resampling

Preprocessing = Literal[1, 2]
"""A version of how pixels are made of a picture: 1 was the first, and is kept for vectors that were made with it."""


@dataclass(frozen=True)
class View:
    """A picture made small, and the middle of it.

    Attributes:
        side: how long the short side is made, in pixels. 0: nothing is made smaller, all pixels are wanted.
        crop: side of the square that is cut out of the middle then, 1 to `side`: every picture is as large, and a small
            one is made larger. 0: none is cut out, and a picture whose short side is not longer than `side` stays.
        version: how its pixels are made (`Preprocessing`).
    """

    side: int = 0
    crop: int = 0
    version: Preprocessing = 2

    def of(self, picture: PIL.Image.Image, size: tuple[float, float] | None = None) -> PIL.Image.Image:
        """The view of a picture, resized and cut in one step (bicubic): no pixel outside is computed.

        Without a crop, up to two pixels of the long side are cut off, so that the scale is exact and `side` can be cut
        out of the very middle: an encoder that does so then meets each pixel where it would have computed it itself,
        instead of between two of ours.

        Args:
            picture: of any mode that can be resized.
            size: what of it is picture, from the upper left, where the rest is padding; all of it unless it is said.
        """
        whole = size or picture.size
        short = min(whole)
        if not self.crop and (not self.side or short < self.side or (short == self.side and whole == picture.size)):
            return picture
        kept = [self.crop or self.side + int(length * self.side / short - self.side) // 2 * 2 for length in whole]
        width, height = (pixels * short / self.side for pixels in kept)
        left, upper = (whole[0] - width) / 2, (whole[1] - height) / 2
        return picture.resize((kept[0], kept[1]), Resampling.BICUBIC, (left, upper, left + width, upper + height))


ALL = View()
