"""Ids that sort by the moment at which they were made."""

import secrets
import time
import uuid

VERSION = 7
NANOSECONDS_PER_MILLISECOND = 1_000_000
FRACTION_BITS, RANDOM_BITS = 12, 62


def time_ordered_id() -> str:
    """A new UUID of version 7 (RFC 9562): milliseconds, a fraction of one in 12 bits, and 62 random bits."""
    milliseconds, rest = divmod(time.time_ns(), NANOSECONDS_PER_MILLISECOND)
    fraction = (rest << FRACTION_BITS) // NANOSECONDS_PER_MILLISECOND
    high = (milliseconds & (1 << 48) - 1) << 16 | VERSION << FRACTION_BITS | fraction
    return str(uuid.UUID(int=high << 64 | 2 << RANDOM_BITS | secrets.randbits(RANDOM_BITS)))
