"""Build the filters and conditions by which the memory selects points."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State, StoredImage
from visual_memory.services.vector_engines.engine_contract import PointFilter

UNMARKED = Clause("removal", FieldType.KEYWORD, negated=True)
"""No removal has marked the image."""
MARKED = replace(UNMARKED, negated=False)


def within(tenant: str, clauses: Iterable[Clause] = (), vector: str | None = None) -> PointFilter:
    """Select every point of a tenant that meets every clause.

    Args:
        tenant: the only one whose points are selected.
        clauses: as `schemas.filter.matches` interprets them; their fields may also be ``picture``,
            ``removal`` and ``doubt``.
        vector: only points that have the vector of this name.
    """
    return PointFilter(tenant, tuple(clauses), vector)


def same_pictures(
    images: Iterable[StoredImage], clauses: Sequence[Clause] = (), vector: str | None = None
) -> PointFilter:
    """Select images that still have the picture they were read with, and not a later one under the same id."""
    tenants = {image.tenant for image in images}
    if len(tenants) != 1:
        raise ValueError(f"images of one tenant were expected, not of {sorted(tenants)}")
    pictures = Clause("picture", FieldType.KEYWORD, tuple(image.picture for image in images))
    return within(tenants.pop(), [pictures, *clauses], vector)


def unamended(images: Sequence[StoredImage], clauses: Sequence[Clause] = ()) -> PointFilter:
    """Select images that still have the picture and the revision they were read with, and no mark of a removal."""
    revisions = {image.revision for image in images}
    if len(revisions) != 1:
        raise ValueError(f"images of one revision were expected, not of {sorted(revisions)}")
    revision = revisions.pop()
    read = Clause("revision", FieldType.INTEGER, (revision,) if revision else (), negated=not revision)
    return same_pictures(images, [read, UNMARKED, *clauses])


def expired_of_every_tenant(moment: datetime) -> PointFilter:
    """Select every point of every tenant whose expiry is at or before a moment; for retention alone."""
    return PointFilter(clauses=(replace(not_expired(moment), negated=False),))


def in_state(*states: State) -> Clause:
    """The image is in one of the states."""
    return Clause("state", FieldType.KEYWORD, tuple(state.value for state in states))


def not_expired(moment: datetime) -> Clause:
    """The image has no expiry, or a later one."""
    return Clause("expires_at", FieldType.DATETIME, bounds={"lte": moment}, negated=True)


def doubted(*doubts: Doubt) -> Clause:
    """The image has one of the doubts."""
    return Clause("doubt", FieldType.KEYWORD, tuple(doubt.value for doubt in doubts))


def marked_by(*removal_ids: str) -> Clause:
    """One of the removals has marked the image."""
    return Clause("removal", FieldType.KEYWORD, removal_ids)


def begun_at(moment: datetime | None) -> Clause:
    """The image's lease began at exactly this moment; None: it never began."""
    if moment is None:
        return Clause("begun_at", FieldType.DATETIME, bounds={"gte": datetime.min.replace(tzinfo=UTC)}, negated=True)
    return Clause("begun_at", FieldType.DATETIME, (moment,))


def accepted_by(moment: datetime) -> Clause:
    """The image was accepted at or before a moment."""
    return Clause("accepted_at", FieldType.DATETIME, bounds={"lte": moment})


def known_at(moment: datetime) -> list[Clause]:
    """The image was accepted by a moment, and the labels it had then are known."""
    unknown = Clause("known_since", FieldType.DATETIME, bounds={"gt": moment}, negated=True)
    return [accepted_by(moment), unknown]
