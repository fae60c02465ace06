"""A decoded picture as bytes, so that it lies beside its file until the encoder has seen it."""

import struct
import zlib

import PIL.Image

from visual_memory.services.decoding.preprocessing_crop import View

MOST = 4 * 2**20
"""Bytes; a panorama that has more is decoded again, or a small file could fill a disk."""
_HEAD = struct.Struct("!IIIIIII")


Size = tuple[int, int]


def pack(size: Size, pixels: bytes | bytearray, view: View) -> bytes:
    """The pixels of a picture of mode RGB, after a head that tells whether they are whole.

    Args:
        size: width and height.
        pixels: of a picture as `services.decoding.pillow_decode.decode` gives it for this `view`.
        view: as there.
    """
    return _HEAD.pack(*_of(view), *size, zlib.crc32(pixels)) + pixels


def unpack(packed: bytes, view: View) -> PIL.Image.Image | None:
    """The picture; None where the bytes are damaged, or were made for another view."""
    if len(packed) <= _HEAD.size:
        return None
    *made_for, width, height, check = _HEAD.unpack_from(packed)
    pixels = memoryview(packed)[_HEAD.size :]
    if made_for != _of(view):
        return None
    if len(pixels) != 3 * width * height or zlib.crc32(pixels) != check:
        return None
    return PIL.Image.frombytes("RGB", (width, height), pixels)


def _of(view: View) -> list[int]:
    return [view.version, view.side, view.crop, view.squash]
