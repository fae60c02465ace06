"""Serialize decoded pixels, which are cached next to the picture's file until the encoder has embedded it."""

import struct
import zlib

import PIL.Image

from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop

MAX_PACKED_BYTES = 4 * 2**20
"""Larger pictures, such as panoramas, are decoded again: otherwise a small file could fill a disk."""
_HEADER = struct.Struct("!IIIIIII")


Size = tuple[int, int]


def pack(size: Size, pixels: bytes | bytearray, crop: PreprocessingCrop) -> bytes:
    """Put a header with the crop, the size and a checksum before the pixels.

    Args:
        size: width and height.
        pixels: RGB, as `services.decoding.pillow_decode.decode` returns them for this `crop`.
        crop: as in `decode`.
    """
    return _HEADER.pack(*_crop_fields(crop), *size, zlib.crc32(pixels)) + pixels


def unpack(packed: bytes, crop: PreprocessingCrop) -> PIL.Image.Image | None:
    """The picture; None if the bytes are damaged or belong to another crop."""
    if len(packed) <= _HEADER.size:
        return None
    *packed_crop, width, height, checksum = _HEADER.unpack_from(packed)
    pixels = memoryview(packed)[_HEADER.size :]
    if packed_crop != _crop_fields(crop):
        return None
    if len(pixels) != 3 * width * height or zlib.crc32(pixels) != checksum:
        return None
    return PIL.Image.frombytes("RGB", (width, height), pixels)


def _crop_fields(crop: PreprocessingCrop) -> list[int]:
    return [crop.version, crop.resize_side, crop.crop_side, crop.squash]
