"""Decode a JPEG that lacks only its end marker, and reject one that lacks pixels."""

import hashlib
import io

import PIL.Image

from visual_memory.services.decoding.file_formats.jpeg import has_all_scans

_END_MARKER = b"\xff\xd9"
_NOISE = hashlib.shake_256(b"").digest(512).replace(b"\xff", b"\0")
_MORE_DATA = _NOISE + b"".join(bytes((0xFF, 0xD0 + number)) + _NOISE for number in range(8))
"""Entropy-coded data that would become pixels if some are missing, also after each of the restart markers."""


def decode_without_end_marker(data: bytes, draft_side: int) -> PIL.Image.Image:
    """Add the end marker and decode.

    The pixels are complete if further data before the end marker changes none of them.

    Args:
        data: the file.
        draft_side: as for Pillow's draft mode; 0: full size.

    Raises:
        OSError: pixels are missing, or scans that refine them.
    """
    data = data.rstrip(b"\xff")  # half a marker
    ended, continued = (_decode(data + tail, 0) for tail in (_END_MARKER, _MORE_DATA + _END_MARKER))
    if ended.tobytes() != continued.tobytes() or not has_all_scans(data):
        raise OSError("pixels are missing")
    return _decode(data + _END_MARKER, draft_side) if draft_side else ended


def _decode(data: bytes, draft_side: int) -> PIL.Image.Image:
    picture = PIL.Image.open(io.BytesIO(data), formats=["JPEG"])
    if draft_side:
        picture.draft(None, (draft_side, draft_side))
    picture.load()
    return picture
