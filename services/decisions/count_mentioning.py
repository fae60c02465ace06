"""Count the stored decisions that mention images, for the preview of a removal."""

import time
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select

from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decisions.decision_mentions import (
    CONTENT,
    IMAGE,
    NAMED,
    decisions_mentioning,
    mention_hash,
    vector_mentions,
)
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.infrastructure.records.database import batches
from visual_memory.services.infrastructure.records.tables import decisions
from visual_memory.services.removal.values_named_in_filters import named_values, value_name


def count_mentioning(
    stored: StoredDecisions, tenant: str, condition: Filter, pages: Iterable[Sequence[StoredImage]], seconds: float
) -> tuple[int, bool]:
    """The number of a tenant's stored decisions that mention images or the values of a filter.

    Args:
        stored: the decisions.
        tenant: the tenant.
        condition: the filter of the images; empty: all of them, which every decision mentions.
        pages: the images.
        seconds: how long to search.

    Returns:
        the number, and whether all images were searched for.
    """
    total = _count(stored, tenant)
    if not condition or not total:
        return total, True
    deadline = time.monotonic() + seconds
    named = (mention_hash(tenant, NAMED, name) for name in named_values(condition))
    found, is_whole = decisions_mentioning(stored.database, named), True
    for page in pages:
        if time.monotonic() > deadline:
            is_whole = False
            break
        found |= decisions_mentioning(stored.database, _mentions(stored, tenant, page))
    own = sum(_count(stored, tenant, batch) for batch in batches(found))  # hashes of mentions may collide
    return own, is_whole


def _mentions(stored: StoredDecisions, tenant: str, images: Sequence[StoredImage]) -> set[int]:
    """The hashes of what decisions may mention of images."""
    digests = stored.memory.images.vector_digests(images)
    hashes = vector_mentions(tenant, [digest for several in digests.values() for digest in several])
    for image in images:
        names = {value_name("image_id", image.image_id), image.content_hash}
        if image.file_name is not None:
            names.add(value_name("file_name", image.file_name))
        hashes |= {mention_hash(tenant, NAMED, name) for name in names}
        hashes |= {mention_hash(tenant, IMAGE, image.image_id), mention_hash(tenant, CONTENT, image.content_hash)}
    return hashes


def _count(stored: StoredDecisions, tenant: str, numbers: Sequence[int] | None = None) -> int:
    query = select(func.count()).where(decisions.c.tenant == tenant)
    if numbers is not None:
        query = query.where(decisions.c.number.in_(numbers))
    with stored.database.read() as connection:
        return connection.execute(query).scalar_one()
