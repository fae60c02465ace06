"""The rows of marks and claims: which items they name, and what an image looked like when it was marked."""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.judgement import Suspicion
from visual_memory.schemas.review import ItemName, ReviewKind
from visual_memory.services.infrastructure.records.database import batches

DIGITS = 16
BETWEEN = ":"
"""Between the suspicion and the image's id in the id of a suspect."""


def suspect_id(suspicion: Suspicion, image_id: str) -> str:
    """The id of a suspect in the queue."""
    return f"{suspicion.value}{BETWEEN}{image_id}"


def image_of(name: ItemName) -> str | None:
    """The id of the image that an item of the kind `image` or `suspect` names; None: it names none."""
    if name.kind is ReviewKind.IMAGE:
        return name.id
    suspicion, between, image_id = name.id.partition(BETWEEN)
    return image_id if name.kind is ReviewKind.SUSPECT and between and suspicion in set(Suspicion) else None


def names_of_image(image_id: str) -> Iterator[tuple[ReviewKind, str]]:
    """The kinds and ids of all items that name an image."""
    yield ReviewKind.IMAGE, image_id
    yield from ((ReviewKind.SUSPECT, suspect_id(suspicion, image_id)) for suspicion in Suspicion)


def seen_as(image: StoredImage, kind: ReviewKind) -> str:
    """A digest of what a reviewer sees of an image: a mark counts as long as it is the same.

    It has the picture and the labels, and for an item of the kind `image` what the label check did: nothing of other
    images, so that a removal of those leaves nothing of them here.
    """
    doubt = image.doubt if kind is ReviewKind.IMAGE else None
    content = json.dumps([image.picture, image.labels, doubt])
    return sha256(content.encode()).hexdigest()[:DIGITS]


def rows_of(
    connection: Connection, table: Table, tenant: str, kind: ReviewKind, ids: Iterable[str]
) -> dict[str, Row[Any]]:
    """The marks or the claims of items of one kind, by the items' ids."""
    found = dict[str, Row[Any]]()
    for batch in batches(ids):
        of_items = (table.c.tenant == tenant) & (table.c.kind == kind.value) & table.c.record.in_(batch)
        found |= {row.record: row for row in connection.execute(select(table).where(of_items))}
    return found
