"""Recognise a picture's format from its first bytes, before any of Pillow's readers sees them."""

from dataclasses import dataclass

from visual_memory.schemas.errors import InvalidPicture, UnsupportedFormat
from visual_memory.services.decoding.file_formats.jpeg import unsupported_jpeg_kind

ACCEPTED = "JPEG, PNG, WebP, AVIF, HEIC, BMP, GIF or TIFF"


@dataclass(frozen=True)
class Format:
    """An accepted file format.

    Attributes:
        name: its common name.
        media_type: as registered with IANA.
        reader: Pillow's name of it.
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
_ACCEPTED_SIGNATURES = {
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
_REFUSED_SIGNATURES = {
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
    """Recognise the format of a picture.

    Args:
        data: its file, or at least the first 1,024 bytes.

    Raises:
        InvalidPicture: there are no bytes, or they have the signature of no picture format.
        UnsupportedFormat: the format is not accepted.
    """
    if not data:
        raise InvalidPicture(f"the picture is empty; send a {ACCEPTED} file")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return WEBP
    for signature, accepted in _ACCEPTED_SIGNATURES.items():
        if data.startswith(signature):
            return accepted
    if data[4:8] == b"ftyp":
        return _recognise_brand(data)
    refused = _refused_name(data)
    if refused:
        raise unsupported_format(refused)
    raise InvalidPicture(f"the bytes are not a picture; send a {ACCEPTED} file")


def media_type(data: bytes) -> str:
    """The media type, such as ``image/jpeg``, from the first bytes alone.

    Raises:
        InvalidPicture, UnsupportedFormat: as `recognise_format`.
    """
    return recognise_format(data).media_type


def unsupported_format(what: str) -> UnsupportedFormat:
    """The error for an intact picture of a kind that is not accepted."""
    return UnsupportedFormat(f"the picture is {what}; send a {ACCEPTED} file")


def unsupported_kind(data: bytes, found: Format) -> str | None:
    """A name for the kind of a picture that its reader failed on; None if that is not why it failed."""
    if found is PNG and data[12:16] == b"CgBI":
        return "a PNG for iPhone programs (CgBI)"
    if found is HEIC and b"hvc1" not in data:
        return "a HEIF of another codec than HEVC"
    if found is HEIC and b"pitm" not in data and b"moov" in data:
        return "a HEIC with a film and no picture"
    return unsupported_jpeg_kind(data) if found is JPEG else None


def _recognise_brand(data: bytes) -> Format:
    """The format in an ISO base media file (ISO 14496-12), by the brands in its ``ftyp`` box."""
    end = min(int.from_bytes(data[:4]), 1024)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    if brands & (_HEIC_BRANDS | _HEIF_BRANDS):
        return HEIC
    raise unsupported_format("a video or another picture in an MP4 container")


def _refused_name(data: bytes) -> str | None:
    if b"<svg" in data[:1024]:
        return "SVG"
    return next((name for signature, name in _REFUSED_SIGNATURES.items() if data.startswith(signature)), None)
