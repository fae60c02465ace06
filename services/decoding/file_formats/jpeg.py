"""The segments of a JPEG (ITU-T T.81, annex B): what can be known of it without decoding it."""

import re
from collections.abc import Iterator

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")
_PROGRESSIVE, _SCAN = (0xC2, 0xCA), 0xDA
_APPLICATIONS = range(0xE0, 0xF0)
_COMMENT = 0xFE
_NEEDED = {0xE1: (b"Exif\0\0", 6), 0xE2: (b"ICC_PROFILE\0", 14), 0xEE: (b"Adobe", 12)}
"""What applications say that makes pixels: how it begins, and how long it is at least."""


def unsupported_jpeg_kind(data: bytes) -> str | None:
    """What a JPEG of a kind that no reader here reads is called; None where it is of another kind."""
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
    """Whether a JPEG's scans, all that there are, hold every bit of its coefficients (T.81, annex G).

    One that is not progressive has a single scan for each of its channels, without which it has no pixels there.
    """
    lacking: set[tuple[int, int]] = set()
    for marker, body in _segments(data):
        if marker in _PROGRESSIVE:
            lacking = {(body[at], place) for at in range(6, len(body) - 2, 3) for place in range(64)}
        elif marker == _SCAN and len(body) >= 2 * body[0] + 4:
            first, last, bits = body[-3:]
            if not bits & 0x0F:
                lacking -= {(body[1 + 2 * each], place) for each in range(body[0]) for place in range(first, last + 1)}
    return not lacking


def strip_metadata(data: bytes) -> bytes:
    """Leave out what applications say, but for what makes pixels: Pillow calls a JPEG damaged for an odd note in it."""
    kept, end = [], 0
    for marker, start, after in _places(data):
        if marker == _SCAN:
            break
        begins, least = _NEEDED.get(marker, (b"", 0))
        if marker == _COMMENT or (marker in _APPLICATIONS and not (least and _says(data[start:after], begins, least))):
            kept.append(data[end : start - 4])
            end = after
    return b"".join([*kept, data[end:]])


def _says(body: bytes, begins: bytes, least: int) -> bool:
    return body.startswith(begins) and len(body) >= least


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment that has one (T.81, annex B); the last may be cut off."""
    return ((marker, data[start:end]) for marker, start, end in _places(data))


def _places(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker of each segment, and where its body begins and ends; none is empty."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        start = found.end() + 2
        at = found.end() + int.from_bytes(data[found.end() : start])
        if at > len(data):
            return
        if at > start:
            yield found[0][-1], start, at
