"""The chunks of a PNG (W3C PNG, third edition), so that only those that make pixels come to Pillow's reader.

Pillow calls a PNG damaged for a text that it finds too long, or for a sum that is wrong in a chunk that no viewer
needs.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from visual_memory.services.decoding.icc_profiles import MAX_PROFILE_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_COLOURS = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"}
_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
_ORIENTATIONS = {b"XML:com.adobe.xmp", b"Raw profile type exif"}
"""Texts that may say which way is up, and that Pillow reads for it."""
_MOST_TEXT = 2**20 - 1


@dataclass(frozen=True)
class Png:
    """A PNG without what makes no pixels.

    Attributes:
        data: the bytes of its file.
        colours: the chunks that say what its colours mean, by name.
        grey: whether it has no colours.
        depth: bits of a sample.
    """

    data: bytes
    colours: dict[bytes, bytes]
    grey: bool
    depth: int


def strip_ancillary_chunks(data: bytes) -> Png:
    """Leave out animation, texts and all other chunks that make no pixels, however damaged they are."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    colours, seen = dict[bytes, bytes](), False
    for name, body, whole in _chunks(data):
        seen = seen or name == b"IDAT"
        if name in _PIXELS:
            kept.append(whole)
        elif name in _COLOURS and not seen and _is_sound(name, body, whole):
            colours.setdefault(name, bytes(body))
        elif name == b"eXIf" and _is_sound(name, body, whole):
            kept.append(whole)
        elif name in _TEXTS and (text := _orientation(name, bytes(body))) is not None:
            kept.append(_chunk(b"tEXt", text))
    return Png(b"".join(kept), colours, data[25:26] in (b"\0", b"\4"), int.from_bytes(data[24:25]))


def decompress_profile(body: bytes) -> bytes | None:
    """The colour profile in a chunk iCCP; None where it is damaged or too large."""
    name, _, packed = body.partition(b"\0")
    if not name or packed[:1] != b"\0":
        return None
    return _inflated(packed[1:], MAX_PROFILE_BYTES)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Name, body and whole of each; the last may be cut off."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, view[at + 8 : at + 8 + length], view[at : at + 12 + length]
        at += 12 + length
        if name == b"IEND":
            return


def _is_sound(name: bytes, body: memoryview, whole: memoryview) -> bool:
    return len(whole) == len(body) + 12 and whole[-4:] == struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _orientation(name: bytes, body: bytes) -> bytes | None:
    """A text that may hold an orientation as keyword and text, if it is sound and not too long."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _ORIENTATIONS:
        return None
    text: bytes | None = rest
    if name == b"zTXt":
        text = _inflated(rest[1:], _MOST_TEXT)
    elif name == b"iTXt":
        _, _, text = [*rest[2:].split(b"\0", 2), b"", b""][:3]
        text = _inflated(text, _MOST_TEXT) if rest[:1] == b"\1" else text
    return keyword + b"\0" + text if text and len(text) <= _MOST_TEXT else None


def _inflated(packed: bytes, most: int) -> bytes | None:
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, most)
    except zlib.error:
        return None
    return text if inflate.eof else None
