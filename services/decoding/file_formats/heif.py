"""AVIF and HEIC: pictures in boxes (HEIF, ISO 23008-12)."""

from typing import Any

import pillow_heif
from PIL import AvifImagePlugin

from visual_memory.services.decoding.file_formats.recognise_format import AVIF, Format

_READABLE = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded side by side, not parts of one
# No thumbnail is taken for the picture, which it need not show, and no thread is started beside the codec's own one.
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)


def with_known_brand(data: bytes, found: Format) -> bytes:
    """The same file, its first brand one that Pillow's readers know: which kind it is of is settled already."""
    return data if data[8:12] in _READABLE else data[:8] + (b"avif" if found is AVIF else b"heic") + data[12:]


def nclx_profile(data: bytes) -> dict[str, Any]:
    """What an AVIF says of its colours by code points (H.273), which Pillow does not tell; as pillow-heif tells it."""
    at = data.find(b"colrnclx")
    if at < 0 or len(data) < at + 14:
        return {}
    primaries, transfer = (int.from_bytes(data[place : place + 2]) for place in (at + 8, at + 10))
    return {"nclx_profile": {"color_primaries": primaries, "transfer_characteristics": transfer}}
