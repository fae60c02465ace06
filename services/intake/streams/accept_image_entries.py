"""Accept the image entries of a stream: many in one write; if that fails, smaller groups of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from visual_memory.schemas.errors import Blocked, Conflict, FetchUnanswered, Unavailable, VisualMemoryError
from visual_memory.schemas.image import Accepted, State, point_id
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.infrastructure.observability.json_logs import kind
from visual_memory.services.infrastructure.records.resource_leases import Superseded
from visual_memory.services.infrastructure.redis_streams.stream_entry_types import Ended, Status
from visual_memory.services.intake.accept_pictures import AcceptPictures, Upload
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent
from visual_memory.services.intake.streams.check_stream_ownership import EntryFence
from visual_memory.services.intake.streams.parse_entries import (
    NOTHING,
    REFERENCE,
    ReadableEntry,
    content_of,
    runs,
    vectors,
)

BY = "intake"
"""The sender in the audit log: Redis does not tell which of its users sent an entry."""
INTERNAL = 500
REFUSED = "a removal refuses it"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldUp:
    """An entry that stays on the stream for now.

    Attributes:
        readable: the entry.
        reason: a sentence.
        failed: whether handling it failed, which is tried only a few times.
    """

    readable: ReadableEntry
    reason: str
    failed: bool = False


Outcome = Ended | HeldUp


@dataclass(frozen=True)
class ReadyEntry:
    """An entry with everything that is needed to accept it.

    Attributes:
        pictures: the pictures of its images, in order; empty if they are vectors.
    """

    readable: ReadableEntry
    pictures: Sequence[bytes] = ()

    @property
    def images(self) -> tuple[tuple[str, str], ...]:
        """Id and content hash of each of its images."""
        images = self.readable.event.images
        contents = [sha256(each).hexdigest() for each in self.pictures] or [content_of(each) or "" for each in images]
        return tuple((each.fields.image_id or content, content) for each, content in zip(images, contents, strict=True))


@dataclass(frozen=True)
class AcceptImageEntries:
    """The use case.

    Attributes:
        references: reads pictures by URL; returns the bytes or the error of each.
        audit: the audit log.
    """

    accept: AcceptPictures
    accept_vectors: AcceptVectors
    references: Callable[[str, Sequence[str]], Sequence[bytes | VisualMemoryError]]
    audit: AuditLog

    def __call__(self, entries: Sequence[ReadableEntry], fence: EntryFence, held: set[str]) -> Iterator[list[Outcome]]:
        """Accept entries of one tenant in order; yields outcomes after each write, to be published at once.

        An entry that follows a held entry of the same image is held too.

        Args:
            entries: the entries to accept.
            fence: the fence of their tenant.
            held: ids of images of earlier held entries; grows.

        Raises:
            Superseded: another process reads the stream by now; publish nothing about the remaining entries.
            Unavailable: a component does not answer, or a disk is full; try the remaining entries again.
        """
        for run in runs(entries):
            ready = [ReadyEntry(each, _pictures(each)) for each in run]
            if run[0].content == NOTHING:
                yield [each.ended(Status.REMEMBERED, reason="it names no image") for each in run]
            elif run[0].content == REFERENCE:
                free, behind = _parted(ready, held)
                outcomes, found = self._fetched(free, fence)
                held.update(*(each.readable.ids for each in outcomes if isinstance(each, HeldUp)))
                yield [*behind, *outcomes]
                yield from self._put(found, fence, held)
            else:
                yield from self._put(ready, fence, held)

    def _put(self, entries: Sequence[ReadyEntry], fence: EntryFence, held: set[str]) -> Iterator[list[Outcome]]:
        """Accept entries of one kind of content; if that fails, each half separately."""
        free, behind = _parted(entries, held)
        outcomes: list[Outcome] = [*behind]
        if free:
            try:
                outcomes += self._accepted(free, fence.of(each.readable.entry for each in free))
            except (Superseded, Unavailable):
                raise
            except Exception as error:  # noqa: BLE001 - any of them may be faulty
                if len(free) > 1:
                    if behind:
                        yield [*behind]
                    half = len(free) // 2
                    yield from self._put(free[:half], fence, held)
                    yield from self._put(free[half:], fence, held)
                    return
                outcome = self._refusal(fence.tenant, free[0].readable, error)
                if isinstance(outcome, HeldUp):
                    held |= free[0].readable.ids
                outcomes.append(outcome)
        if outcomes:
            yield outcomes

    def _accepted(self, entries: Sequence[ReadyEntry], fence: EntryFence) -> list[Ended]:
        """Accept entries of one kind of content, all or none."""
        images = [image for each in entries for image in each.readable.event.images]
        first = images[0]
        if first.vector is not None and first.encoder is not None:
            sent = Sent(
                first.encoder, vectors([each.vector or () for each in images]), [each.fields for each in images]
            )
            accepted = self.accept_vectors(fence.tenant, sent, may_expire=False, fence=fence)
        else:
            pictures = (picture for each in entries for picture in each.pictures)
            uploads = [Upload(picture, each.fields) for picture, each in zip(pictures, images, strict=True)]
            accepted = self.accept(fence.tenant, uploads, may_expire=False, fence=fence)
        self.audit.write(fence.tenant, BY, "accept", images=len(images))
        points = [point_id(fence.tenant, each.image_id) for each in accepted]
        log.info("accepted %d", len(points), extra={"tenant": fence.tenant, "points": points})
        states = iter(accepted)
        return [_ended(each, [next(states) for _ in each.readable.event.images]) for each in entries]

    def _fetched(self, entries: Sequence[ReadyEntry], fence: EntryFence) -> tuple[list[Outcome], list[ReadyEntry]]:
        """Read the pictures of entries by URL: the outcomes of those that fail, and the others with their pictures."""
        urls = [image.dataref or "" for each in entries for image in each.readable.event.images]
        found = iter(self.references(fence.tenant, urls) if urls else ())
        outcomes: list[Outcome] = []
        ready: list[ReadyEntry] = []
        for each in entries:
            answers = [next(found) for _ in each.readable.event.images]
            faults = [answer for answer in answers if isinstance(answer, VisualMemoryError)]
            whole = ReadyEntry(each.readable, [answer for answer in answers if isinstance(answer, bytes)])
            if faults:
                outcomes.append(self._refusal(fence.tenant, each.readable, faults[0]))
            elif self._is_covered(whole, fence):
                outcomes.append(each.readable.ended(Status.REMOVED, reason=REFUSED))
            else:
                ready.append(whole)
        return outcomes, ready

    def _is_covered(self, ready: ReadyEntry, fence: EntryFence) -> bool:
        """Whether a removal that searched the stream would have covered the entry, had its content been known."""
        named = zip(ready.readable.event.images, ready.images, strict=True)
        return any(
            fence.refused.covers(fence.tenant, ready.readable.entry.position, image_id)
            for image, (image_id, _) in named
            if image.fields.image_id is None
        )

    def _refusal(self, tenant: str, readable: ReadableEntry, error: Exception) -> Outcome:
        """The outcome of an entry that was not accepted."""
        if isinstance(error, FetchUnanswered):
            return HeldUp(readable, error.message, failed=True)
        if isinstance(error, Conflict):  # it is being removed, or changed by others
            return HeldUp(readable, error.message)
        if isinstance(error, Blocked):
            return readable.ended(Status.REMOVED, reason=REFUSED)
        if isinstance(error, VisualMemoryError) and error.status < INTERNAL:
            self.audit.write(tenant, BY, "accept", images=len(readable.event.images), outcome=error.code)
            return readable.ended(Status.REJECTED, reason=error.message)
        log.error("an entry could not be handled", exc_info=error)
        return HeldUp(readable, f"it could not be handled: {kind(error)}", failed=True)


def _pictures(entry: ReadableEntry) -> list[bytes]:
    return [image.picture for image in entry.event.images if image.picture is not None]


def _parted(entries: Sequence[ReadyEntry], held: set[str]) -> tuple[list[ReadyEntry], list[HeldUp]]:
    """Split entries into those that may be accepted, and those that follow a held one and are held too."""
    free: list[ReadyEntry] = []
    behind: list[HeldUp] = []
    for each in entries:
        if each.readable.ids & held:
            held |= each.readable.ids
            behind.append(HeldUp(each.readable, "an earlier entry of the same image is held up"))
        else:
            free.append(each)
    return free, behind


def _ended(ready: ReadyEntry, accepted: Sequence[Accepted]) -> Ended:
    """The end of an accepted entry: with its images, unless they are remembered already."""
    image_id = accepted[0].image_id if len(accepted) == 1 else ""
    if any(each.state is State.WAITING for each in accepted):
        return replace(ready.readable.ended(Status.ACCEPTED, image_id=image_id), images=ready.images)
    return ready.readable.ended(Status.REMEMBERED, image_id=image_id)
