"""Mark the images that a removal covers, list and delete the marked ones, clear marks."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import point_id
from visual_memory.services.memory.muted_images import undo_peer_effects
from visual_memory.services.memory.points.point_filters import MARKED, UNMARKED, accepted_by, marked_by, within
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.vector_engines.engine_contract import Delete, PointFilter, SetPayload


class RemovalMarks:
    """The marks by which a removal reserves images: a marked image does not vote, and only its removal changes it.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def mark(
        self, tenant: str, clauses: Sequence[Clause], removal_id: str, accepted_until: datetime | None = None
    ) -> None:
        """Mark every unmarked image that meets a filter for a removal, in one operation.

        Args:
            tenant: whose images.
            clauses: the checked filter.
            removal_id: of the removal.
            accepted_until: only images that were accepted by then.
        """
        accepted = [] if accepted_until is None else [accepted_by(accepted_until)]
        where = within(tenant, [*clauses, *accepted, UNMARKED])
        self._points.write([SetPayload({"removal": removal_id}, where)], urgent=True)

    def count_by_removal(self, tenant: str | None = None) -> dict[str, int]:
        """Number of images that each removal has marked; None: of every tenant."""
        return self._points.engine.facet("removal", PointFilter(tenant, (MARKED,)))

    def tenants(self) -> list[str]:
        """The tenants with marked images."""
        return sorted(self._points.engine.facet("tenant", PointFilter(clauses=(MARKED,))))

    def clear(self, tenant: str, removal_ids: Collection[str]) -> None:
        """Clear the marks of removals that are done and mark no more images.

        What was done to these images because of how others vote is undone too, see `undo_peer_effects`: some of the
        others may have gone while the mark kept every change away from them.
        """
        if removal_ids:
            marked = marked_by(*removal_ids)
            unmarked = SetPayload({"removal": None}, within(tenant, [marked]))
            self._points.write([*undo_peer_effects(tenant, marked), unmarked], urgent=True)

    def delete(self, tenant: str, image_ids: Collection[str], removal_id: str) -> None:
        """Delete those of some images that a removal still marks, in one operation."""
        if image_ids:
            ids = tuple(point_id(tenant, image_id) for image_id in image_ids)
            self._points.write([Delete(replace(within(tenant, [marked_by(removal_id)]), ids=ids))])
