"""Open a picture with Pillow before its pixels are decoded: reject bad files, repair what Pillow reads too strictly.

Metadata that Pillow would reject is removed first. Any exception while the picture is in use becomes one of our errors.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import PIL.Image
from PIL.Image import DecompressionBombError, DecompressionBombWarning

from visual_memory.schemas.errors import DecoderFailed, InvalidPicture, TooLarge, VisualMemoryError
from visual_memory.services.decoding.file_formats.jpeg import strip_metadata
from visual_memory.services.decoding.file_formats.png import strip_ancillary_chunks
from visual_memory.services.decoding.file_formats.recognise_format import (
    AVIF,
    HEIC,
    JPEG,
    PNG,
    TIFF,
    WEBP,
    Format,
    recognise_format,
    unsupported_format,
    unsupported_kind,
)
from visual_memory.services.decoding.file_formats.tiff import read_tiff
from visual_memory.services.decoding.file_formats.tiff_samples import decode_tiff
from visual_memory.services.decoding.file_formats.webp import read_webp_size, strip_incomplete_chunks
from visual_memory.services.decoding.find_colour_profile import find_profile
from visual_memory.services.decoding.picture_limits import PictureLimits, check_bytes, check_pixels
from visual_memory.services.decoding.preprocessing_crop import Preprocessing

# Pillow warns about unusual but complete pictures; such lines do not help the operator of the service.
warnings.filterwarnings("ignore", module=r"PIL\.")
_REPAIRS = {JPEG: strip_metadata, WEBP: strip_incomplete_chunks}
"""Applied to files that Pillow cannot open: the pixels may be sound although the metadata is not."""


@dataclass(frozen=True)
class OpenedPicture:
    """A picture whose header is read and whose pixels are not decoded yet.

    Attributes:
        picture: as Pillow opened it.
        data: the bytes that Pillow reads.
        profile: ICC profile of its colours; empty for sRGB and for unknown colours, which are treated as sRGB.
        grey: whether the picture is greyscale even if its mode has colours.
    """

    picture: PIL.Image.Image
    data: bytes
    profile: bytes = b""
    grey: bool = False


@contextmanager
def open_picture(data: bytes, limits: PictureLimits, version: Preprocessing) -> Iterator[OpenedPicture]:
    """Open a picture within the limits; errors raised inside the context are translated too.

    Raises:
        InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as `services.decoding.pillow_decode.decode`.
    """
    check_bytes(data, limits)
    found = recognise_format(data)
    if found is WEBP and (size := read_webp_size(data)):
        check_pixels(size, limits)
    try:
        yield _open(data, found, limits, version)
    except VisualMemoryError:
        raise
    except MemoryError as error:
        raise DecoderFailed("decoding this picture took more memory than is allowed") from error
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise TooLarge(f"the picture has too many pixels; at most {limits.max_pixels:,} are accepted") from error
    except Exception as error:  # on malformed bytes Pillow raises nearly anything, KeyError and IndexError included
        if kind := unsupported_kind(data, found):
            raise unsupported_format(kind) from error
        raise InvalidPicture(f"the {found.name} is damaged or ends too early; send it whole") from error


def _open(data: bytes, found: Format, limits: PictureLimits, version: Preprocessing) -> OpenedPicture:
    if found is TIFF:
        return _open_tiff(data, limits, version)
    png = strip_ancillary_chunks(data) if found is PNG else None
    if png is not None:
        data = png.data
    elif found in (AVIF, HEIC):
        from visual_memory.services.decoding.file_formats import heif  # only the sandbox needs its libraries

        data = heif.with_known_brand(data, found)
    picture = _open_with_pillow(data, found, limits)
    if found is AVIF:
        picture.info.update(heif.nclx_profile(data))
        picture.info.pop("xmp", None)  # the container alone defines the orientation
    transparent = picture.info.get("transparency")
    if version > 1 and png is not None and png.depth == 16 and isinstance(transparent, tuple):
        # Pillow keeps the upper byte of a 16-bit sample
        picture.info["transparency"] = tuple(level >> 8 for level in transparent)
    profile = find_profile(picture, png) if version > 1 else b""
    return OpenedPicture(picture, data, profile, png is not None and png.grey)


def _open_tiff(data: bytes, limits: PictureLimits, version: Preprocessing) -> OpenedPicture:
    """Use Pillow for plain samples, and for all of version 1; use our own reader for the others."""
    tiff = read_tiff(data)
    check_pixels(tiff.size, limits)
    unsupported = tiff.why_unsupported()
    if version == 1 or tiff.is_plain:
        try:
            picture = _open_with_pillow(data, TIFF, limits)
        except PIL.UnidentifiedImageError:
            if unsupported:
                raise unsupported from None
        else:
            return OpenedPicture(picture, data, find_profile(picture) if version > 1 else b"")
    if unsupported:
        raise unsupported
    picture = decode_tiff(tiff)
    return OpenedPicture(picture, data, find_profile(picture) if version > 1 else b"")


def _open_with_pillow(data: bytes, found: Format, limits: PictureLimits) -> PIL.Image.Image:
    repair = _REPAIRS.get(found)
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=[found.reader])
    except Exception:
        if repair is None:
            raise
        picture = PIL.Image.open(io.BytesIO(repair(data)), formats=[found.reader])
    check_pixels(picture.size, limits)
    return picture
