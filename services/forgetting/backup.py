"""Backup and restore: points, pictures and records in one file, which any engine takes.

Nothing comes back that was computed from images: judgements are made anew, and what the service did to images because
of how others vote is taken back.

A restore brings back nothing that was removed: not what a removal covered, and not what meets the filter of one that
was asked for after the backup. Before the first request is served it holds every image against the records of both, the
backup's and those of the place where it restores to; so those must be the latest there are.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.errors import Conflict, NotFound
from schemas.filter import FieldType, matches
from schemas.image import StoredImage, now
from services.forgetting.archive import Archive, Contents, Manifest, Picture, new_archive
from services.forgetting.covered_images import EVERYTHING, CoveredImages, Notes, RemovalHook
from services.forgetting.removals import Removals
from services.memory.collection import encoder_of
from services.memory.engine import EVERY_POINT, Engine, Insert, Point
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.payload import marked, to_image
from services.memory.pictures import Pictures

PAGE = 100
FORGOTTEN_AT_ONCE = 10_000
"""Images that do not come back are taken out of the records together: that reads all of these."""
UNFINISHED = "restore/unfinished"
PASSING = {"open", "notes", "unerased"}
"""Records of how far a removal is: where the removal is known already, they are older than what is there."""
ENCODERS = "encoders"
"""Records that count as a whole: those of a place without images give way to the backup's."""
LEFT_OUT = {"judgements", "judgement_uses", "evaluations", "questions", "jobs", "schedule"}
"""Records that no backup holds: they were made of images that may be removed since, and can be made again."""


@dataclass(frozen=True)
class Backup:
    """The use case, with the parts that it needs."""

    engine: Engine
    pictures: Pictures
    ledger: Ledger

    def __call__(self, file: Path) -> Contents:
        """Write everything into a new file; others are served meanwhile, and what they change may be in it or not.

        Raises:
            FileExistsError: the file is there already.
        """
        begun_at = now()
        shape = self.engine.inspect()
        vectors = dict(shape.vectors) if shape else {}
        with new_archive(file) as archive:
            archive.begin(Manifest(begun_at=begun_at, vectors=vectors))
            cursor = None
            while shape:
                page, cursor = self.engine.export(EVERY_POINT, PAGE, cursor)
                archive.points([_with(point, vectors) for point in page])
                for picture in self._pictures(page):
                    archive.picture(picture)
                if cursor is None:
                    break
            for key, record in self.ledger.get_some(self.ledger.list("")):  # last, so not older than the points
                if key.split("/")[0] not in LEFT_OUT:
                    archive.record(key, record)
        return archive.contents

    def _pictures(self, page: Sequence[Point]) -> Iterator[Picture]:
        for point in page:
            key = to_image(point.payload).picture
            try:
                yield Picture(key, self.pictures.read(key))
            except NotFound:  # it is being removed at this moment
                continue


def _with(point: Point, names: Collection[str]) -> Point:
    """A point with its vectors of some names: others were added or dropped since."""
    return replace(point, vectors={name: row for name, row in point.vectors.items() if name in names})


@dataclass(frozen=True)
class Restored:
    """What a restore brought back, and how many images it left out because they were removed."""

    contents: Contents
    left_out: int


@dataclass(frozen=True)
class Restore:
    """The use case, with the parts that it needs; nothing may be served meanwhile.

    Attributes:
        metadata: the declared metadata fields.
        undo: as in `services.forgetting.forget.Forget`, for what does not come back because it was removed.
        settle: called at the end, for records that may name images which are not there any more.
    """

    engine: Engine
    pictures: Pictures
    ledger: Ledger
    removals: Removals
    notes: Notes
    metadata: Mapping[str, FieldType]
    undo: Sequence[RemovalHook]
    settle: Callable[[], object]

    def __call__(self, file: Path) -> Restored:
        """Bring back what a backup holds, into a memory without images; what was begun may be begun again.

        Raises:
            InvalidRequest: the file is no whole backup.
            Conflict: the memory holds images.
        """
        archive = Archive(file)
        shape = self.engine.inspect()
        if shape and self.engine.count(EVERY_POINT) and not self.ledger.exists(UNFINISHED):
            raise Conflict(
                "the memory holds images: restore into an empty data folder, or move DATA/engine out of the way"
            )
        self.ledger.put(UNFINISHED, {"file": file.name})
        self._restore_records(archive)
        memories = self._open_collection(archive.manifest.vectors)
        restored = self._restore_images(archive)
        for memory in memories[:1]:
            for tenant in memory.tenants():
                memory.reconsider(tenant)
        self.settle()
        self.ledger.delete(UNFINISHED)
        return restored

    def _open_collection(self, backed_up: Mapping[str, int]) -> list[Memory]:
        """Let the collection have the vectors of the encoders that are known now, and no others; a memory for each.

        Args:
            backed_up: vectors by name, with their sizes; all of them where no encoder is known, as before there were
                records of them.
        """
        wanted = dict(backed_up)
        memories = [Memory(self.engine, encoder_of(name), size, self.metadata) for name, size in wanted.items()]
        for memory, (name, size) in zip(memories, wanted.items(), strict=True):
            if self.engine.inspect():
                self.engine.add_vector(name, size)
            memory.open()
        for name in self._vectors().keys() - wanted.keys() if wanted else ():
            self.engine.drop_vector(name)
        return memories

    def _vectors(self) -> Mapping[str, int]:
        shape = self.engine.inspect()
        return shape.vectors if shape else {}

    def _restore_records(self, archive: Archive) -> None:
        for kind in (*LEFT_OUT, ENCODERS):
            for key in self.ledger.list(f"{kind}/"):
                self.ledger.delete(key)
        known = {key.rsplit("/", 1)[1] for key in self.ledger.list("removals/")}
        oldest = {key.rpartition("/")[0]: key for key in reversed(self.ledger.list("decisions/"))}
        for key, value in archive.records():
            kind, removal_id = key.split("/")[0], key.rsplit("/", 1)[1].split(".")[0]
            trimmed = kind == "decisions" and key < oldest.get(key.rpartition("/")[0], "")
            if kind not in LEFT_OUT and not trimmed and not (kind in PASSING and removal_id in known):
                self.ledger.create(key, value)

    def _restore_images(self, archive: Archive) -> Restored:
        forgotten = Forgotten(self.removals, self.notes, self.metadata)
        names = self._vectors()
        points, pictures, left_out = 0, 0, 0
        wanted: set[str] = set()
        gone: list[StoredImage] = []
        for each in archive.images():
            if isinstance(each, Picture):
                if each.key in wanted:
                    self.pictures.write(each.key, each.data)
                    pictures += 1
                continue
            images = {point.id: to_image(point.payload) for point in each}
            gone_now = forgotten.among(images.values())
            removed = {point: image for point, image in images.items() if image.image_id in gone_now}
            kept = [point for point in each if point.id not in removed]
            wanted = {images[point.id].picture for point in kept}
            self.engine.write([Insert([marked(_with(point, names)) for point in kept])])
            points, left_out = points + len(kept), left_out + len(removed)
            gone += removed.values()
            if len(gone) >= FORGOTTEN_AT_ONCE:
                self._forget(gone)
                gone.clear()
        self._forget(gone)
        return Restored(Contents(points=points, pictures=pictures, records=archive.contents.records), left_out)

    def _forget(self, removed: Collection[StoredImage]) -> None:
        """Take images that do not come back out of what records say of them, as their removal did."""
        for tenant in {image.tenant for image in removed}:
            covered = CoveredImages.of(each for each in removed if each.tenant == tenant)
            for undo in self.undo:
                undo(tenant, covered)


class Forgotten:
    """What must not come back: everything that a removal covered, and what one that runs covers by its filter.

    Args:
        removals: all there are.
        notes: what they covered.
        metadata: the declared metadata fields.
    """

    def __init__(self, removals: Removals, notes: Notes, metadata: Mapping[str, FieldType]) -> None:
        self._removals = removals
        self._notes = notes
        self._metadata = metadata

    def among(self, images: Collection[StoredImage]) -> set[str]:
        """The ids of those of some images that were removed."""
        found: set[str] = set()
        for tenant in {image.tenant for image in images}:
            own = [image for image in images if image.tenant == tenant]
            covered = self._notes.covered_among(tenant, [image.picture for image in own])
            running = self._removals.running(tenant)
            later = [
                (state.removal.requested_at, (state.removal.filter or EVERYTHING).clauses(self._metadata, stored=True))
                for state in running
            ]
            found |= {
                image.image_id
                for image in own
                if image.picture in covered
                or any(image.accepted_at <= moment and matches(clauses, image) for moment, clauses in later)
            }
        return found
