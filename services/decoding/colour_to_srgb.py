"""Convert a picture's pixels to sRGB with its ICC profile."""

import io
from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL import ImageCms

Transform = Callable[[PIL.Image.Image], PIL.Image.Image]

_CACHED_BYTES = 2**20
"""Size of the largest profile whose transform is cached for the next picture."""
_SPACES = {"RGB": "RGB ", "RGBA": "RGB ", "L": "GRAY", "CMYK": "CMYK"}


def convert_to_srgb(picture: PIL.Image.Image, profile: bytes, grey: bool = False) -> PIL.Image.Image:
    """Convert a picture to sRGB.

    Args:
        picture: 8 bits a channel, any mode.
        profile: as from `services.decoding.find_colour_profile.find_profile`. A profile that is damaged,
            or belongs to another kind of picture, is ignored, as in viewers.
        grey: whether the picture is greyscale even if its mode has colours.

    Returns:
        The same picture if there is nothing to do, otherwise one of mode RGB or RGBA.
    """
    if not profile:
        return picture
    plain = _to_profile_mode(picture, grey)
    alpha = plain.getchannel("A") if plain.mode == "LA" else None
    if alpha is not None:
        plain = plain.getchannel("L")
    if plain.mode not in _SPACES or profile[16:20] != _SPACES[plain.mode].encode():
        return picture
    transform = (_cached_transform if len(profile) <= _CACHED_BYTES else _transform)(profile, plain.mode)
    if transform is None:
        return picture
    converted = transform(plain)
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _to_profile_mode(picture: PIL.Image.Image, grey: bool) -> PIL.Image.Image:
    """Convert to a mode with the channels of a profile, and transparency as an alpha channel."""
    if picture.has_transparency_data:
        return picture.convert("LA" if grey or picture.mode in ("1", "L", "La", "LA") else "RGBA")
    match picture.mode:
        case "1":
            return picture.convert("L")
        case "P" | "YCbCr":
            return picture.convert("RGB")
    return picture


def _transform(profile: bytes, mode: str) -> Transform | None:
    """The transform of a mode to sRGB; None if the profile has none, or it changes nothing."""
    output = "RGBA" if mode == "RGBA" else "RGB"
    # The optimised curve of a grey profile has too few nodes in the shadows.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.ImageCmsTransform(source, _srgb(), mode, output, flags=flags)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        return None
    if mode == "CMYK":
        return transform.apply
    samples = _test_colours().convert(mode)
    converted = np.asarray(transform.apply(samples))
    if np.abs(converted.astype(np.int16) - np.asarray(samples.convert(output))).max() <= 1:
        return None
    return _by_level(converted[0, -256:]) if mode == "L" else transform.apply


def _by_level(levels: NDArray[np.uint8]) -> Transform:
    """Map each grey level to a colour [256, 3]."""
    tables = levels.T.tolist()
    return lambda picture: PIL.Image.merge("RGB", [picture.point(table) for table in tables])


_cached_transform = lru_cache(maxsize=16)(_transform)


@lru_cache(maxsize=1)
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@lru_cache(maxsize=1)
def _test_colours() -> PIL.Image.Image:
    """Colours from the whole space, and every grey."""
    colours = [*product(range(0, 256, 51), repeat=3), *((level,) * 3 for level in range(256))]
    return PIL.Image.fromarray(np.array([colours], np.uint8))
