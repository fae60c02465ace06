"""From hostile bytes to the picture that a viewer would show, or to a sentence on why not."""

import hashlib
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
from PIL.JpegImagePlugin import JpegImageFile

from visual_memory.schemas.errors import DecoderFailed, InvalidPicture, TooLarge, VisualMemoryError
from visual_memory.services.decoding.colour_to_srgb import convert_to_srgb, find_profile
from visual_memory.services.decoding.file_formats.jpeg import has_all_scans, strip_metadata
from visual_memory.services.decoding.file_formats.png import strip_ancillary_chunks
from visual_memory.services.decoding.file_formats.recognise_format import (
    AVIF,
    HEIC,
    JPEG,
    PNG,
    TIFF,
    WEBP,
    Format,
    read_webp_size,
    recognise_format,
    strip_incomplete_chunks,
    unsupported_format,
    unsupported_kind,
)
from visual_memory.services.decoding.file_formats.tiff import read_tiff
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, Preprocessing, PreprocessingCrop

# Pillow warns of pictures that are odd but whole; whoever sent one has no use for a line in our log.
warnings.filterwarnings("ignore", module=r"PIL\.")
_END = b"\xff\xd9"
"""A JPEG's end marker."""
_NOISE = hashlib.shake_256(b"").digest(512).replace(b"\xff", b"\0")
_MORE = _NOISE + b"".join(bytes((0xFF, 0xD0 + number)) + _NOISE for number in range(8))
"""What would be pixels where a JPEG's are not complete, also behind any of its restart markers."""
_MENDED = {JPEG: strip_metadata, WEBP: strip_incomplete_chunks}
"""What makes a file readable whose pixels are sound, and what is said beside them is not."""
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
class PictureLimits:
    """The largest picture that is taken.

    Attributes:
        max_bytes: size of the file, in bytes.
        max_pixels: width times height. Pillow itself refuses more than 178,956,970.
    """

    max_bytes: int
    max_pixels: int


def decode(data: bytes, limits: PictureLimits, crop: PreprocessingCrop = NO_CROP) -> PIL.Image.Image:
    """The picture as a viewer would show it: upright, in sRGB, on white where transparent, the first frame of several.

    Args:
        data: a file of one of the formats that `services.decoding.file_formats.recognise_format` takes.
        limits: the largest picture that is taken; pixels are checked from the header, before any is decoded.
        crop: what of the picture is wanted. A JPEG that is much larger is not even decoded in full: its blocks of 8 x 8
            give fewer pixels each, but all of it is read and checked. Version 1 leaves colour profiles alone, and reads
            TIFFs of more than 8 bits as it always did.

    Returns:
        A picture of mode RGB, at least 1 x 1, with no metadata.

    Raises:
        InvalidPicture: the bytes are no picture, are damaged, or end too early.
        UnsupportedFormat: the picture is of another format.
        TooLarge: it is over a limit.
        DecoderFailed: there is not enough memory for it.
    """
    with _opened(data, limits, crop.version) as opened:
        return _as_shown(opened, crop)


def media_type(data: bytes) -> str:
    """The media type, such as ``image/jpeg``, from the first bytes alone.

    Raises:
        InvalidPicture: the bytes begin like no picture.
        UnsupportedFormat: the picture is of a format that is not taken.
    """
    return recognise_format(data).media_type


def thumbnail(data: bytes, size: int, limits: PictureLimits) -> bytes:
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
    with _opened(data, limits, NO_CROP.version) as opened:
        small = _as_shown(opened, NO_CROP, size)  # a JPEG is decoded at an eighth of its size or more, as is enough
        small.thumbnail((size, size))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return out.getvalue()


def check_bytes(data: bytes, limits: PictureLimits) -> None:
    """Refuse a file that is too large.

    Raises:
        TooLarge: it is over the limit of bytes.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the picture has {len(data):,} bytes; at most {limits.max_bytes:,} are taken")


@dataclass(frozen=True)
class _Opened:
    """A picture that is not decoded yet.

    Attributes:
        picture: as its format's reader gives it.
        data: the bytes that this read.
        profile: what its colours mean (ICC); empty where they are sRGB, or are taken for it.
        grey: whether it has no colours, although its reader gives it some.
    """

    picture: PIL.Image.Image
    data: bytes
    profile: bytes = b""
    grey: bool = False


@contextmanager
def _opened(data: bytes, limits: PictureLimits, version: Preprocessing) -> Iterator[_Opened]:
    """The picture, within the limits; whatever Pillow raises while it is in use becomes one of our errors."""
    check_bytes(data, limits)
    found = recognise_format(data)
    if found is WEBP and (size := read_webp_size(data)):
        _check_size(size, limits)
    try:
        yield _open(data, found, limits, version)
    except VisualMemoryError:
        raise
    except MemoryError as error:
        raise DecoderFailed("decoding this picture took more memory than is allowed") from error
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise TooLarge(f"the picture has too many pixels; at most {limits.max_pixels:,} are taken") from error
    except Exception as error:  # on hostile bytes Pillow raises nearly anything, KeyError and IndexError included
        if rare := unsupported_kind(data, found):
            raise unsupported_format(rare) from error
        raise InvalidPicture(f"the {found.name} is damaged or ends too early; send it whole") from error


def _open(data: bytes, found: Format, limits: PictureLimits, version: Preprocessing) -> _Opened:
    if found is TIFF:
        return _open_tiff(data, limits, version)
    png = strip_ancillary_chunks(data) if found is PNG else None
    if png is not None:
        data = png.data
    elif found in (AVIF, HEIC):
        from visual_memory.services.decoding.file_formats import heif  # its libraries are of use in a sandbox only

        data = heif.with_known_brand(data, found)
    picture = _picture(data, found, limits)
    if found is AVIF:
        picture.info.update(heif.nclx_profile(data))
        picture.info.pop("xmp", None)  # which way is up is said by the container alone
    clear = picture.info.get("transparency")
    if version > 1 and png is not None and png.depth == 16 and isinstance(clear, tuple):
        picture.info["transparency"] = tuple(level >> 8 for level in clear)  # Pillow reads colours by their upper bytes
    return _Opened(picture, data, find_profile(picture, png) if version > 1 else b"", png is not None and png.grey)


def _open_tiff(data: bytes, limits: PictureLimits, version: Preprocessing) -> _Opened:
    """By Pillow where that reads the numbers as they are, or always did; else by ourselves."""
    tiff = read_tiff(data)
    _check_size(tiff.size, limits)
    refused = tiff.refuse()
    if version == 1 or tiff.is_plain:
        try:
            picture = _picture(data, TIFF, limits)
        except PIL.UnidentifiedImageError:
            if refused:
                raise refused from None
        else:
            return _Opened(picture, data, find_profile(picture) if version > 1 else b"")
    if refused:
        raise refused
    picture = tiff.picture()
    return _Opened(picture, data, find_profile(picture) if version > 1 else b"")


def _picture(data: bytes, found: Format, limits: PictureLimits) -> PIL.Image.Image:
    mend = _MENDED.get(found)
    try:
        picture = PIL.Image.open(io.BytesIO(data), formats=[found.reader])
    except Exception:
        if mend is None:
            raise
        picture = PIL.Image.open(io.BytesIO(mend(data)), formats=[found.reader])
    _check_size(picture.size, limits)
    return picture


def _check_size(size: tuple[int, int], limits: PictureLimits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidPicture(f"the picture is {width} x {height} pixels; it needs at least 1 x 1")
    if width * height > limits.max_pixels:
        raise TooLarge(f"the picture is {width:,} x {height:,} pixels; at most {limits.max_pixels:,} are taken")


def _as_shown(opened: _Opened, crop: PreprocessingCrop, side: int = 0) -> PIL.Image.Image:
    """Its view, from a JPEG whose shorter side is decoded to `side` at least, if that is not 0."""
    picture, size = _loaded(opened, crop.resize_side or side)
    turn = _UPRIGHT.get(_orientation(picture))
    even = _as_8_bit(picture, crop.version)
    if opened.profile and even.mode in ("RGB", "L", "CMYK") and not even.has_transparency_data:
        flat = convert_to_srgb(crop.apply(even, size), opened.profile).convert(
            "RGB"
        )  # what is cut away needs no colours
    else:
        flat = crop.apply(_flatten(convert_to_srgb(even, opened.profile, opened.grey)), size)
    flat.info = {}
    return flat.transpose(turn) if turn is not None else flat


def _loaded(opened: _Opened, side: int) -> tuple[PIL.Image.Image, tuple[float, float] | None]:
    """The decoded picture, and what of it is picture where a JPEG's blocks reach beyond."""
    picture = opened.picture
    if not isinstance(picture, ImageFile):
        return picture, None
    drafted = picture.draft(None, (side, side)) if side else None
    try:
        picture.load()
    except OSError:
        if not isinstance(picture, JpegImageFile):
            raise
        picture = _without_end(opened.data, side)
    return picture, drafted[1][2:] if drafted else None


def _without_end(data: bytes, side: int) -> PIL.Image.Image:
    """A JPEG that lacks only its end marker: whatever follows is then no part of the picture.

    Raises:
        OSError: it lacks pixels, or scans that would make them finer.
    """
    data = data.rstrip(b"\xff")  # half a marker
    ended, followed = (_ended(data + tail, 0) for tail in (_END, _MORE + _END))
    if ended.tobytes() != followed.tobytes() or not has_all_scans(data):
        raise OSError("pixels are missing")
    return _ended(data + _END, side) if side else ended


def _ended(data: bytes, side: int) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data), formats=[JPEG.reader])
    if side:
        picture.draft(None, (side, side))
    picture.load()
    return picture


def _orientation(picture: PIL.Image.Image) -> int:
    # After load: a TIFF is turned upright by Pillow itself, which then drops the tag.
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not spoil the picture
        return 1


def _as_8_bit(picture: PIL.Image.Image, version: Preprocessing) -> PIL.Image.Image:
    """Pillow clips what is deeper than 8 bits when it converts; here it is scaled."""
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.uint16)
        shown = values // 257 if version == 1 else np.rint(values / np.float32(257))
        clear = picture.info.get("transparency")
        return PIL.Image.fromarray(np.where(values == clear, 255, shown).astype(np.uint8))
    if picture.mode not in ("I", "F"):
        return picture
    # A TIFF's, in version 1: black is the lowest value and white the highest.
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
