"""Remove the chunks of a PNG that do not affect its pixels (W3C PNG, third edition).

Pillow rejects a PNG for an over-long text, or for a wrong checksum in a chunk that no viewer needs.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from visual_memory.services.decoding.build_icc_profile import MAX_PROFILE_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_COLOUR_CHUNKS = {b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM"}
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_ORIENTATION_KEYWORDS = {b"XML:com.adobe.xmp", b"Raw profile type exif"}
"""Keywords of texts in which Pillow looks for the orientation."""
_MAX_TEXT_BYTES = 2**20 - 1


@dataclass(frozen=True)
class Png:
    """A PNG without the chunks that do not affect its pixels.

    Attributes:
        data: the bytes of its file.
        colours: the chunks that define its colour space, by name.
        grey: whether it is greyscale.
        depth: bits per sample.
    """

    data: bytes
    colours: dict[bytes, bytes]
    grey: bool
    depth: int


def strip_ancillary_chunks(data: bytes) -> Png:
    """Remove animation, texts and all other chunks that do not affect the pixels, however damaged they are."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    colours, seen_pixels = dict[bytes, bytes](), False
    for name, body, whole in _chunks(data):
        seen_pixels = seen_pixels or name == b"IDAT"
        if name in _PIXEL_CHUNKS:
            kept.append(whole)
        elif name in _COLOUR_CHUNKS and not seen_pixels and _is_sound(name, body, whole):
            colours.setdefault(name, bytes(body))
        elif name == b"eXIf" and _is_sound(name, body, whole):
            kept.append(whole)
        elif name in _TEXT_CHUNKS and (text := _orientation_text(name, bytes(body))) is not None:
            kept.append(_chunk(b"tEXt", text))
    return Png(b"".join(kept), colours, data[25:26] in (b"\0", b"\4"), int.from_bytes(data[24:25]))


def decompress_profile(body: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk; None if it is damaged or too large."""
    name, _, packed = body.partition(b"\0")
    if not name or packed[:1] != b"\0":
        return None
    return _decompress(packed[1:], MAX_PROFILE_BYTES)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Name, body and all bytes of each chunk; the last may be truncated."""
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


def _orientation_text(name: bytes, body: bytes) -> bytes | None:
    """Keyword and text of a chunk that may contain the orientation, if it is sound and not too long."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _ORIENTATION_KEYWORDS:
        return None
    text: bytes | None = rest
    if name == b"zTXt":
        text = _decompress(rest[1:], _MAX_TEXT_BYTES)
    elif name == b"iTXt":
        _, _, text = [*rest[2:].split(b"\0", 2), b"", b""][:3]
        text = _decompress(text, _MAX_TEXT_BYTES) if rest[:1] == b"\1" else text
    return keyword + b"\0" + text if text and len(text) <= _MAX_TEXT_BYTES else None


def _decompress(packed: bytes, max_bytes: int) -> bytes | None:
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(packed, max_bytes)
    except zlib.error:
        return None
    return text if decompressor.eof else None
