"""The notes that an earlier version made, of removals that were running: they lack what filters ask for."""

from itertools import groupby

from sqlalchemy import String, cast, delete, select, tuple_

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images
from visual_memory.services.memory.memory import Memory

PAGE = 1000


def delete_incomplete_records(memory: Memory, database: Database) -> int:
    """Delete those of images that are there still: they are noted anew, with all that filters of others may ask for.

    Those of images that are gone already stay, so that the removal counts them.

    Returns:
        how many were deleted.
    """
    columns = (covered_images.c.tenant, covered_images.c.removal, covered_images.c.image_id, covered_images.c.picture)
    lacking = cast(covered_images.c.fields, String) == "{}"
    asked, after, count = select(*columns).where(lacking).order_by(*columns).limit(PAGE), None, 0
    while True:
        with database.read() as connection:
            rows = connection.execute(asked if after is None else asked.where(tuple_(*columns) > tuple_(*after))).all()
        for tenant, of_tenant in groupby(rows, lambda row: str(row.tenant)):
            noted = list(of_tenant)
            there = memory.images.get(tenant, {row.image_id for row in noted})
            again = [row for row in noted if row.image_id in there and there[row.image_id].picture == row.picture]
            with database.write(urgent=True) as connection:
                for row in again:
                    this = tuple_(*columns) == tuple_(*row)
                    count += connection.execute(delete(covered_images).where(lacking, this)).rowcount
        if len(rows) < PAGE:
            return count
        after = rows[-1]
