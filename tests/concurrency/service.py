"""A whole service for schedules: real stores, engine and records, wired by `bootstrap`; pictures are not decoded."""

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image

from tests.concurrency.clock import Clock, moved_by
from tests.concurrency.scheduler import stop
from tests.concurrency.stops import Observer, stops
from tests.support.intake_redis import intake_server
from tests.support.wired_service import Pixels, settings_in
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decision
from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.schemas.image import Accepted, ImageFields, ImagePatch, StoredImage
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.schemas.stored_decision import StoredDecision
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.idempotency_keys import AlreadyMade, IdempotencyKeys
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.bootstrap.wiring.wire_changes import wire_changes
from visual_memory.services.bootstrap.wiring.wire_memory import memory_of
from visual_memory.services.bootstrap.wiring.wire_removal import (
    Stores,
    wire_erase_removed_data,
    wire_removal_steps,
    wire_stores,
    wire_verify_removals,
)
from visual_memory.services.bootstrap.wiring.wire_use_cases import (
    lease_of,
    wire_accept,
    wire_classify,
    wire_judge,
    wire_remember,
)
from visual_memory.services.changes.amend_image import AmendImage
from visual_memory.services.curation.judgement.judgement_input import short_digest
from visual_memory.services.data_governance.remove_expired_images import RemoveExpiredImages
from visual_memory.services.decoding.decode_many import CheckedPicture, Decoder
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import metadata
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.intake.accept_pictures import AcceptPictures, Upload
from visual_memory.services.intake.accept_vectors import AcceptVectors, Sent
from visual_memory.services.intake.load_thumbnail import LoadThumbnail
from visual_memory.services.intake.streams.accept_image_entries import AcceptImageEntries
from visual_memory.services.intake.streams.find_covered_entries import StreamIntakeQueue
from visual_memory.services.intake.streams.publish_results import PublishResults
from visual_memory.services.intake.streams.read_image_stream import ImageStreamReader
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.removal.steps.removal_steps import RemovalSteps
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

LEASE = 3
"""Seconds: short, so that who waits for another does not ask for long."""
TESTER = Requester(name="a test", key=None)
LATER = 60.0
"""Seconds after which every lease is over."""
SIDE = 4
KEPT = ("facts", "encoders", "active_encoder")
"""Tables that outlive a schedule."""


def content(number: int) -> bytes:
    """The bytes of a picture that is never decoded."""
    return f"content {number}".encode()


class PlainDecoder:
    """Makes of any bytes a picture of its own, in this process."""

    def check(
        self,
        _tenant: str,
        pictures: Sequence[bytes],
        keep: Callable[[int, CheckedPicture], object],
        places: Sequence[int],
    ) -> None:
        """Keep of each what `unpack` takes, and a thumbnail."""
        for place in places:
            keep(place, CheckedPicture(self.thumbnail("", pictures[place]), pictures[place]))

    def thumbnail(self, _tenant: str, picture: bytes) -> bytes:
        """What begins and ends as a JPEG."""
        return b"\xff\xd8" + picture + b"\xff\xd9"

    def unpack(self, pixels: bytes) -> PIL.Image.Image:
        """The picture of what was kept."""
        return self.decode_one("", pixels)

    def decode_one(self, _tenant: str, picture: bytes) -> PIL.Image.Image:
        """The picture of some bytes."""
        drawn = np.random.default_rng(int.from_bytes(sha256(picture).digest()[:8])).integers(0, 256, (SIDE, SIDE, 3))
        return PIL.Image.fromarray(drawn.astype(np.uint8))


@dataclass
class Place:
    """What all schedules share: an engine, records and a folder."""

    engine: EdgeEngine
    database: Database
    settings: Settings
    streams: Streams
    encoder: Pixels = field(default_factory=Pixels)
    secret: Secret = field(default_factory=lambda: Secret(bytes(32)))
    clock: Clock = field(default_factory=Clock)
    observer: Observer = field(default_factory=Observer)

    def open(self) -> None:
        """Make the collection."""
        memory_of(self.settings, self.engine, self.encoder).open()

    def clear(self) -> None:
        """Leave no record and no file to the next schedule."""
        with self.database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                if table.name not in KEPT:
                    connection.exec_driver_sql(f"DELETE FROM {table.name}")
        for folder in self.settings.data.iterdir():
            if folder.name not in {"engine", "secret"} and folder.is_dir():
                shutil.rmtree(folder)


@contextmanager
def place(folder: Path, database: Database) -> Iterator[Place]:
    """An engine in a folder, with records in a database."""
    settings = settings_in(folder)
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"lease_seconds": LEASE})})
    engine = EdgeEngine(folder / "engine")
    try:
        with intake_server() as server:
            made = Place(engine, database, settings, server.streams())
            made.open()
            with moved_by(made.clock), stops(made.clock, made.observer):
                yield made
    finally:
        engine.close()


class Service:
    """One tenant of it, as several processes have it."""

    def __init__(self, place: Place) -> None:
        self.place, self.clock, self.settings = place, place.clock, place.settings
        self.tenant = f"t{uuid.uuid4().hex}"
        self.memory = memory_of(self.settings, place.engine, place.encoder)
        self.decoder = cast(Decoder, PlainDecoder())
        self.enqueued: list[str] = []
        self.idempotency = IdempotencyKeys(place.database, bytes(32))
        self.object(LabelCheck.OFF)

    def object(self, gate: LabelCheck) -> None:
        """Let neighbours object to labels, or not."""
        curate = self.place.settings.curate.model_copy(update={"label_check": gate, "label_check_share": 0.6, "k": 5})
        self.settings = self.place.settings.model_copy(update={"curate": curate})
        place = self.place
        made = wire_stores(self.settings, place.database, self.memory, place.secret, place.encoder.name)
        self.stores: Stores = replace(made, intake=StreamIntakeQueue(place.streams))

    def close(self) -> None:
        """Leave nothing to the next schedule."""
        for page in self.memory.images.pages(self.tenant, [], 1000):
            self.memory.writes.delete(page)
        self.streams.drop_tenant(self.tenant)
        self.place.clear()

    # --- what clients ask for -----------------------------------------------------------------------------------------

    def send(self, *contents: int, **fields: Any) -> list[Accepted]:
        """Send pictures."""
        said = ImageFields.model_validate({"labels": ["cat"], **fields})
        return self.accept(self.tenant, [Upload(content(each), said) for each in contents])

    @property
    def accept(self) -> AcceptPictures:
        """As an API has it."""
        return wire_accept(self.settings, self.memory, self.stores, self.decoder, self.enqueued.append)

    def look(self, image_id: str) -> bytes | None:
        """Ask for an image's thumbnail; None if it is not there."""
        found = self.memory.images.get(self.tenant, [image_id]).get(image_id)
        load = LoadThumbnail(self.memory, self.stores.pictures, self.decoder)
        with suppress(NotFound):
            return None if found is None else load(found)
        return None

    def drop_thumbnails(self) -> None:
        """Leave the pictures as an earlier version did."""
        for file in self.picture_files():
            if file.endswith(".jpg"):
                (self.place.settings.data / "pictures" / file).unlink()

    @property
    def amend_image(self) -> AmendImage:
        return wire_changes(self.settings, self.memory, self.stores, lease_of(self.settings)).amend_image

    def send_vector(self, vector: Vectors, **fields: Any) -> list[Accepted]:
        """Send a vector."""
        said = ImageFields.model_validate({"labels": ["cat"], **fields})
        accept = AcceptVectors(self.accept.put, self.memory, self.place.encoder.name)
        return accept(self.tenant, Sent(self.place.encoder.name, vector, [said]))

    def vector(self, number: int) -> Vectors:
        """The vector of a content."""
        return self.place.encoder.encode([self.decoder.decode_one("", content(number))])

    def amend(self, image_id: str, **fields: Any) -> StoredImage:
        """Change an image."""
        return self.amend_image(self.tenant, image_id, ImagePatch.model_validate(fields), "a client").image

    def ask(self, number: int, *, store: bool = False, **options: Any) -> Decision:
        """Classify a picture."""
        asked = ClassifyOptions.model_validate({"effort": "exact", "k": 100, **options})
        kept = self.stores.decisions
        begun = kept.begin(self.tenant) if store else None
        memory = memory_of(self.settings, self.place.engine, self.place.encoder)  # of a process that has not asked yet
        classify = wire_classify(self.settings, memory, self.stores, self.place.encoder, self.decoder)
        vectors = self.vector(number)
        made = classify.decide(self.tenant, vectors, asked)
        if begun is None:
            return made.decisions[0]
        asked_with = [content(number)]
        return kept.store(self.tenant, "a test", begun, asked_with, vectors, made.options, made.decisions)[0]

    # --- the intake ---------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> Streams:
        """Of its intake."""
        return self.place.streams

    def queue(self, event: bytes) -> str:
        """A producer puts an event on the stream; the entry's id."""
        return self.streams.add(self.tenant, event)

    def reader(self, name: str) -> ImageStreamReader:
        """A process that reads the streams."""
        vectors = AcceptVectors(self.accept.put, self.memory, self.place.encoder.name)
        audit = AuditLog(self.place.database, self.place.secret.key("audit"))  # whose writes no other process waits for
        accept = AcceptImageEntries(self.accept, vectors, lambda _tenant, _urls: (), audit)
        removals = self.stores.removals
        return ImageStreamReader(
            self.streams,
            removals.leases,
            timedelta(seconds=LEASE),
            lambda: accept,
            removals.undrained_positions,
            self.stores.refused,
            name,
        )

    def read(self, name: str) -> None:
        """A process that reads the tenant's stream once."""
        self.reader(name).read_round(self.tenant)

    def settle(self) -> None:
        """A reader says what became of what it accepted."""
        PublishResults(self.streams, lambda: self.memory)(self.tenant)

    def is_queued(self) -> bool:
        """Whether an entry has not come to its end."""
        return bool(self.streams.backlog(self.tenant).entries or self.streams.accepted_ids(self.tenant))

    # --- removals -----------------------------------------------------------------------------------------------------

    @property
    def forget(self) -> RemovalSteps:
        """As an API or a worker has it, but for the thread that prolongs its leases: who stands still has none."""
        return replace(
            wire_removal_steps(self.memory, self.stores, lease_of(self.settings)), keep=nullcontext, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        """Wait, as everything does that waits for another."""
        stop("sleep")
        self.clock.sleep(seconds)

    def request(self, **request: Any) -> Removal:
        """Ask for a removal."""
        asked = RemovalRequest.model_validate({"reason": "asked to", **request})
        return self.forget.request(self.tenant, asked, TESTER)

    def request_once(self, name: str, **request: Any) -> Removal:
        """Ask for a removal under an idempotency key; what was made of it, whoever asked first."""
        asked = RemovalRequest.model_validate({"reason": "asked to", **request})
        claim = self.idempotency.claim(self.tenant, "a key", name, asked.model_dump_json())
        try:
            record = partial(self.idempotency.record, claim=claim)
            return self.forget.request(
                self.tenant, asked, TESTER, lambda connection, made: record(connection, resource=made)
            )
        except AlreadyMade as already:
            return self.removal(already.resource)

    def resume(self, removal_id: str) -> None:
        """Do what is left of a removal."""
        with suppress(Unavailable):  # another does it, who may stand still
            self.forget.resume(self.tenant, removal_id)

    def sweep(self) -> None:
        """What a worker does every few seconds."""
        self.forget.resume_all()

    def removals(self) -> list[Removal]:
        """All of them."""
        return self.stores.removals.latest(self.tenant).data

    def removal(self, removal_id: str) -> Removal:
        """How far it is."""
        return self.stores.removals.load(self.tenant, removal_id).removal

    def unfinished(self) -> bool:
        """Whether a removal is not done."""
        return bool(self.stores.removals.running(self.tenant))

    def kept_decisions(self) -> list[StoredDecision]:
        """All that are stored."""
        return list(self.stores.decisions.latest(self.tenant, 1000))

    def entries_of(self, removal_id: str) -> list[str]:
        """The events that the log has of a removal."""
        return [str(each.event) for each in self.stores.receipts.log.entries(self.tenant) if each.removal == removal_id]

    def faults(self) -> list[str]:
        """What `verify-removals` finds."""
        return wire_verify_removals(self.memory, self.stores)().faults

    def expire(self) -> None:
        """Retention."""
        RemoveExpiredImages(self.memory, self.stores.removals, self.forget, timedelta(0)).if_due()

    def erase(self) -> None:
        """Compact, everywhere and now."""
        compact = wire_erase_removed_data(self.settings, self.memory, self.stores)
        replace(compact, keep=nullcontext, sleep=self.sleep)()

    def erase_if_due(self) -> None:
        """Compact where that is due: what a worker does every few minutes."""
        compact = wire_erase_removed_data(self.settings, self.memory, self.stores)
        replace(compact, keep=nullcontext, sleep=self.sleep).if_due()

    # --- workers ------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """A worker does a job of judging."""
        wire_judge(self.settings, self.memory, self.stores).judge(self.tenant, lambda *_: None)

    def work(self) -> None:
        """A worker gets one message."""
        remember = wire_remember(
            self.settings, self.memory, self.stores, self.place.encoder, self.decoder, self.enqueued.append
        )
        remember(self.tenant)

    def judges(self, picture: str) -> bool:
        """Whether the judgement that counts tells of the image that had this picture."""
        judgement = self.stores.judgements.current(self.tenant)
        made_of = None if judgement is None else self.stores.judgements.input_of(self.tenant, judgement)
        return made_of is not None and short_digest(picture) in made_of.pictures

    # --- what is there ------------------------------------------------------------------------------------------------

    def payloads(self) -> dict[str, dict[str, Any]]:
        """All points, by image id."""
        found: dict[str, dict[str, Any]] = {}
        cursor = None
        while True:
            page, cursor = self.place.engine.scroll(within(self.tenant), 1000, cursor)
            found |= {each["image_id"]: each for each in page}
            if cursor is None:
                return found

    def pixels_of(self, picture: str) -> str:
        """Where that lies which a picture was decoded to."""
        pictures = self.stores.pictures
        return str(pictures._pixels_of(picture).relative_to(self.place.settings.data / "pictures"))

    def thumbnail_of(self, picture: str) -> str:
        """Where the thumbnail of a picture lies."""
        folder, _, name = picture.rpartition("/")
        return f"{folder}/.{name}.jpg"

    def picture_files(self) -> set[str]:
        """Keys of pictures, and what lies beside them."""
        root = self.place.settings.data / "pictures" / self.tenant
        return {str(path.relative_to(root.parent)) for path in root.rglob("*") if path.is_file()}
