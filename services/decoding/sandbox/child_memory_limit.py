"""Compute how much address space a child process may use, from the largest picture that is accepted."""

from visual_memory.services.decoding.picture_limits import PictureLimits

BYTES_PER_PIXEL = 40
"""A TIFF of four 64-bit channels needs most, 36 bytes; a JPEG needs 12."""
BASE_BYTES = 64 * 2**20
FILE_COPIES = 4
"""How many copies of a file may be in memory: as received, as read, and in the codec's buffers."""


def child_memory_limit(limits: PictureLimits) -> int:
    """How many bytes a process may allocate beyond those that it has before its first picture."""
    return BASE_BYTES + BYTES_PER_PIXEL * limits.max_pixels + FILE_COPIES * limits.max_bytes
