"""Decide which entries of the intake a removal covers."""

from collections.abc import Collection, Sequence

from visual_memory.schemas.filter import Clause, Filter, matches
from visual_memory.services.removal.intake_contract import CoveredIds, QueuedEntry, QueuedImage
from visual_memory.services.removal.values_named_in_filters import may_cover_text


def covered_entries(
    condition: Filter, clauses: Sequence[Clause], covered: CoveredIds, entries: Sequence[QueuedEntry]
) -> list[QueuedEntry]:
    """The entries that a removal covers.

    Args:
        condition: the filter of the removal.
        clauses: the clauses of that filter.
        covered: returns those of some image ids that the removal covers.
        entries: of the intake.
    """
    images = (each.image for entry in entries for each in entry.images)
    ids = covered({image.image_id for image in images if image.image_id})
    return [entry for entry in entries if _covers(condition, clauses, entry, ids)]


def _covers(condition: Filter, clauses: Sequence[Clause], entry: QueuedEntry, covered: Collection[str]) -> bool:
    if entry.text is not None:
        return may_cover_text(condition, entry.text)
    return any(
        matches(clauses, each.image)
        or (each.image.image_id in covered and not any(_excludes(each, clause) for clause in clauses))
        for each in entry.images
    )


def _excludes(queued: QueuedImage, clause: Clause) -> bool:
    """Whether a field that an entry gives keeps its image from meeting a clause, whatever the other fields are."""
    return clause.field.partition(".")[0] in queued.given and not matches([clause], queued.image)
