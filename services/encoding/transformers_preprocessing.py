"""What an image processor of transformers begins with: to resize, and to cut out the middle. Both are done for it.

Its own way, by Pillow and numpy, takes several times as long, and begins with pictures of whatever size. What it does
then, to scale and to normalise, it goes on doing.
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
"""A processor with a `crop_pct` takes the whole picture where its side is so long (Liu 2022, ConvNeXt)."""
MIN_AGREEMENT = 0.999
"""Least cosine of our pixels to the processor's own, on a picture; another scale or part was seen to give 0.99."""

Preprocess = Callable[[Sequence[PIL.Image.Image]], Mapping[str, Any]]


@dataclass(frozen=True)
class Resize:
    """How a processor resizes.

    Attributes:
        view: what it takes of a picture.
        size: width and height that it makes of it; None: the short side becomes `view.resize_side`.
        by: how pixels are weighed.
    """

    crop: PreprocessingCrop
    size: tuple[int, int] | None
    by: Filter

    def __call__(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        """A view of a picture, in the size that the model takes."""
        scale = self.crop.resize_side / min(picture.size)
        size = self.size or (
            max(self.crop.resize_side, int(picture.width * scale)),
            max(self.crop.resize_side, int(picture.height * scale)),
        )
        return PIL.Image.fromarray(resize_to_tensor(picture, size, self.by)[0].permute(1, 2, 0).numpy())


def take_over_resize(processor: Any, preprocess: Preprocess) -> Resize | None:
    """Have a processor resize no more, if what it does is one of the usual ways.

    Args:
        processor: an image processor, or what holds one; None: there is none.
        preprocess: calls it, and gives its ``pixel_values``.

    Returns:
        What is to be done instead; None where it does something else, which it goes on doing.
    """
    images = getattr(processor, "image_processor", processor)
    resize = _read(images)
    if resize is None:
        return None
    own = [_pixels(preprocess, picture) for picture in _pictures()]
    left = {"do_resize": False} | ({"do_center_crop": False} if resize.crop.crop_side else {})
    before = {name: getattr(images, name, None) for name in left}
    _set(images, left)
    ours = [_pixels(preprocess, resize(resize.crop.apply(picture))) for picture in _pictures()]
    if all(_agree(one, other) for one, other in zip(own, ours, strict=True)):
        return resize
    _set(images, before)
    return None


def _read(images: Any) -> Resize | None:
    """What a processor's settings seem to say."""
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
    part = getattr(images, "crop_pct", None)
    if part and side >= SQUASHED_FROM:
        return Resize(PreprocessingCrop(side, squash=True), (side, side), by)
    if part:
        return Resize(PreprocessingCrop(int(side / part), side), (side, side), by)
    cut = dict(getattr(images, "crop_size", None) or {}) if getattr(images, "do_center_crop", False) else {}
    crop = cut.get("height")
    if crop and crop == cut.get("width") and crop <= side:
        return Resize(PreprocessingCrop(side, crop), (crop, crop), by)
    return Resize(PreprocessingCrop(side), None, by)


def _pictures() -> list[PIL.Image.Image]:
    """A wide and a high one without detail, in which every part looks different."""
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
