"""A whole service for schedules: real stores, engine and records, wired by `bootstrap`; pictures are not decoded."""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from unittest import mock

import numpy as np
import PIL.Image

from schemas.decision import ClassifyOptions, Decision, Prune
from schemas.image import Accepted, Gate, ImageFields, ImagePatch, StoredImage
from schemas.question import StoredDecision
from schemas.removal import Removal, RemovalRequest, RemovalStatus
from services.access.secret import Secret
from services.answers.classify import Classify
from services.bootstrap.wire_removal import Stores, wire_compact, wire_forget, wire_stores, wire_verify
from services.curation.objections import Objections
from services.forgetting.forget import Forget
from services.forgetting.retention import Expire, Retention
from services.infrastructure.records.database import Database
from services.intake.accept import Accept, Upload
from services.intake.remember import Remember
from services.memory.embedded.edge import EdgeEngine
from services.memory.filters import within
from services.memory.memory import Memory
from services.perception.decoder import Decoder
from services.settings import Settings
from tests.integration.support import METADATA, TESTER, Pixels
from tests.interleaving.clock import Clock

LEASE = timedelta(seconds=30)
LATER = 60.0
"""Seconds after which every lease is over."""
SIDE = 4


def content(number: int) -> bytes:
    """The bytes of a picture that is never decoded."""
    return f"content {number}".encode()


class PlainDecoder:
    """Makes of any bytes a picture of its own, in this process."""

    def check(
        self, _tenant: str, pictures: Sequence[bytes], keep: Callable[[int, bytes], object], places: Sequence[int]
    ) -> None:
        """Keep of each what `unpacked` takes."""
        for place in places:
            keep(place, pictures[place])

    def unpacked(self, pixels: bytes) -> PIL.Image.Image:
        """The picture of what was kept."""
        return self.one("", pixels)

    def one(self, _tenant: str, picture: bytes) -> PIL.Image.Image:
        """The picture of some bytes."""
        drawn = np.random.default_rng(int.from_bytes(sha256(picture).digest()[:8])).integers(0, 256, (SIDE, SIDE, 3))
        return PIL.Image.fromarray(drawn.astype(np.uint8))


@dataclass
class Place:
    """What all schedules share: an engine, records and a folder."""

    engine: EdgeEngine
    database: Database
    settings: Settings
    encoder: Pixels = field(default_factory=Pixels)
    secret: Secret = field(default_factory=lambda: Secret(bytes(32)))


@contextmanager
def place(folder: Path, database: Database) -> Iterator[Place]:
    """An engine in a folder, with records in a database."""
    with mock.patch.dict(os.environ, {"VISUAL_MEMORY_CONFIG": os.devnull}):
        settings = Settings(data=folder, metadata=METADATA)
    engine = EdgeEngine(folder / "engine")
    try:
        yield Place(engine, database, settings)
    finally:
        engine.close()


class Service:
    """One tenant of it, as several processes have it."""

    def __init__(self, place: Place, clock: Clock, gate: Gate = Gate.OFF) -> None:
        self.place, self.clock = place, clock
        self.tenant = f"t{uuid.uuid4().hex}"
        self.gate = gate
        encoder = place.encoder
        self.memory = Memory(place.engine, encoder.name, encoder.dimension, METADATA)
        self.memory.open()
        self.stores: Stores = wire_stores(place.settings, place.database, self.memory, place.secret, encoder.name)
        self.decoder = cast(Decoder, PlainDecoder())
        self.enqueued: list[str] = []
        self._objections = Objections(self.memory, gate, 0.6, 5)

    def close(self) -> None:
        """Leave nothing to the next schedule."""
        for page in self.memory.pages(self.tenant, [], 1000):
            self.memory.delete(page)
        for folder in self.place.settings.data.iterdir():
            if folder.name not in {"engine", "secret"} and folder.is_dir():
                shutil.rmtree(folder)

    # --- what clients ask for -----------------------------------------------------------------------------------------

    def send(self, *contents: int, **fields: Any) -> list[Accepted]:
        """Send pictures."""
        said = ImageFields.model_validate({"labels": ["cat"], **fields})
        return self.accept(self.tenant, [Upload(content(each), said) for each in contents])

    @property
    def accept(self) -> Accept:
        """As an API has it."""
        stores = self.stores
        return Accept(
            self.memory,
            stores.pictures,
            stores.blocks,
            self.decoder,
            self.enqueued.append,
            METADATA,
            Retention({"short-lived": timedelta(days=30)}),
        )

    def amend(self, image_id: str, **fields: Any) -> StoredImage:
        """Change an image."""
        return self.accept.amend(self.tenant, image_id, ImagePatch.model_validate(fields))

    def ask(self, number: int, *, store: bool = False, **options: Any) -> Decision:
        """Classify a picture."""
        asked = ClassifyOptions.model_validate({"search": "exact", "k": 100, **options})
        begun = self.stores.decisions.begin(self.tenant)
        classify = Classify(self.memory, self.place.encoder, self.decoder, 4, Prune.NONE, self.stores.judgements.used)
        vectors = self.place.encoder.encode([self.decoder.one("", content(number))])
        made = classify.decide(self.tenant, vectors, asked)
        if not store:
            return made.decisions[0]
        kept = self.stores.decisions
        return kept.store(self.tenant, "a test", begun, [content(number)], vectors, made.options, made.decisions)[0]

    # --- removals -----------------------------------------------------------------------------------------------------

    @property
    def forget(self) -> Forget:
        """As an API or a worker has it."""
        forget = wire_forget(self.memory, self.stores, LEASE)
        return replace(forget, undo=tuple(forget.undo))

    def request(self, **request: Any) -> Removal:
        """Ask for a removal."""
        asked = RemovalRequest.model_validate({"reason": "asked to", **request})
        return self.forget.request(self.tenant, asked, TESTER)

    def resume(self, removal_id: str) -> None:
        """Do what is left of a removal."""
        self.forget.resume(self.tenant, removal_id)

    def sweep(self) -> None:
        """What a worker does every few seconds."""
        self.forget.resume_all()

    def removals(self) -> list[Removal]:
        """All of them."""
        return self.stores.removals.latest(self.tenant, 1000)

    def kept_decisions(self) -> list[StoredDecision]:
        """All that are stored."""
        return list(self.stores.decisions.latest(self.tenant, 1000))

    def removal(self, removal_id: str) -> Removal:
        """How far it is."""
        return self.stores.removals.load(self.tenant, removal_id).removal

    def unfinished(self) -> list[str]:
        """The removals that are not done."""
        return [
            each.id for each in self.stores.removals.latest(self.tenant, 1000) if each.status is not RemovalStatus.DONE
        ]

    def entries_of(self, removal_id: str) -> list[str]:
        """The events that the log has of a removal."""
        return [each.event for each in self.stores.receipts.log.entries(self.tenant) if each.removal == removal_id]

    def faults(self) -> list[str]:
        """What `verify-removals` finds."""
        return wire_verify(self.memory, self.stores)().faults

    def expire(self) -> None:
        """Retention."""
        Expire(self.memory, self.stores.removals, self.forget).if_due()

    def erase(self) -> None:
        """Compact, everywhere and now."""
        wire_compact(self.place.settings, self.memory, self.stores)()

    # --- workers ------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """A worker gets one message."""
        remember = Remember(
            self.memory,
            self.stores.pictures,
            self.place.encoder,
            self.decoder,
            self.enqueued.append,
            4,
            LEASE,
            3,
            self._objections,
        )
        remember(self.tenant)

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

    def picture_files(self) -> set[str]:
        """Keys of pictures, and what lies beside them."""
        root = self.place.settings.data / "pictures" / self.tenant
        return {str(path.relative_to(root.parent)) for path in root.rglob("*") if path.is_file()}
