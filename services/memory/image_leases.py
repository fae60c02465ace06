"""Lease waiting images to workers: begin and release leases, find the oldest images without one."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.memory.points.point_filters import (
    UNMARKED,
    begun_at,
    in_state,
    same_pictures,
    within,
)
from visual_memory.services.memory.points.point_payload import grouped_by, to_image
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.vector_engines.engine_contract import Order, PointFilter, SetPayload, Write

NOT_BEGUN = MappingProxyType({"begun_at": None, "lease": None})
"""No worker has the image, as a payload to set."""


class ImageLeases:
    """Which worker has a waiting image.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def oldest_waiting(self, tenant: str, limit: int, lease: timedelta) -> list[StoredImage]:
        """A tenant's waiting images that no worker has leased and no removal has marked, those accepted first.

        Args:
            tenant: whose images.
            limit: maximum number of images.
            lease: how long a worker that began an image keeps it.
        """
        where = within(tenant, [in_state(State.WAITING), _unleased(lease), UNMARKED])
        oldest, _ = self._points.engine.scroll_ordered(where, Order("accepted_at"), limit)
        return [to_image(payload) for payload in oldest]

    def tenants_with_waiting(self, lease: timedelta) -> list[str]:
        """The tenants with waiting images that no worker has leased; see `oldest_waiting`."""
        where = PointFilter(clauses=(in_state(State.WAITING), _unleased(lease), UNMARKED))
        return sorted(self._points.engine.facet("tenant", where))

    def begin(self, images: Sequence[StoredImage]) -> list[StoredImage]:
        """Lease images to the caller: set `begun_at` to now and a new lease, and count one more attempt.

        Only images that still wait as they were read: of two workers that read the same image, one begins it.

        Args:
            images: of one tenant, as they were read.

        Returns:
            the images that were begun, as they are now.
        """
        begun = {"begun_at": now().isoformat(), "lease": uuid.uuid4().hex}
        writes = [
            SetPayload(
                {**begun, "attempts": image.attempts + 1},
                same_pictures(alike, [in_state(State.WAITING), begun_at(image.begun_at), UNMARKED]),
            )
            for image, alike in grouped_by(images, _begun)
        ]
        after = self._points.write_and_get(writes, images)
        return [each for image in images if (each := after.get(image.image_id)) and each.lease == begun["lease"]]

    def release(self, images: Sequence[StoredImage]) -> None:
        """Release images that were not processed for a reason that is not theirs; the attempt does not count.

        Args:
            images: of one tenant, as `begin` returned them; those that another worker has begun since are left alone.
        """
        if releases := [*release_writes(images, NOT_BEGUN)]:
            self._points.write(releases, urgent=True)  # else a full disk would cost them an attempt


def release_writes(images: Iterable[StoredImage], cleared: Mapping[str, None]) -> Iterator[Write]:
    """Writes that clear fields of leases and undo the attempt, of images whose lease is the caller's."""
    for image, alike in grouped_by(images, _begun):
        yield SetPayload({**cleared, "attempts": image.attempts - 1}, leased(alike))


def leased(images: Sequence[StoredImage], clauses: Sequence[Clause] = (), vector: str | None = None) -> PointFilter:
    """Select those of the images that still wait, unmarked, with the lease they were read with."""
    leases = {image.lease for image in images if image.lease is not None}
    same_lease = [Clause("lease", FieldType.KEYWORD, tuple(leases))] if leases else []
    return same_pictures(images, [in_state(State.WAITING), UNMARKED, *same_lease, *clauses], vector)


def _begun(image: StoredImage) -> tuple[int, datetime | None]:
    return image.attempts, image.begun_at


def _unleased(lease: timedelta) -> Clause:
    """Begun longer ago than a lease, or never; or so far in the future that the clock must have been set back."""
    moment = now()
    return Clause("begun_at", FieldType.DATETIME, bounds={"gt": moment - lease, "lte": moment + lease}, negated=True)
