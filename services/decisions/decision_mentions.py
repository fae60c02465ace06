"""What stored decisions tell of, as numbers by which a removal finds them without reading them all.

A decision tells of the images that voted, of the content and the vector that were asked with, and of whatever its
filter names. Each of these is a number of 64 bits, which is not the thing itself: where two are alike by chance, a
decision is read for nothing.
"""

from collections.abc import Iterable
from hashlib import blake2b

from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.removal.values_named_in_filters import named_values

IMAGE, CONTENT, VECTOR, NAMED = "image", "content", "vector", "named"


def mention_number(tenant: str, kind: str, value: str) -> int:
    """The number of one thing."""
    return int.from_bytes(blake2b(f"{kind}\0{tenant}\0{value}".encode(), digest_size=8).digest(), "big", signed=True)


def mentions_of(tenant: str, stored: StoredDecision) -> set[int]:
    """Everything that a decision tells of."""
    found = {mention_number(tenant, IMAGE, each.image_id) for each in stored.decision.neighbours}
    found |= vector_mentions(tenant, vector_digests(query_vector(stored)[None])[0])
    found |= {mention_number(tenant, NAMED, name) for name in named_values(stored.options.filter)}
    if stored.content_hash is not None:
        found.add(mention_number(tenant, CONTENT, stored.content_hash))
    return found


def vector_mentions(tenant: str, digests: Iterable[str]) -> set[int]:
    """Those of a vector, by the digests by which it is known again."""
    return {mention_number(tenant, VECTOR, digest) for digest in digests}
