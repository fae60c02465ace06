"""The index by which a removal finds the stored decisions that mention what it removes, without reading all of them.

A decision mentions the images that voted, the content and the vector of its query, and the values in its filter. Each
mention is stored as a hash of 64 bits. Hashes may collide: then a decision is read that mentions something else.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b

from sqlalchemy import Connection, delete, insert, select

from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.decisions.scrub_decision import query_vector
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import decision_mentions
from visual_memory.services.memory.points.vector_digests import vector_digests
from visual_memory.services.removal.values_named_in_filters import named_values

IMAGE, CONTENT, VECTOR, NAMED = "image", "content", "vector", "named"


def mention_hash(tenant: str, kind: str, value: str) -> int:
    """The hash of one mention, a signed number of 64 bits."""
    return int.from_bytes(blake2b(f"{kind}\0{tenant}\0{value}".encode(), digest_size=8).digest(), "big", signed=True)


def mentions_of(tenant: str, stored: StoredDecision) -> set[int]:
    """The hashes of everything that a decision mentions."""
    hashes = {mention_hash(tenant, IMAGE, each.image_id) for each in stored.decision.neighbours}
    hashes |= vector_mentions(tenant, vector_digests(query_vector(stored)[None])[0])
    hashes |= {mention_hash(tenant, NAMED, name) for name in named_values(stored.options.filter)}
    if stored.content_hash is not None:
        hashes.add(mention_hash(tenant, CONTENT, stored.content_hash))
    return hashes


def vector_mentions(tenant: str, digests: Iterable[str]) -> set[int]:
    """The hashes of a vector, from its digests."""
    return {mention_hash(tenant, VECTOR, digest) for digest in digests}


def decisions_mentioning(database: Database, hashes: Iterable[int]) -> set[int]:
    """The numbers of the decisions that have any of the hashes; of every tenant, as hashes may collide."""
    numbers: set[int] = set()
    for batch in batches(hashes):
        query = select(decision_mentions.c.decision).where(decision_mentions.c.mention.in_(batch))
        with database.read() as connection:
            numbers.update(connection.execute(query).scalars())
    return numbers


def insert_mentions(connection: Connection, number: int, hashes: Collection[int]) -> None:
    """Write the mentions of a new decision."""
    connection.execute(insert(decision_mentions), [{"mention": each, "decision": number} for each in sorted(hashes)])


def replace_mentions(connection: Connection, number: int, hashes: Collection[int]) -> None:
    """Write the mentions of a decision that was changed."""
    connection.execute(delete(decision_mentions).where(decision_mentions.c.decision == number))
    insert_mentions(connection, number, hashes)
