"""Register the HEIC reader; repair the brand and read the colour code points of AVIF and HEIC (ISO 23008-12)."""

from typing import Any

import pillow_heif
from PIL import AvifImagePlugin

from visual_memory.services.decoding.file_formats.recognise_format import AVIF, Format

_READABLE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # pictures are decoded in parallel, not the tiles of one picture
# No embedded thumbnail replaces the picture, which it need not match, and only the codec's own thread is started.
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=0)


def with_known_brand(data: bytes, found: Format) -> bytes:
    """Replace a major brand that Pillow's readers do not know by one of the format that was recognised."""
    if data[8:12] in _READABLE_BRANDS:
        return data
    return data[:8] + (b"avif" if found is AVIF else b"heic") + data[12:]


def nclx_profile(data: bytes) -> dict[str, Any]:
    """The colour code points (H.273) of an AVIF, which Pillow does not expose; in pillow-heif's form."""
    at = data.find(b"colrnclx")
    if at < 0 or len(data) < at + 14:
        return {}
    primaries, transfer = (int.from_bytes(data[start : start + 2]) for start in (at + 8, at + 10))
    return {"nclx_profile": {"color_primaries": primaries, "transfer_characteristics": transfer}}
