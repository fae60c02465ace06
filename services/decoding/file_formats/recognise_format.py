"""Which format bytes are of, by their first bytes alone: none of Pillow's readers sees what is not taken anyway."""

from dataclasses import dataclass

from visual_memory.schemas.errors import InvalidPicture, UnsupportedFormat
from visual_memory.services.decoding.file_formats.jpeg import unsupported_jpeg_kind

ACCEPTED = "JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF"


@dataclass(frozen=True)
class Format:
    """A format that is taken.

    Attributes:
        name: what people call it.
        media_type: as registered with IANA.
        reader: Pillow's name for it.
    """

    name: str
    media_type: str
    reader: str


JPEG = Format("JPEG", "image/jpeg", "JPEG")
PNG = Format("PNG", "image/png", "PNG")
WEBP = Format("WebP", "image/webp", "WEBP")
AVIF = Format("AVIF", "image/avif", "AVIF")
HEIC = Format("HEIC", "image/heic", "HEIF")
GIF = Format("GIF", "image/gif", "GIF")
BMP = Format("BMP", "image/bmp", "BMP")
TIFF = Format("TIFF", "image/tiff", "TIFF")
_TAKEN = {
    b"\xff\xd8\xff": JPEG,
    b"\x89PNG\r\n\x1a\n": PNG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"BM": BMP,
    b"II*\x00": TIFF,
    b"MM\x00*": TIFF,
    b"II+\x00": TIFF,
    b"MM\x00+": TIFF,
}
_REFUSED = {
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x01\x00": "an icon (ICO)",
    b"8BPS": "Photoshop (PSD)",
    b"qoif": "QOI",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"msf1"}


def recognise_format(data: bytes) -> Format:
    """The format of a picture.

    Args:
        data: its file, or at least the first 1,024 bytes.

    Raises:
        InvalidPicture: there are no bytes, or they begin like no picture.
        UnsupportedFormat: it is a format that is not taken.
    """
    if not data:
        raise InvalidPicture(f"the picture is empty; send a {ACCEPTED} file")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    for start, taken in _TAKEN.items():
        if data.startswith(start):
            return taken
    if data[4:8] == b"ftyp":
        return _in_boxes(data)
    refused = _refused(data)
    if refused:
        raise unsupported_format(refused)
    raise InvalidPicture(f"the bytes are not a picture; send a {ACCEPTED} file")


def unsupported_format(what: str) -> UnsupportedFormat:
    """The error for a picture that is whole, and of a kind that is not taken."""
    return UnsupportedFormat(f"the picture is {what}; send a {ACCEPTED} file")


def unsupported_kind(data: bytes, found: Format) -> str | None:
    """What a picture that its reader could not read is called, if it is of a kind that no reader here reads."""
    if found is PNG and data[12:16] == b"CgBI":
        return "a PNG for iPhone programs (CgBI)"
    if found is HEIC and b"hvc1" not in data:
        return "a HEIF of another codec than HEVC"
    if found is HEIC and b"pitm" not in data and b"moov" in data:
        return "a HEIC with a film and no picture"
    return unsupported_jpeg_kind(data) if found is JPEG else None


def read_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height as a WebP says (RFC 9649, section 2): Pillow's reader makes room for them before it tells them.

    Returns:
        None where the first bytes do not say.
    """
    chunk, head = data[12:16], data[20:30]
    if len(head) < 10:
        return None
    match chunk:
        case b"VP8X":
            return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
        case b"VP8L":
            bits = int.from_bytes(head[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    return None


def strip_incomplete_chunks(data: bytes) -> bytes:
    """A WebP that has only what is whole of it, and no metadata: these come after its pixels, and may be cut off."""
    kept, at = b"WEBP", 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            break
        name, body = data[at : at + 4], data[at:end]
        if name == b"VP8X":
            body = body[:8] + bytes([body[8] & ~0x0C]) + body[9:]  # it says that there is no EXIF and no XMP
        kept += b"" if name in (b"EXIF", b"XMP ") else body + bytes(len(body) % 2)
        at = end + end % 2
    return b"RIFF" + len(kept).to_bytes(4, "little") + kept


def _in_boxes(data: bytes) -> Format:
    """What is in a container of boxes (ISO 14496-12), by the brands that it says it is of."""
    end = min(int.from_bytes(data[:4]), 1024)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & (_HEIC_BRANDS | _HEIF_BRANDS):
        return HEIC
    raise unsupported_format("a video or another picture in an MP4 container")


def _refused(data: bytes) -> str | None:
    if b"<svg" in data[:1024]:
        return "SVG"
    return next((name for start, name in _REFUSED.items() if data.startswith(start)), None)
