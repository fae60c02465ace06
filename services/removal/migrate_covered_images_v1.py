"""Delete records of covered images that an earlier version wrote without the fields that filters need."""

from itertools import groupby

from sqlalchemy import String, cast, delete, select, tuple_

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images
from visual_memory.services.memory.memory_facade import Memory

PAGE = 1000


def delete_incomplete_records(memory: Memory, database: Database) -> int:
    """Delete the records without fields of images that still exist: the running removal records them again, whole.

    Records of images that are deleted already stay, so that the removal counts them.

    Returns:
        the number of deleted records.
    """
    columns = (covered_images.c.tenant, covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture)
    incomplete = cast(covered_images.c.fields, String) == "{}"
    query, last, count = select(*columns).where(incomplete).order_by(*columns).limit(PAGE), None, 0
    while True:
        with database.read() as connection:
            rows = connection.execute(query if last is None else query.where(tuple_(*columns) > tuple_(*last))).all()
        for tenant, of_tenant in groupby(rows, lambda row: str(row.tenant)):
            recorded = list(of_tenant)
            stored = memory.images.get(tenant, {row.image_id for row in recorded})
            again = [row for row in recorded if row.image_id in stored and stored[row.image_id].picture == row.picture]
            with database.write(urgent=True) as connection:
                for row in again:
                    this = tuple_(*columns) == tuple_(*row)
                    count += connection.execute(delete(covered_images).where(incomplete, this)).rowcount
        if len(rows) < PAGE:
            return count
        last = rows[-1]
