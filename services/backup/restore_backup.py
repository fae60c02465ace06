"""Restore: a backup comes back into an empty place, without what was removed before it or since.

What was removed since is known from the mirror (`services.receipts.mirror_files`), which so must be there and
go as far as the log. Everything is checked before anything is written. Keys come back revoked, for nobody knows which
were revoked since; what the service did to images because of how others vote is taken back, and judgements are made
anew.
"""

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from visual_memory.schemas.errors import Conflict, InvalidRequest
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import StoredImage, now
from visual_memory.schemas.receipt import Event, RestoredPayload
from visual_memory.services.backup.archive_reader import Contents, Page, Picture
from visual_memory.services.backup.skip_removed_images import RemovedImages
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records import database_flags, table_rows
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.memory import Memory
from visual_memory.services.memory.points.collection_schema import encoder_of, vector_name
from visual_memory.services.memory.points.point_payload import flag_vector_only, to_image
from visual_memory.services.receipts.check_log_entry import LogEntry
from visual_memory.services.receipts.receipt_log import ReceiptLog
from visual_memory.services.receipts.receipt_signature import NotValid
from visual_memory.services.receipts.sync_mirror import MirrorSync
from visual_memory.services.removal.covered_images import CoveredImages, RemovalHook
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Engine, Insert, Point

FORGOTTEN_AT_ONCE = 10_000
"""Images that do not come back are taken out of the records together."""
MUST_BE_EMPTY = ("keys", "removals", "receipt_log", "decisions")


class BackupSource(Protocol):
    """A backup of whichever format, checked."""

    @property
    def digest(self) -> str:
        """SHA-256 of what tells it from others."""

    @property
    def begun_at(self) -> datetime:
        """A moment before anything was read for it."""

    @property
    def is_signed(self) -> bool:
        """Whether it is known to be as it was made."""

    @property
    def vectors(self) -> Mapping[str, int]:
        """Names and sizes of its collection's vectors."""

    def restore_records(self, database: Database) -> int:
        """Write its records into an empty database; returns how many."""

    def images(self) -> Iterator[Page | Picture]:
        """Each page of points, and after it its pictures."""


@dataclass(frozen=True)
class RestoreResult:
    """What a restore brought back.

    Attributes:
        contents: how much that was.
        left_out: images that stayed away because they were removed.
        later_removals: how many entries of the log the mirror had and the backup did not.
        unfinished: removals that the mirror knows were asked for, and not that they were done: ask for them again.
    """

    contents: Contents
    left_out: int
    later_removals: int
    unfinished: Sequence[str]


@dataclass(frozen=True)
class RestoreBackup:
    """The use case, with the parts that it needs; nothing may be served meanwhile.

    Attributes:
        metadata: the declared metadata fields.
        undo: hooks of removals, for what does not come back.
        adopted: called with what the mirror had after the log's end, to write records of these removals.
        revoke_keys: revokes every key.
        settle: called at the end, for records that may name images which are not there any more.
        is_rehearsal: the mirror is only read, for the service that writes to it goes on elsewhere.
    """

    engine: Engine
    pictures: PictureStore
    database: Database
    log: ReceiptLog
    mirroring: MirrorSync
    removed: RemovedImages
    encoders: EncoderRecords
    metadata: Mapping[str, FieldType]
    undo: Sequence[RemovalHook]
    adopted: Callable[[Sequence[LogEntry]], object]
    revoke_keys: Callable[[], object]
    settle: Callable[[], object]
    is_rehearsal: bool = False

    def __call__(
        self, source: BackupSource, without_later_removals: bool = False, with_keys: bool = False
    ) -> RestoreResult:
        """Bring back what a backup holds, into an empty place.

        Args:
            source: the backup.
            without_later_removals: do without a mirror; it is written to the log.
            with_keys: keys that were not revoked open what they opened; else all come back revoked.

        Raises:
            Conflict: something is here already.
            InvalidRequest: there is no mirror; or it, or the log of the backup, was changed; or keys of a backup were
                to open something that nobody signed.
        """
        self._check_place(without_later_removals)
        if with_keys and not source.is_signed:
            raise InvalidRequest(
                "the keys of a backup of the first format come back revoked, for it is not signed and they may be"
                " anybody's: restore without --with-keys, and make new ones"
            )
        with self.database.write(urgent=True) as connection:
            database_flags.set_flag(
                self.database, connection, database_flags.RESTORE, {"backup": source.digest, "begun": now().isoformat()}
            )
        records = source.restore_records(self.database)
        if not with_keys:
            self.revoke_keys()
        later = self._later_removals()
        memories = self._open_collection(source.vectors)
        contents, left_out = self._restore_images(source)
        tenants = memories[0].images.tenants() if memories else []
        for tenant in tenants:
            memories[0].mutes.undo_peer_effects(tenant)
        self.settle()
        self._log(source, {*tenants, *left_out, *self.log.tenants()}, left_out, without_later_removals)
        done = {entry.removal for entry in later if entry.event == Event.DONE}
        asked = [entry.removal for entry in later if entry.event == Event.REQUESTED]
        with self.database.write(urgent=True) as connection:
            database_flags.clear_flag(connection, database_flags.RESTORE)
        whole = contents.model_copy(update={"records": records})
        return RestoreResult(whole, sum(left_out.values()), len(later), [each for each in asked if each not in done])

    def _check_place(self, without_later_removals: bool) -> None:
        if database_flags.read_flag(self.database, database_flags.RESTORE) is not None:
            raise Conflict("a restore was begun here and did not end: take away what it left, or name another folder")
        if (there := table_rows.holding_rows(self.database, MUST_BE_EMPTY)) or self._holds_images():
            raise Conflict(f"there are {there[0] if there else 'images'} here already: restore into a new folder")
        if self.mirroring.mirror is None and not without_later_removals:
            raise InvalidRequest(
                "what was removed since the backup is known from the mirror alone: set VISUAL_MEMORY_REMOVALS__MIRROR,"
                " or say --without-later-removals, which is written to the log of receipts"
            )

    def _holds_images(self) -> bool:
        return self.engine.inspect() is not None and self.engine.count(EVERY_POINT) > 0

    def _later_removals(self) -> list[LogEntry]:
        """Take over from the mirror what was removed since, once the log of the backup was checked."""
        try:
            for tenant in self.log.tenants():
                for fault in self.log.faults(tenant):
                    raise NotValid(f"the log of {tenant} in the backup: {fault}")
            tenants = {*self.log.tenants(), *self.mirroring.tenants()}
            later = [entry for tenant in sorted(tenants) for entry in self.mirroring.restore_later(tenant)]
        except NotValid as error:
            raise InvalidRequest(f"{error}; nothing is restored: take away what this left") from None
        self.adopted(later)
        return later

    def _open_collection(self, backed_up: Mapping[str, int]) -> list[Memory]:
        """Let the collection have the vectors of the encoders of the records; a memory for each.

        Args:
            backed_up: vectors by name, with their sizes; all of them where no encoder is known, as before there were
                records of them.
        """
        known = self.encoders.known().values()
        wanted = {vector_name(spec.name): spec.dimension for spec in known} or backed_up
        memories = [Memory(self.engine, encoder_of(name), size, self.metadata) for name, size in wanted.items()]
        for memory, (name, size) in zip(memories, wanted.items(), strict=True):
            if self.engine.inspect():
                self.engine.add_vector(name, size)
            memory.open()
        return memories

    def _restore_images(self, source: BackupSource) -> tuple[Contents, dict[str, int]]:
        names = shape.vectors if (shape := self.engine.inspect()) else {}
        points, pictures, left_out = 0, 0, dict[str, int]()
        wanted, gone = set[str](), list[StoredImage]()
        for each in source.images():
            if isinstance(each, Picture):
                if each.key in wanted:
                    wanted.discard(each.key)
                    self.pictures.write(each.key, each.data)
                    pictures += 1
                continue
            images = [to_image(point.payload) for point in each.points]
            removed = self.removed.among(images)
            kept = [point for point, image in zip(each.points, images, strict=True) if image.picture not in removed]
            wanted = {image.picture for image in images} - removed
            self.engine.write([Insert([flag_vector_only(_with(point, names)) for point in kept])])
            points += len(kept)
            for image in images:
                if image.picture in removed:
                    left_out[image.tenant] = left_out.get(image.tenant, 0) + 1
                    gone.append(image)
            if len(gone) >= FORGOTTEN_AT_ONCE:
                self._forget(gone)
                gone.clear()
        self._forget(gone)
        return Contents(points=points, pictures=pictures), left_out

    def _forget(self, removed: Sequence[StoredImage]) -> None:
        """Take images that do not come back out of what records say of them, as their removal did."""
        for tenant in {image.tenant for image in removed}:
            images = [image for image in removed if image.tenant == tenant]
            covered = replace(CoveredImages.of(images), filter=_naming(images))
            for undo in self.undo:
                undo(tenant, covered)

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


def _with(point: Point, names: Mapping[str, int]) -> Point:
    """A point with its vectors of some names: others were dropped since."""
    return replace(point, vectors={name: row for name, row in point.vectors.items() if name in names})


def _naming(images: Sequence[StoredImage]) -> Filter:
    """A filter that names whom removed images show, so that stored decisions which ask for them go too."""
    subjects: list[bool | int | float | str] = sorted({image.subject for image in images if image.subject is not None})
    return Filter({"subject": subjects}) if subjects else Filter({})
