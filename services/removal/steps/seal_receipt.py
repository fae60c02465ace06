"""Last steps: write a removal into the log of receipts, and have the entry mirrored before the receipt is issued."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.event import EventType
from visual_memory.schemas.receipt import Event, RemovalPayload
from visual_memory.schemas.usage import Measure
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.observability import prometheus_metrics
from visual_memory.services.infrastructure.records.resource_leases import Lease
from visual_memory.services.receipts.filter_digest import FilterDigests
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.removal.covered_image_records import CoveredImageRecords
from visual_memory.services.removal.refused_intake_entries import RefusedEntries
from visual_memory.services.removal.removal_records import RemovalRecords, RemovalState, RemovalStep
from visual_memory.services.removal.request_removal import request_fields
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages

WAIT_FOR_ALL_TRIES = 10
"""After so many tries only removals that were requested before this one was verified are waited for."""


@dataclass(frozen=True)
class SealReceipt:
    """Seals verified removals and issues their receipts.

    Attributes:
        write_to_mirror: has a tenant's log mirrored up to an entry's number; raises `Unavailable` if that fails.
        publish: publishes the event ``removed``.
        count_usage: counts removed images for the tenant.
        at_end: called in the transaction that seals a removal, with the tenant and the removal's id.
    """

    removals: RemovalRecords
    covered: CoveredImageRecords
    refused: RefusedEntries
    mark: MarkCoveredImages
    receipt_log: ReceiptLog
    filter_digests: FilterDigests
    audit: AuditLog
    write_to_mirror: Callable[[str, int], object]
    publish: Publish = publish_nothing
    count_usage: CountUsage = count_nothing
    at_end: Sequence[Callable[[Connection, str, str], object]] = ()

    def seal(self, state: RemovalState, lease: Lease, tries: int) -> bool:
        """Let waiting removals mark first, then write the entry; False if another process marks at the moment.

        Removals that wait to be marked may cover images that only this removal's records still describe. Those that
        were requested before this one was verified are waited for in any case, later ones a limited number of times.
        """
        until = None if tries < WAIT_FOR_ALL_TRIES else state.removal.verified_at
        if self.mark.waiting(state.tenant, until):
            self.removals.leases.renew(lease)
            return self.mark(state.tenant)
        with suppress(_RemovalIsWaiting):
            self._write_entry(state, lease, until)
        return True

    def mirror(self, state: RemovalState, lease: Lease) -> None:
        """Have the entry mirrored, then issue it as the receipt.

        Raises:
            Unavailable: the mirror does not accept it, or the log has lost the entry.
        """
        entry = self.receipt_log.find_one(state.tenant, state.id, Event.DONE)
        if entry is None:
            raise Unavailable("the log of receipts has lost the entry: run `visual-memory verify-removals`")
        self.write_to_mirror(state.tenant, entry.number)
        with self.removals.transaction(lease) as connection:
            self.removals.advance(
                connection, [state.id], RemovalStep.MIRROR, RemovalStep.DONE, waits_for=None, receipt=entry.text
            )
        prometheus_metrics.REMOVED.inc(state.removal.images)
        self.count_usage(state.tenant, {Measure.IMAGES_REMOVED: state.removal.images})
        self.publish(state.tenant, EventType.REMOVED, count=state.removal.images, removal_id=state.id)

    def _write_entry(self, state: RemovalState, lease: Lease, until: datetime | None) -> None:
        removal = state.removal
        assert removal.verified_at is not None
        payload = RemovalPayload(
            **request_fields(removal, state.requester, self.filter_digests),
            done_at=removal.verified_at,
            **removal.model_dump(include={"images", "by_state", "pictures", "queued"}),
        )
        with self.removals.transaction(lease) as connection:
            self.removals.advance(
                connection, [state.id], RemovalStep.SEAL, RemovalStep.MIRROR, waits_for=None, filter=None
            )
            self.covered.delete(connection, state.id)
            self.refused.clear_image_ids(connection, state.id)
            for at_end in self.at_end:
                at_end(connection, state.tenant, state.id)
            who, images = state.requester, removal.images
            self.audit.record(
                connection, state.tenant, who.name, "remove", key=who.key, removal=state.id, images=images
            )
            self.receipt_log.append(connection, state.tenant, state.id, payload)
            # a request appends to the same log, so no removal can be requested between here and the commit
            if self.mark.waiting(state.tenant, until, connection):
                raise _RemovalIsWaiting


class _RemovalIsWaiting(Exception):
    """Another removal waits to be marked, and may need this removal's records: roll back."""
