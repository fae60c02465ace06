"""Inspect and clean a JPEG's segments without decoding it (ITU-T T.81, annex B)."""

import re
from collections.abc import Iterator

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")
_PROGRESSIVE, _SCAN = (0xC2, 0xCA), 0xDA
_APPLICATIONS = range(0xE0, 0xF0)
_COMMENT = 0xFE
_NEEDED = {0xE1: (b"Exif\0\0", 6), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 12)}
"""Application segments that affect the pixels: prefix and minimum length."""


def unsupported_jpeg_kind(data: bytes) -> str | None:
    """A name for a kind of JPEG that cannot be decoded; None for other kinds."""
    for marker, body in _segments(data):
        if marker == 0xF7:
            return "a JPEG-LS"
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            bits, channels = body[0], body[5]
            if bits != 8:
                return f"a JPEG of {bits} bits a channel"
            if channels not in (1, 3, 4):
                return f"a JPEG of {channels} channels"
            return None if marker in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA) else "a lossless or hierarchical JPEG"
    return None


def has_all_scans(data: bytes) -> bool:
    """Whether a JPEG's scans contain every bit of its coefficients (T.81, annex G).

    A baseline JPEG has one scan for each channel, without which the channel has no pixels.
    """
    missing: set[tuple[int, int]] = set()
    for marker, body in _segments(data):
        if marker in _PROGRESSIVE:
            missing = {(body[at], coefficient) for at in range(6, len(body) - 2, 3) for coefficient in range(64)}
        elif marker == _SCAN and len(body) >= 2 * body[0] + 4:
            first, last, bits = body[-3:]
            if not bits & 0x0F:
                coefficients = range(first, last + 1)
                missing -= {(body[1 + 2 * channel], each) for channel in range(body[0]) for each in coefficients}
    return not missing


def strip_metadata(data: bytes) -> bytes:
    """Remove comments and application segments that do not affect the pixels; Pillow rejects files for odd ones."""
    kept, end = [], 0
    for marker, start, after in _segment_ranges(data):
        if marker == _SCAN:
            break
        prefix, minimum = _NEEDED.get(marker, (b"", 0))
        needed = minimum > 0 and after - start >= minimum and data.startswith(prefix, start)
        if marker == _COMMENT or (marker in _APPLICATIONS and not needed):
            kept.append(data[end : start - 4])
            end = after
    return b"".join([*kept, data[end:]])


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment with a body (T.81, annex B); the last may be truncated."""
    return ((marker, data[start:end]) for marker, start, end in _segment_ranges(data))


def _segment_ranges(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker of each segment, start and end of its body; none is empty."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        start = found.end() + 2
        at = found.end() + int.from_bytes(data[found.end() : start])
        if at > len(data):
            return
        if at > start:
            yield found[0][-1], start, at
