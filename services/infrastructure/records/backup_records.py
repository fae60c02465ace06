"""Record which backups were made, so that the preview of a removal can name those that hold its images."""

import uuid
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import insert, select

from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import backups


class BackupRecord(NamedTuple):
    """A backup of the whole service; it holds nothing that was accepted after `ended_at`."""

    begun_at: datetime
    ended_at: datetime


def record_backup(database: Database, begun_at: datetime) -> None:
    """Record a backup that ends now; durable on return."""
    with database.write(urgent=True) as connection:
        ended_at = max(database.moment(connection), begun_at)
        connection.execute(insert(backups).values(id=str(uuid.uuid4()), begun_at=begun_at, ended_at=ended_at))


def latest_backups(database: Database, limit: int) -> list[BackupRecord]:
    """The recorded backups, the one that ended last first, at most `limit`."""
    query = select(backups.c.begun_at, backups.c.ended_at).order_by(backups.c.ended_at.desc(), backups.c.id)
    with database.read() as connection:
        return [BackupRecord(*row) for row in connection.execute(query.limit(limit))]
