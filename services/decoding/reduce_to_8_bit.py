"""Reduce samples with more than 8 bits, as in PNGs and TIFFs, to a byte each."""

import numpy as np
import PIL.Image

from visual_memory.services.decoding.preprocessing_crop import Preprocessing


def reduce_to_8_bit(picture: PIL.Image.Image, version: Preprocessing) -> PIL.Image.Image:
    """Scale the samples of a picture in Pillow's modes I;16, I and F; Pillow's own conversion clips them."""
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.uint16)
        shown = values // 257 if version == 1 else np.rint(values / np.float32(257))
        transparent = picture.info.get("transparency")
        return PIL.Image.fromarray(np.where(values == transparent, 255, shown).astype(np.uint8))
    if picture.mode not in ("I", "F"):
        return picture
    # A TIFF in version 1: black is the lowest value and white the highest.
    values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0.0, neginf=0.0)
    low, span = values.min(), np.ptp(values)
    return PIL.Image.fromarray(np.rint((values - low) * (255 / span if span else 0)).astype(np.uint8))
