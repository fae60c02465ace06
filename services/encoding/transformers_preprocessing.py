"""Take over the resize and the centre crop of a transformers image processor, which still scales and normalises.

The processor's own resize, with Pillow and numpy, takes several times as long and needs the whole decoded picture.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image
import torch
from PIL.Image import Resampling, Transpose

from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.encoding.resize_to_tensor import Filter, resize_to_tensor

FILTERS: dict[int, Filter] = {Resampling.BICUBIC: "bicubic", Resampling.BILINEAR: "bilinear"}
SQUASHED_FROM = 384
"""From this side on, a processor with a `crop_pct` squashes the whole picture instead (Liu 2022, ConvNeXt)."""
MIN_AGREEMENT = 0.999
"""Minimum cosine of our pixels to the processor's own; another scale or crop gives about 0.99."""

Preprocess = Callable[[Sequence[PIL.Image.Image]], Mapping[str, Any]]


@dataclass(frozen=True)
class Resize:
    """How a processor resizes.

    Attributes:
        crop: the part of a picture that it uses.
        size: width and height of the result; None: the short side becomes `crop.resize_side`.
        by: the interpolation.
    """

    crop: PreprocessingCrop
    size: tuple[int, int] | None
    by: Filter

    def __call__(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """Resize a cropped picture to the model's input size."""
        scale = self.crop.resize_side / min(picture.size)
        size = self.size or (
            max(self.crop.resize_side, int(picture.width * scale)),
            max(self.crop.resize_side, int(picture.height * scale)),
        )
        return PIL.Image.fromarray(resize_to_tensor(picture, size, self.by)[0].permute(1, 2, 0).numpy())


def take_over_resize(processor: Any, preprocess: Preprocess) -> Resize | None:
    """Switch off a processor's resize if it is a known one.

    Args:
        processor: an image processor, or an object with one; None: there is none.
        preprocess: calls the processor and returns its ``pixel_values``.

    Returns:
        The resize to apply instead; None if the processor does something else, which it then continues to do.
    """
    images = getattr(processor, "image_processor", processor)
    resize = _read(images)
    if resize is None:
        return None
    expected = [_pixels(preprocess, picture) for picture in _test_pictures()]
    switched_off = {"do_resize": False} | ({"do_center_crop": False} if resize.crop.crop_side else {})
    before = {name: getattr(images, name, None) for name in switched_off}
    _set(images, switched_off)
    ours = [_pixels(preprocess, resize(resize.crop.apply(picture))) for picture in _test_pictures()]
    if all(_agree(one, other) for one, other in zip(expected, ours, strict=True)):
        return resize
    _set(images, before)
    return None


def _read(images: Any) -> Resize | None:
    """The resize that a processor's settings describe."""
    resample = getattr(images, "resample", None)
    by = FILTERS.get(Resampling.BILINEAR if resample is None else resample)
    size = {name: value for name, value in dict(getattr(images, "size", None) or {}).items() if value}
    if by is None or not getattr(images, "do_resize", False):
        return None
    match size:
        case {"shortest_edge": int(side), **rest} if not rest:
            return _by_short_side(images, side, by)
        case {"height": int(height), "width": int(width), **rest} if not rest:
            return Resize(PreprocessingCrop(max(width, height), squash=True), (width, height), by)
    return None


def _by_short_side(images: Any, side: int, by: Filter) -> Resize:
    fraction = getattr(images, "crop_pct", None)
    if fraction and side >= SQUASHED_FROM:
        return Resize(PreprocessingCrop(side, squash=True), (side, side), by)
    if fraction:
        return Resize(PreprocessingCrop(int(side / fraction), side), (side, side), by)
    crop_size = dict(getattr(images, "crop_size", None) or {}) if getattr(images, "do_center_crop", False) else {}
    crop = crop_size.get("height")
    if crop and crop == crop_size.get("width") and crop <= side:
        return Resize(PreprocessingCrop(side, crop), (crop, crop), by)
    return Resize(PreprocessingCrop(side), None, by)


def _test_pictures() -> list[PIL.Image.Image]:
    """A wide and a high picture without detail, in which every part looks different."""
    slope, rings = PIL.Image.linear_gradient("L"), PIL.Image.radial_gradient("L")
    wide = PIL.Image.merge("RGB", (slope, slope.transpose(Transpose.ROTATE_90), rings)).resize((600, 450))
    return [wide, wide.transpose(Transpose.TRANSPOSE)]


def _pixels(preprocess: Preprocess, picture: PIL.Image.Image) -> torch.Tensor | None:
    pixels = preprocess([picture]).get("pixel_values")
    return pixels if isinstance(pixels, torch.Tensor) else None


def _agree(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    one, other = ((each - each.mean()).flatten().float() for each in (one, other))
    return float(torch.cosine_similarity(one, other, 0)) >= MIN_AGREEMENT


def _set(images: Any, settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        setattr(images, name, value)
