"""Read the size from a WebP's header, and remove metadata and truncated chunks (RFC 9649)."""


def read_webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP (RFC 9649, section 2).

    Pillow's reader allocates memory for the pixels before it reports their number.

    Returns:
        None if the header does not contain them.
    """
    chunk, header = data[12:16], data[20:30]
    if len(header) < 10:
        return None
    match chunk:
        case b"VP8X":
            return 1 + int.from_bytes(header[4:7], "little"), 1 + int.from_bytes(header[7:10], "little")
        case b"VP8L":
            bits = int.from_bytes(header[1:5], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF
    return None


def strip_incomplete_chunks(data: bytes) -> bytes:
    """Keep the complete chunks of a WebP, without EXIF and XMP: these follow the pixels and may be truncated."""
    kept, at = b"WEBP", 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if end > len(data):
            break
        name, body = data[at : at + 4], data[at:end]
        if name == b"VP8X":
            body = body[:8] + bytes([body[8] & ~0x0C]) + body[9:]  # clears the flags for EXIF and XMP
        kept += b"" if name in (b"EXIF", b"XMP ") else body + bytes(len(body) % 2)
        at = end + end % 2
    return b"RIFF" + len(kept).to_bytes(4, "little") + kept
