"""Wire the stores next to the collection, and the removals that delete images from all of them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.access.tenant_usage import CountUsage, count_nothing
from visual_memory.services.bootstrap.wiring.wire_intake import intake_redis, streams_of
from visual_memory.services.bootstrap.wiring.wire_receipts import Receipts, receipts_of
from visual_memory.services.changes.remove_from_changes import RemoveFromChanges
from visual_memory.services.curation.check_labels_of_new_images import CheckLabels
from visual_memory.services.curation.judgement.search_missing_neighbours import SearchMissingNeighbours
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.undo_after_removal import UndoAfterRemoval
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationJobs
from visual_memory.services.decisions.remove_from_decisions import RemoveFromDecisions
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.infrastructure.events.publish import Publish, publish_nothing
from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.redis_streams.stream_users import StreamUsers
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.intake.streams.find_covered_entries import StreamIntakeQueue
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.blocklist import Blocklist
from visual_memory.services.removal.compare_records_with_log import RemovalRecordCheck
from visual_memory.services.removal.covered_image_records import CoveredImageRecords, RemovalHook
from visual_memory.services.removal.erasure.erase_removed_data import EraseRemovedData
from visual_memory.services.removal.erasure.erasure_receipt_text import erasure_claim
from visual_memory.services.removal.erasure.erasure_records import ErasureRecords
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles
from visual_memory.services.removal.intake_contract import IntakeQueue, NoIntake
from visual_memory.services.removal.refused_intake_entries import RefusedEntries
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.request_removal import RequestRemoval
from visual_memory.services.removal.steps.mark_covered_images import MarkCoveredImages
from visual_memory.services.removal.steps.removal_steps import RemovalSteps
from visual_memory.services.removal.steps.remove_from_intake import RemoveFromIntake
from visual_memory.services.removal.steps.seal_receipt import SealReceipt
from visual_memory.services.removal.tombstones import Tombstones
from visual_memory.services.removal.verify_removals import VerifyRemovals
from visual_memory.services.review.remove_from_reviews import RemoveFromReviews
from visual_memory.services.settings import Settings

GRACE = timedelta(minutes=5)
"""Age up to which a file without a point is not deleted."""
BLOCK = 512
"""Unit of `st_blocks`, in bytes."""
FLOAT = 4
PAYLOAD = 2048
"""About how many bytes a point has in addition to its vector."""


@dataclass(frozen=True)
class Stores:
    """The stores next to the collection of a memory.

    Attributes:
        undo_after_removal: deletes removed images from judgements, and undoes what their votes caused.
        publish: publishes events.
        count_usage: counts what tenants use.
    """

    pictures: PictureStore
    blocks: Blocklist
    removals: RemovalRecords
    covered: CoveredImageRecords
    tombstones: Tombstones
    refused: RefusedEntries
    intake: IntakeQueue
    receipts: Receipts
    audit: AuditLog
    task_runs: PeriodicTaskRuns
    jobs: Jobs
    judgements: StoredJudgements
    evaluations: Evaluations
    decisions: StoredDecisions
    explanation_jobs: ExplanationJobs
    undo_after_removal: UndoAfterRemoval
    publish: Publish
    count_usage: CountUsage
    remove_from_changes: RemoveFromChanges

    @property
    def remove_from_decisions(self) -> RemoveFromDecisions:
        """Deletes removed images from stored decisions."""
        return RemoveFromDecisions(self.decisions)

    @property
    def remove_from_reviews(self) -> RemoveFromReviews:
        """Deletes marks and claims of removed images."""
        return RemoveFromReviews(self.removals.database, self.decisions.memory)

    @property
    def removal_hooks(self) -> Sequence[RemovalHook]:
        """Delete what was derived from removed images."""
        return (
            self.undo_after_removal,
            self.evaluations.remove_covered,
            self.remove_from_decisions.remove_covered,
            self.explanation_jobs.remove_covered,
            self.remove_from_changes.remove_covered,
            self.remove_from_reviews.remove_covered,
        )


def wire_stores(
    settings: Settings,
    database: Database,
    memory: Memory,
    secret: Secret,
    encoder: str,
    publish: Publish = publish_nothing,
    count_usage: CountUsage = count_nothing,
) -> Stores:
    """Wire the stores, for the memory under an encoder; `publish` and `count_usage` tell of what happens."""
    floor = settings.store.min_free_bytes
    blocks, jobs = Blocklist(database, secret.key("blocks")), Jobs(database)
    judgements = judgements_of(settings, database, encoder)
    undo_after_removal = UndoAfterRemoval(
        memory, judgements, check_labels_of(settings, memory), SearchMissingNeighbours(memory)
    )
    evaluations = Evaluations(jobs, settings.url_of("evaluations"), floor)
    kept = settings.decisions
    decisions = StoredDecisions(database, memory, blocks, kept.keep, kept.keep_bytes)
    explanation_jobs = ExplanationJobs(jobs)
    tombstones = Tombstones(database, secret.key("tombstones"))
    return Stores(
        pictures=pictures_of(settings),
        blocks=blocks,
        removals=RemovalRecords(database),
        covered=CoveredImageRecords(database, tombstones),
        tombstones=tombstones,
        refused=RefusedEntries(database, tombstones),
        intake=intake_of(settings),
        receipts=receipts_of(settings, database, secret),
        audit=AuditLog(database, secret.key("audit")),
        task_runs=PeriodicTaskRuns(database),
        jobs=jobs,
        judgements=judgements,
        evaluations=evaluations,
        decisions=decisions,
        explanation_jobs=explanation_jobs,
        undo_after_removal=undo_after_removal,
        publish=publish,
        count_usage=count_usage,
        remove_from_changes=RemoveFromChanges(database, memory, blocks),
    )


def intake_of(settings: Settings) -> IntakeQueue:
    """The intake for removals; `NoIntake` if its private server was never started on this machine."""
    if settings.intake.url is None and not DataPaths(settings.data).intake.exists():
        return NoIntake()
    streams = streams_of(settings)
    return StreamIntakeQueue(streams, StreamUsers(intake_redis(settings), streams.keys))


def check_labels_of(settings: Settings, memory: Memory) -> CheckLabels:
    """The label check of the settings."""
    curate = settings.curate
    return CheckLabels(memory, curate.label_check, curate.label_check_share, curate.k)


def pictures_of(settings: Settings) -> PictureStore:
    """The pictures of all tenants."""
    return PictureStore(settings.url_of("pictures"), settings.store.min_free_bytes)


def judgements_of(settings: Settings, database: Database, encoder: str) -> StoredJudgements:
    """The judgements under an encoder."""
    return StoredJudgements(database, BlobStore(settings.url_of("judgements"), settings.store.min_free_bytes), encoder)


def check_restored(stores: Stores) -> None:
    """Refuse to serve a memory whose restore is unfinished.

    Raises:
        Unavailable: a restore is unfinished.
    """
    if database_flags.read_flag(stores.removals.database, database_flags.RESTORE) is not None:
        raise Unavailable("a restore was begun and did not end: restore into another new folder")


def wire_removal_steps(memory: Memory, stores: Stores, lease: timedelta, *further: RemovalHook) -> RemovalSteps:
    """Wire removals; `further` are hooks of this process alone."""
    removals, covered, refused, receipts = stores.removals, stores.covered, stores.refused, stores.receipts
    mark = MarkCoveredImages(memory, stores.blocks, removals, covered, refused, lease)
    seal = SealReceipt(
        removals=removals,
        covered=covered,
        refused=refused,
        mark=mark,
        receipt_log=receipts.log,
        filter_digests=receipts.filters,
        audit=stores.audit,
        write_to_mirror=receipts.mirroring.write_up_to,
        publish=stores.publish,
        count_usage=stores.count_usage,
        at_end=(stores.remove_from_decisions.drop_vectors,),
    )
    request = RequestRemoval(memory, removals, mark, stores.intake, receipts.log, receipts.filters)
    return RemovalSteps(
        request=request,
        memory=memory,
        pictures=stores.pictures,
        removals=removals,
        covered=covered,
        mark=mark,
        remove_from_intake=RemoveFromIntake(stores.intake, removals, covered, refused, stores.blocks, mark, lease),
        seal=seal,
        lease_duration=lease,
        before_delete=(stores.remove_from_decisions.note_vectors,),
        hooks=(*stores.removal_hooks, *further),
        count_derived=(stores.remove_from_changes.count_covered, stores.remove_from_reviews.count_covered),
        keep=removals.leases.kept_alive,
    )


def wire_verify_removals(memory: Memory, stores: Stores) -> VerifyRemovals:
    """Wire the verification of removals."""
    removals, receipts = stores.removals, stores.receipts
    return VerifyRemovals(
        memory=memory,
        pictures=stores.pictures,
        removals=removals,
        tombstones=stores.tombstones,
        erasures=ErasureRecords(removals),
        check_records=RemovalRecordCheck(removals.database),
        receipt_log=receipts.log,
        mirroring=receipts.mirroring,
        check_receipt=receipts.check(),
        changes=stores.remove_from_changes,
        hooks=stores.removal_hooks,
    )


def wire_remove_orphan_files(memory: Memory, stores: Stores) -> RemoveOrphanFiles:
    """Wire the deletion of files that crashes have left."""
    others: list[Callable[[datetime, datetime | None], int]] = [
        stores.judgements.delete_orphans,
        stores.evaluations.delete_orphans,
    ]
    return RemoveOrphanFiles(memory, stores.pictures, stores.task_runs, GRACE, others=others)


def wire_erase_removed_data(settings: Settings, memory: Memory, stores: Stores) -> EraseRemovedData:
    """Wire the erasure of removed data."""
    removals, receipts = stores.removals, stores.receipts
    return EraseRemovedData(
        memory=memory,
        removals=removals,
        erasures=ErasureRecords(removals),
        receipt_log=receipts.log,
        remove_orphans=wire_remove_orphan_files(memory, stores),
        claim=lambda engine, records, intake: erasure_claim(engine, settings.pictures.url, records, intake),
        erase_intake=stores.intake.erase_removed,
        write_to_mirror=receipts.mirroring.write_up_to,
        size=partial(_size, settings, memory),
        every=timedelta(seconds=settings.worker.compact_seconds),
        keep=removals.leases.kept_alive,
    )


def _size(settings: Settings, memory: Memory) -> int:
    """About how many bytes a compaction rewrites."""
    if settings.store.url is None:
        files = DataPaths(settings.data).engine.rglob("*")
        return sum(found.st_blocks * BLOCK for path in files if (found := _stat(path)) is not None)
    return memory.images.count_all() * (memory.dimension * FLOAT + PAYLOAD)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:  # segments come and go
        return None
