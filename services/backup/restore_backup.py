"""Restore a backup into an empty service, without images that were removed before the backup or since.

Removals since the backup are known from the mirror (`services.receipts.mirror.mirror_files`), which must be complete.
Everything is checked before anything is written. Keys are restored as revoked, because any may have been revoked since
the backup. Changes that the service made to images because of other images' votes are undone, and judgements are
computed anew.
"""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from visual_memory.schemas.errors import Conflict, InvalidRequest
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.receipt import Event, RestoredPayload
from visual_memory.services.backup.archive_format import ArchivedPicture, Contents
from visual_memory.services.backup.open_backup import BackupSource
from visual_memory.services.backup.skip_removed_images import RemovedImages
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records import backup_table_rows, database_flags
from visual_memory.services.infrastructure.records.backup_records import record_backup
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import encoder_name_of, vector_name
from visual_memory.services.memory.points.point_payload import flag_vector_only, to_image
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.mirror.sync_mirror import MirrorSync
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.removal.covered_image_records import CoveredImages, RemovalHook
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Insert, Point

HOOK_BATCH = 10_000
"""The number of skipped images that are passed to the removal hooks together."""
MUST_BE_EMPTY = ("keys", "removals", "receipt_log", "decisions")


@dataclass(frozen=True)
class RestoreResult:
    """What a restore wrote.

    Attributes:
        contents: the numbers of restored points, pictures and records.
        left_out: images that were skipped because they were removed.
        later_removals: entries of the log that the mirror had and the backup had not.
        unfinished: removals that the mirror knows as requested and not as done; they must be requested again.
    """

    contents: Contents
    left_out: int
    later_removals: int
    unfinished: Sequence[str]


@dataclass(frozen=True)
class RestoreBackup:
    """Restores a backup, while nothing is served.

    Attributes:
        metadata: the declared metadata fields.
        hooks: removal hooks, called with the skipped images.
        add_removals: called with the entries that only the mirror had; writes the records of these removals.
        revoke_keys: revokes all keys.
        reconcile: each is called at the end; they repair records that refer to images which were not restored.
        is_rehearsal: only read the mirror, because the service that writes to it keeps running elsewhere.
    """

    engine: Engine
    pictures: PictureStore
    database: Database
    log: ReceiptLog
    mirroring: MirrorSync
    removed: RemovedImages
    encoders: EncoderRecords
    metadata: Mapping[str, FieldType]
    hooks: Sequence[RemovalHook]
    add_removals: Callable[[Sequence[LogEntry]], object]
    revoke_keys: Callable[[], object]
    reconcile: Sequence[Callable[[], object]]
    is_rehearsal: bool = False

    def __call__(
        self, source: BackupSource, without_later_removals: bool = False, with_keys: bool = False
    ) -> RestoreResult:
        """Restore a backup into an empty service.

        Args:
            source: the backup.
            without_later_removals: restore without a mirror; this is written to the log.
            with_keys: keep keys valid that were not revoked; otherwise all are restored as revoked.

        Raises:
            Conflict: the service is not empty.
            InvalidRequest: there is no mirror, or the mirror or the backup's log was changed, or keys of an unsigned
                backup were to stay valid.
        """
        self._check_empty(without_later_removals)
        if with_keys and not source.is_signed:
            raise InvalidRequest(
                "a backup of the first format is not signed, so its keys may be forged and are restored as revoked:"
                " restore without --with-keys, and make new keys"
            )
        with self.database.write(urgent=True) as connection:
            database_flags.set_flag(
                self.database, connection, database_flags.RESTORE, {"backup": source.digest, "begun": now().isoformat()}
            )
        records = source.restore_records(self.database)
        record_backup(self.database, source.begun_at)
        if not with_keys:
            self.revoke_keys()
        later = self._restore_later_removals()
        memories = self._open_collection(source.vectors)
        contents, left_out = self._restore_images(source)
        tenants = memories[0].images.tenants() if memories else []
        for tenant in tenants:
            memories[0].mutes.undo_peer_effects(tenant)
        for reconcile in self.reconcile:
            reconcile()
        self._log(source, {*tenants, *left_out, *self.log.tenants()}, left_out, without_later_removals)
        done = {entry.removal for entry in later if entry.event == Event.DONE}
        requested = [entry.removal for entry in later if entry.event == Event.REQUESTED]
        with self.database.write(urgent=True) as connection:
            database_flags.clear_flag(connection, database_flags.RESTORE)
        whole = contents.model_copy(update={"records": records})
        unfinished = [each for each in requested if each not in done]
        return RestoreResult(whole, sum(left_out.values()), len(later), unfinished)

    def _check_empty(self, without_later_removals: bool) -> None:
        if database_flags.read_flag(self.database, database_flags.RESTORE) is not None:
            raise Conflict("a restore was begun here and did not end: delete what it wrote, or name another folder")
        if (tables := backup_table_rows.holding_rows(self.database, MUST_BE_EMPTY)) or self._has_images():
            raise Conflict(f"there are {tables[0] if tables else 'images'} here already: restore into a new folder")
        if self.mirroring.mirror is None and not without_later_removals:
            raise InvalidRequest(
                "only the mirror knows what was removed since the backup: set VISUAL_MEMORY_REMOVALS__MIRROR, or give"
                " --without-later-removals, which is written to the log of receipts"
            )

    def _has_images(self) -> bool:
        return self.engine.inspect() is not None and self.engine.count(EVERY_POINT) > 0

    def _restore_later_removals(self) -> list[LogEntry]:
        """Check the backup's log, then add the removals that only the mirror has."""
        try:
            for tenant in self.log.tenants():
                for fault in self.log.faults(tenant):
                    raise NotValid(f"the log of {tenant} in the backup: {fault}")
            tenants = {*self.log.tenants(), *self.mirroring.tenants()}
            later = [entry for tenant in sorted(tenants) for entry in self.mirroring.restore_later(tenant)]
        except NotValid as error:
            raise InvalidRequest(f"{error}; nothing is restored: delete what this restore wrote") from None
        self.add_removals(later)
        return later

    def _open_collection(self, backed_up: Mapping[str, int]) -> list[Memory]:
        """Create the vectors of the recorded encoders; returns a memory for each.

        Args:
            backed_up: names and sizes of the backup's vectors, used if no encoder is recorded, as in older versions.
        """
        known = self.encoders.known().values()
        wanted = {vector_name(spec.name): spec.dimension for spec in known} or backed_up
        memories = [Memory(self.engine, encoder_name_of(name), size, self.metadata) for name, size in wanted.items()]
        for memory, (name, size) in zip(memories, wanted.items(), strict=True):
            if self.engine.inspect():
                self.engine.add_vector(name, size)
            memory.open()
        return memories

    def _restore_images(self, source: BackupSource) -> tuple[Contents, dict[str, int]]:
        names = shape.vectors if (shape := self.engine.inspect()) else {}
        points, pictures, left_out = 0, 0, dict[str, int]()
        wanted, skipped = set[str](), list[StoredImage]()
        for each in source.images():
            if isinstance(each, ArchivedPicture):
                if each.key in wanted:
                    wanted.discard(each.key)
                    self.pictures.write(each.key, each.data)
                    pictures += 1
                continue
            images = [to_image(point.payload) for point in each.points]
            removed = self.removed.among(images)
            kept = [point for point, image in zip(each.points, images, strict=True) if image.picture not in removed]
            wanted = {image.picture for image in images} - removed
            self.engine.write([Insert([flag_vector_only(_with_vectors(point, names)) for point in kept])])
            points += len(kept)
            for image in images:
                if image.picture in removed:
                    left_out[image.tenant] = left_out.get(image.tenant, 0) + 1
                    skipped.append(image)
            if len(skipped) >= HOOK_BATCH:
                self._call_hooks(skipped)
                skipped.clear()
        self._call_hooks(skipped)
        return Contents(points=points, pictures=pictures), left_out

    def _call_hooks(self, removed: Sequence[StoredImage]) -> None:
        """Remove skipped images from the records that mention them, as their removal did."""
        for tenant in {image.tenant for image in removed}:
            images = [image for image in removed if image.tenant == tenant]
            covered = replace(CoveredImages.of(images), filter=_subject_filter(images))
            for hook in self.hooks:
                hook(tenant, covered)

    def _log(
        self, source: BackupSource, tenants: Collection[str], left_out: Mapping[str, int], without_later_removals: bool
    ) -> None:
        for tenant in sorted(tenants):
            payload = RestoredPayload(
                backup=source.digest,
                backup_at=source.begun_at,
                restored_at=now(),
                left_out=left_out.get(tenant, 0),
                without_later_removals=without_later_removals,
            )
            with self.database.write(urgent=True) as connection:
                entry = self.log.append(connection, tenant, f"restore-{uuid.uuid4()}", payload)
            if not self.is_rehearsal:
                self.mirroring.write_up_to(tenant, entry.number)


def _with_vectors(point: Point, names: Mapping[str, int]) -> Point:
    """The point with the named vectors only: others were dropped since the backup."""
    return replace(point, vectors={name: row for name, row in point.vectors.items() if name in names})


def _subject_filter(images: Sequence[StoredImage]) -> Filter:
    """A filter that names the subjects of removed images, so that stored decisions with such a filter are deleted."""
    subjects: list[bool | int | float | str] = sorted({image.subject for image in images if image.subject is not None})
    return Filter({"subject": subjects}) if subjects else Filter({})
