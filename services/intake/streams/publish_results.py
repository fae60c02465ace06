"""Publish the final results of accepted entries, once their images are remembered, rejected or removed."""

from collections.abc import Callable, Mapping

from visual_memory.schemas.image import State, StoredImage
from visual_memory.services.infrastructure.redis_streams.stream_commands import PAGE, Streams
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import AcceptedEntry, Result, Status
from visual_memory.services.memory.memory_facade import Memory

AT_ONCE = 10 * PAGE
"""Entries that are checked at once, the oldest first; if fewer than half are final, later ones are not checked."""
REPLACED = "another picture has replaced it since"


class PublishResults:
    """The use case, for one thread; each result is published once, even if several processes do.

    The list of entries is read again only when few are left, because there may be very many.

    Args:
        streams: the streams of all tenants.
        memory: returns the memory under the active encoder.
    """

    def __init__(self, streams: Streams, memory: Callable[[], Memory]) -> None:
        self._streams, self._memory = streams, memory
        self._known: dict[str, list[str]] = {}

    def __call__(self, tenant: str) -> int:
        """Publish the final results of a tenant's entries; returns how many."""
        ids = self._known.pop(tenant, [])
        if len(ids) < AT_ONCE:
            ids = self._streams.accepted_ids(tenant)
        published, waiting = 0, list[str]()
        while ids:
            some, ids = ids[:AT_ONCE], ids[AT_ONCE:]
            before = len(waiting)
            for page in self._streams.accepted(tenant, some):
                results = self._results(tenant, page)
                published += self._streams.resolve_accepted(tenant, results)
                final = {result.entry for result in results}
                waiting += [each.entry for each in page if each.entry not in final]
            if len(waiting) - before > len(some) // 2:
                break
        self._known[tenant] = waiting + ids
        return published

    def _results(self, tenant: str, entries: list[AcceptedEntry]) -> list[Result]:
        held = self._memory().images.get(tenant, [image_id for each in entries for image_id in each.image_ids])
        return [result for each in entries if (result := result_of(each, held)) is not None]


def result_of(entry: AcceptedEntry, held: Mapping[str, StoredImage]) -> Result | None:
    """The final result of an entry; None if there is none yet.

    Args:
        entry: the entry.
        held: its stored images, by their ids.
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
    """The final status of one image, and the reason; None if it has none yet."""
    if image is None:
        return Status.REMOVED, ""
    if image.removal is not None:
        return None  # until the removal has deleted or unmarked it
    if image.content_hash != content:
        return Status.REMEMBERED, REPLACED
    if image.state is State.WAITING:
        return None
    if image.state is State.REJECTED:
        return Status.REJECTED, image.reason or ""
    return Status.REMEMBERED, ""
