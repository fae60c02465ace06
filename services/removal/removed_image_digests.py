"""Tombstones: digests by which what a removal covered is known again, and from which nobody learns what it was."""

import hmac
from hashlib import sha256

from visual_memory.services.memory.points.point_payload import point_id


def tombstone(picture: str) -> str:
    """That of a picture, by its key: a key is new with each acceptance and random, so its digest tells nothing."""
    return sha256(picture.encode()).hexdigest()


def image_tombstone(key: bytes, tenant: str, image_id: str) -> str:
    """That of an image, whatever picture it had; keyed, for its id is a caller's.

    Args:
        key: 32 secret bytes, for this purpose alone.
        tenant: whose image.
        image_id: its id.
    """
    return hmac.digest(key, point_id(tenant, image_id).encode(), sha256).hex()
