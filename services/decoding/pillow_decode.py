"""Decode the bytes of a picture into upright 8-bit RGB pixels, as an image viewer shows it."""

import io
from collections.abc import Callable
from functools import partial

import PIL.Image
from PIL import ExifTags
from PIL.Image import Resampling, Transpose
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from visual_memory.services.decoding.colour_to_srgb import convert_to_srgb
from visual_memory.services.decoding.file_formats.truncated_jpeg import decode_without_end_marker
from visual_memory.services.decoding.open_picture import OpenedPicture, open_picture
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, Preprocessing, PreprocessingCrop
from visual_memory.services.decoding.reduce_to_8_bit import reduce_to_8_bit

JPEG_QUALITY = 80
"""Of thumbnails. Pillow writes this JPEG in a tenth of the time of a WebP that is a third smaller."""
Cut = Callable[[PIL.Image.Image, tuple[float, float] | None], PIL.Image.Image]
"""Crops or reduces a picture; the arguments are those of `PreprocessingCrop.apply`."""
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


def decode(data: bytes, limits: PictureLimits, crop: PreprocessingCrop = NO_CROP) -> PIL.Image.Image:
    """Decode a picture: upright, in sRGB, transparent parts on white, the first frame of several.

    Args:
        data: a file in one of the formats of `services.decoding.file_formats.recognise_format`.
        limits: the largest picture that is accepted; pixels are counted from the header, before any is decoded.
        crop: the part of the picture that is needed. A much larger JPEG is not decoded at full size: each block of
            8 x 8 pixels becomes fewer pixels, but the whole file is read and checked. Version 1 ignores colour
            profiles, and reads TIFFs of more than 8 bits as the first release did.

    Returns:
        A picture of mode RGB, at least 1 x 1, without metadata.

    Raises:
        InvalidPicture: the bytes are not a picture, or are damaged or truncated.
        UnsupportedFormat: the picture has another format.
        TooLarge: it exceeds a limit.
        DecoderFailed: there is not enough memory for it.
    """
    with open_picture(data, limits, crop.version) as opened:
        [decoded] = _render(opened, crop.resize_side, crop.version, crop.apply)
    return decoded


def decode_with_thumbnail(
    data: bytes, limits: PictureLimits, crop: PreprocessingCrop, side: int
) -> tuple[PIL.Image.Image, bytes]:
    """Decode a picture for an encoder, and make its thumbnail of the same pixels where these are enough.

    Args:
        data: as for `decode`.
        limits: as for `decode`.
        crop: as for `decode`.
        side: the longest side of the thumbnail, in pixels.

    Returns:
        What `decode` returns, and the bytes of a JPEG file as `thumbnail` makes it.

    Raises:
        InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as for `decode`.
    """
    small = None
    with open_picture(data, limits, crop.version) as opened:
        wanted = min(side, max(opened.picture.size))
        if crop.version == NO_CROP.version:
            decoded, small = _render(opened, crop.resize_side, crop.version, crop.apply, partial(_fit, side))
        else:
            [decoded] = _render(opened, crop.resize_side, crop.version, crop.apply)
    if small is None or max(small.size) < wanted:  # the encoder needs fewer pixels
        return decoded, thumbnail(data, side, limits)
    return decoded, _to_jpeg(small)


def thumbnail(data: bytes, side: int, limits: PictureLimits) -> bytes:
    """Make a small JPEG without metadata.

    Args:
        data: a picture, as for `decode`.
        side: the longest side, in pixels; a smaller picture keeps its size.
        limits: as for `decode`.

    Returns:
        The bytes of a JPEG file.

    Raises:
        InvalidPicture, UnsupportedFormat, TooLarge, DecoderFailed: as for `decode`.
    """
    with open_picture(data, limits, NO_CROP.version) as opened:  # a JPEG is decoded at a reduced size
        [small] = _render(opened, side, NO_CROP.version, partial(_fit, side))
    return _to_jpeg(small)


def _render(opened: OpenedPicture, draft_side: int, version: Preprocessing, *cuts: Cut) -> list[PIL.Image.Image]:
    """Decode a picture once; returns what each cut leaves of it, upright and in sRGB.

    Args:
        opened: the picture.
        draft_side: a JPEG is decoded with a short side of at least as many pixels; 0: at its full size.
        version: of the preprocessing.
        cuts: crop or reduce the picture, or both.
    """
    picture, size = _load(opened, draft_side)
    transpose = _UPRIGHT.get(_orientation(picture))
    scaled = reduce_to_8_bit(picture, version)
    if opened.profile and scaled.mode in ("RGB", "L", "CMYK") and not scaled.has_transparency_data:
        # cut first, so that fewer pixels are converted
        found = [convert_to_srgb(cut(scaled, size), opened.profile).convert("RGB") for cut in cuts]
    else:
        whole = _flatten(convert_to_srgb(scaled, opened.profile, opened.grey))
        found = [cut(whole, size) for cut in cuts]
    for rgb in found:
        rgb.info = {}
    return [rgb if transpose is None else rgb.transpose(transpose) for rgb in found]


def _fit(side: int, picture: PIL.Image.Image, size: tuple[float, float] | None) -> PIL.Image.Image:
    """Reduce a picture to a longest side of at most `side` pixels; `size` as in `PreprocessingCrop.apply`."""
    content = size or (float(picture.width), float(picture.height))
    scale = min(1.0, side / max(content))
    width, height = (max(1, round(length * scale)) for length in content)
    if (width, height) == picture.size:
        return picture
    return picture.resize((width, height), Resampling.HAMMING, (0, 0, *content), reducing_gap=2)


def _to_jpeg(picture: PIL.Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _load(opened: OpenedPicture, draft_side: int) -> tuple[PIL.Image.Image, tuple[float, float] | None]:
    """Decode the pixels; also the size of the content, where the blocks of a reduced JPEG extend beyond it."""
    picture = opened.picture
    if not isinstance(picture, ImageFile):
        return picture, None
    drafted = picture.draft(None, (draft_side, draft_side)) if draft_side else None
    try:
        picture.load()
    except OSError:
        if not isinstance(picture, JpegImageFile):
            raise
        picture = decode_without_end_marker(opened.data, draft_side)
    return picture, drafted[1][2:] if drafted else None


def _orientation(picture: PIL.Image.Image) -> int:
    # After load: Pillow turns a TIFF upright itself, and then drops the tag.
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata does not make the picture invalid
        return 1


def _flatten(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Put a transparent picture on white."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    foreground = picture.convert("RGBA")
    background = PIL.Image.new("RGB", foreground.size, "white")
    background.paste(foreground, mask=foreground.getchannel("A"))
    return background
