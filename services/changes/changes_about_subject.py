"""What changes recorded about a subject: former fields of its images, and of images that were called so."""

from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import ColumnElement, select, tuple_

from visual_memory.services.changes.change_mentions import mention_hash
from visual_memory.services.infrastructure.records.database import Database, batches
from visual_memory.services.infrastructure.records.tables import change_mentions, changed_images


def changes_about_subject(
    database: Database, tenant: str, subject: str, image_ids: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The change, the image and its former fields, for each record about a subject.

    Args:
        database: the records.
        tenant: whose changes.
        subject: as images have it.
        image_ids: the images of the subject.
    """
    mentioned = select(change_mentions.c.change, change_mentions.c.image_id).where(
        change_mentions.c.mention == mention_hash(tenant, subject)
    )
    own = set(image_ids)
    for row in _rows(database, tenant, tuple_(changed_images.c.change, changed_images.c.image_id).in_(mentioned)):
        if row["image_id"] not in own:
            yield row
    for batch in batches(sorted(own)):
        yield from _rows(database, tenant, changed_images.c.image_id.in_(batch))


def _rows(database: Database, tenant: str, which: ColumnElement[bool]) -> list[dict[str, Any]]:
    columns = (changed_images.c.change, changed_images.c.image_id, changed_images.c.before)
    query = select(*columns).where(changed_images.c.tenant == tenant, which).order_by(*columns[:2])
    with database.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
