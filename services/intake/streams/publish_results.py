"""Say what became of accepted entries, once their images are remembered, rejected or removed."""

from collections.abc import Callable, Mapping

from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.infrastructure.redis_streams.redis_streams import PAGE, Streams
from visual_memory.services.infrastructure.redis_streams.stream_entries import AcceptedEntry, Result, Status
from visual_memory.services.memory.memory import Memory

AT_ONCE = 10 * PAGE
"""The oldest are looked at first; where fewer than half of so many are through, the later ones are not yet."""
REPLACED = "another picture has come under its id since"


class PublishResults:
    """The use case, for one thread; whoever does it at the same time, each entry is settled once.

    Which entries there are is asked for again only when few are known: there may be very many that wait.

    Args:
        streams: of all tenants.
        memory: as it is at the moment.
    """

    def __init__(self, streams: Streams, memory: Callable[[], Memory]) -> None:
        self._streams, self._memory = streams, memory
        self._known: dict[str, list[str]] = {}

    def __call__(self, tenant: str) -> int:
        """Settle a tenant's entries as far as they are through; returns how many were."""
        ids = self._known.pop(tenant, [])
        if len(ids) < AT_ONCE:
            ids = self._streams.accepted_ids(tenant)
        settled, waiting = 0, list[str]()
        while ids:
            some, ids = ids[:AT_ONCE], ids[AT_ONCE:]
            before = len(waiting)
            for page in self._streams.accepted(tenant, some):
                results = self._results(tenant, page)
                settled += self._streams.resolve_accepted(tenant, results)
                through = {result.entry for result in results}
                waiting += [each.entry for each in page if each.entry not in through]
            if len(waiting) - before > len(some) // 2:
                break
        self._known[tenant] = waiting + ids
        return settled

    def _results(self, tenant: str, entries: list[AcceptedEntry]) -> list[Result]:
        held = self._memory().images.get(tenant, [image_id for each in entries for image_id in each.image_ids])
        return [result for each in entries if (result := result_of(each, held)) is not None]


def result_of(entry: AcceptedEntry, held: Mapping[str, StoredImage]) -> Result | None:
    """What became of an entry; None where that is open.

    Args:
        entry: the entry.
        held: what is there of its images, by their ids.
    """
    states = [_state(held.get(image_id), content) for image_id, content in entry.images]
    if None in states:
        return None
    [image_id] = entry.image_ids if len(entry.images) == 1 else [""]
    for status in (Status.REMOVED, Status.REJECTED, Status.REMEMBERED):
        for state in states:
            if state is not None and state[0] is status:
                named = "" if status is Status.REMOVED else image_id
                return Result(entry.entry, status, entry.event_id, named, state[1])
    return None


def _state(image: StoredImage | None, content: str) -> tuple[Status, str] | None:
    """What became of one image, and why."""
    if image is None:
        return Status.REMOVED, ""
    if image.removal is not None:
        return None  # until it is gone, or is not to go
    if image.content_hash != content:
        return Status.REMEMBERED, REPLACED
    if image.state is State.WAITING:
        return None
    if image.state is State.REJECTED:
        return Status.REJECTED, image.reason or ""
    return Status.REMEMBERED, ""
