"""From hostile bytes to the picture that a viewer would show, or to a sentence on why not."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL.Image
from PIL import ExifTags
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Transpose
from PIL.ImageFile import ImageFile

from schemas.errors import DecoderFailed, InvalidPicture, TooLarge, VisualMemoryError
from services.perception.formats import WEBP, recognise, webp_size
from services.perception.view import ALL, View

# Pillow warns of pictures that are odd but whole; whoever sent one has no use for a line in our log.
warnings.filterwarnings("ignore", module=r"PIL\.")

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (CIPA DC-008, tag 0x0112)."""


@dataclass(frozen=True)
class Limits:
    """The largest picture that is taken.

    Attributes:
        max_bytes: size of the file, in bytes.
        max_pixels: width times height. Pillow itself refuses more than 178,956,970.
    """

    max_bytes: int
    max_pixels: int


def decode(data: bytes, limits: Limits, view: View = ALL) -> PIL.Image.Image:
    """The picture as a viewer would show it: upright, on white where transparent, the first frame of several.

    Args:
        data: a JPEG, PNG, WebP, BMP, GIF or TIFF file.
        limits: the largest picture that is taken; pixels are checked from the header, before any is decoded.
        view: what of the picture is wanted. A JPEG that is much larger is not even decoded in full: its blocks of 8 x 8
            give fewer pixels each, but all of it is read and checked.

    Returns:
        A picture of mode RGB, at least 1 x 1, with no metadata.

    Raises:
        InvalidPicture: the bytes are no picture, are damaged, or end too early.
        UnsupportedFormat: the picture is of another format.
        TooLarge: it is over a limit.
        DecoderFailed: there is not enough memory for it.
    """
    with _opened(data, limits) as picture:
        return _as_shown(picture, view)


def media_type(data: bytes) -> str:
    """The media type, such as ``image/jpeg``, from the first bytes alone.

    Raises:
        InvalidPicture: the bytes begin like no picture.
        UnsupportedFormat: the picture is of a format that is not taken.
    """
    return recognise(data).media_type


def thumbnail(data: bytes, size: int, limits: Limits) -> bytes:
    """A small JPEG of the picture without its metadata.

    Args:
        data: a picture, as for `decode`.
        size: the longest side, in pixels; a smaller picture keeps its size.
        limits: as for `decode`.

    Returns:
        The bytes of a JPEG file.

    Raises:
        InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as for `decode`.
    """
    with _opened(data, limits) as picture:
        picture.draft(None, (size, size))  # a JPEG is decoded at an eighth of its size or more, as is enough
        small = _as_shown(picture)
        small.thumbnail((size, size))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def check_bytes(data: bytes, limits: Limits) -> None:
    """Refuse a file that is too large.

    Raises:
        TooLarge: it is over the limit of bytes.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the picture has {len(data):,} bytes; at most {limits.max_bytes:,} are taken")


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[ImageFile]:
    """The picture, within the limits; whatever Pillow raises while it is in use becomes an InvalidPicture."""
    check_bytes(data, limits)
    found = recognise(data)
    if found is WEBP and (size := webp_size(data)):
        _check_size(size, limits)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=[found.name]) as picture:
            _check_size(picture.size, limits)
            yield picture
    except VisualMemoryError:
        raise
    except MemoryError as error:
        raise DecoderFailed("decoding this picture took more memory than is allowed") from error
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise TooLarge(f"the picture has too many pixels; at most {limits.max_pixels:,} are taken") from error
    except Exception as error:  # on hostile bytes Pillow raises nearly anything, KeyError and IndexError included
        raise InvalidPicture(f"the {found.name} is damaged or ends too early; send it whole") from error


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidPicture(f"the picture is {width} x {height} pixels; it needs at least 1 x 1")
    if width * height > limits.max_pixels:
        raise TooLarge(f"the picture is {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are taken")


def _as_shown(picture: ImageFile, view: View = ALL) -> PIL.Image.Image:
    drafted = picture.draft(None, (view.side, view.side)) if view.side else None
    picture.load()
    turn = _UPRIGHT.get(_orientation(picture))
    flat = view.of(_flatten(_as_8_bit(picture)), drafted[1][2:] if drafted else None)
    flat.info = {}
    return flat.transpose(turn) if turn is not None else flat


def _orientation(picture: PIL.Image.Image) -> int:
    # After load: a TIFF is turned upright by Pillow itself, which then drops the tag.
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not spoil the picture
        return 1


def _as_8_bit(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Pillow clips what is deeper than 8 bits when it converts; here it is scaled."""
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.uint16)
        clear = picture.info.get("transparency")
        return PIL.Image.fromarray(np.where(values == clear, 255, values // 257).astype(np.uint8))
    if picture.mode not in ("I", "F"):
        return picture
    # These have no agreed range, so black is their lowest value and white their highest.
    values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0.0, neginf=0.0)
    low, span = values.min(), np.ptp(values)
    return PIL.Image.fromarray(np.rint((values - low) * (255 / span if span else 0)).astype(np.uint8))


def _flatten(picture: PIL.Image.Image) -> PIL.Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    paper = PIL.Image.new("RGB", clear.size, "white")
    paper.paste(clear, mask=clear.getchannel("A"))
    return paper
