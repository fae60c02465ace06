"""Reject pictures with too many bytes or pixels."""

from dataclasses import dataclass

from visual_memory.schemas.errors import InvalidPicture, TooLarge


@dataclass(frozen=True)
class PictureLimits:
    """The largest picture that is accepted.

    Attributes:
        max_bytes: size of the file, in bytes.
        max_pixels: width times height. Pillow itself refuses more than 178,956,970.
    """

    max_bytes: int
    max_pixels: int


def check_bytes(data: bytes, limits: PictureLimits) -> None:
    """Check the size of a file.

    Raises:
        TooLarge: the file has more bytes than allowed.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the picture has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted")


def check_pixels(size: tuple[int, int], limits: PictureLimits) -> None:
    """Check a width and height, both in pixels.

    Raises:
        InvalidPicture: one of them is 0.
        TooLarge: the picture has more pixels than allowed.
    """
    width, height = size
    if width < 1 or height < 1:
        raise InvalidPicture(f"the picture is {width} x {height} pixels; it needs at least 1 x 1")
    if width * height > limits.max_pixels:
        raise TooLarge(f"the picture is {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are accepted")
