"""Which format bytes are of, by their first bytes alone: none of Pillow's readers sees what is not taken anyway."""

from dataclasses import dataclass

from schemas.errors import InvalidPicture, UnsupportedFormat

ACCEPTED = "JPEG, PNG, WebP, BMP, GIF or TIFF"


@dataclass(frozen=True)
class Format:
    """A format that is taken.

    Attributes:
        name: what people call it; also Pillow's name for it, but for the case.
        media_type: as registered with IANA.
    """

    name: str
    media_type: str


_TAKEN = {
    b"\xff\xd8\xff": Format("JPEG", "image/jpeg"),
    b"\x89PNG\r\n\x1a\n": Format("PNG", "image/png"),
    b"GIF87a": Format("GIF", "image/gif"),
    b"GIF89a": Format("GIF", "image/gif"),
    b"BM": Format("BMP", "image/bmp"),
    b"II*\x00": Format("TIFF", "image/tiff"),
    b"MM\x00*": Format("TIFF", "image/tiff"),
    b"II+\x00": Format("TIFF", "image/tiff"),
    b"MM\x00+": Format("TIFF", "image/tiff"),
}
WEBP = Format("WebP", "image/webp")
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
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF"}


def recognise(data: bytes) -> Format:
    """The format of a picture.

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
    refused = _refused(data)
    if refused:
        raise UnsupportedFormat(f"the picture is {refused}; send a {ACCEPTED} file")
    raise InvalidPicture(f"the bytes are not a picture; send a {ACCEPTED} file")


def webp_size(data: bytes) -> tuple[int, int] | None:
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


def _refused(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "a video or another picture in an MP4 container")
    if b"<svg" in data[:1024]:
        return "SVG"
    return next((name for start, name in _REFUSED.items() if data.startswith(start)), None)
