"""The use cases over a real engine, real pictures and records; the encoder is a plain function of the pixels."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from prometheus_client import REGISTRY
from sqlalchemy import Connection

from tests.support.databases import with_tables
from tests.support.encoder_specs import spec
from tests.support.failing_sandbox import FailingSandbox
from visual_memory.schemas.change import Change
from visual_memory.schemas.classify_options import ClassifyOptions, Prune
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.decision import Decision, Decisions
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.image import Accepted, ImageFields, ImagePatch, StoredImage
from visual_memory.schemas.judgement import Judgement
from visual_memory.schemas.labels import LabelCheck
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.access.signing_secret import Secret
from visual_memory.services.backup.archive_format import Contents
from visual_memory.services.backup.create_backup import CreateBackup
from visual_memory.services.backup.open_backup import open_backup
from visual_memory.services.backup.restore_backup import RestoreResult
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.bootstrap.restore_command import wire_restore
from visual_memory.services.bootstrap.wiring.wire_changes import Changes, wire_changes
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_receipts import Receipts, receipts_of
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.bootstrap.wiring.wire_removal import (
    Stores,
    wire_erase_removed_data,
    wire_removal_steps,
    wire_stores,
    wire_verify_removals,
)
from visual_memory.services.bootstrap.wiring.wire_use_cases import (
    wire_accept,
    wire_classify,
    wire_judge,
    wire_remember,
)
from visual_memory.services.classification.classify import Classify
from visual_memory.services.curation.judgement.judge_memory import make_judgement
from visual_memory.services.curation.judgement.search_missing_neighbours import SearchMissingNeighbours
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.curation.undo_after_removal import UndoAfterRemoval
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.decoding.sandbox.sandbox_pool import SandboxPool
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.intake.accept_pictures import AcceptPictures, Upload
from visual_memory.services.intake.load_thumbnail import LoadThumbnail
from visual_memory.services.intake.remember_pictures import RememberPictures
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.erasure.erase_removed_data import EraseRemovedData
from visual_memory.services.removal.intake_contract import IntakeQueue, NoIntake
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.removal_steps import RemovalSteps
from visual_memory.services.removal.verify_removals import VerifyRemovals
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine, Vectors

METADATA = {"age": FieldType.INTEGER}
LIMITS = PictureLimits(10**6, 10**6)
GRID = 4
KEY = bytes(32)
LIFETIMES = {"short-lived": timedelta(days=30)}
TESTER = Requester(name="a test")
NEVER = timedelta(hours=1)
LEASE = timedelta(minutes=1)
AT_ONCE = timedelta(0)


class Killed(BaseException):
    """The process is gone; nothing of it may clean up after itself."""


@dataclass
class Pixels:
    """An encoder: the colours of a 4 x 4 grid. `before` is called with each batch first, and may raise."""

    before: Callable[[Sequence[PIL.Image.Image]], object] = lambda _images: None
    name: str = "pixels"
    dimension: int = GRID * GRID * 3
    batch_size: int = 4
    crop: PreprocessingCrop = NO_CROP
    encoded: int = 0

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        assert isinstance(tenant, str)
        self.before(images)
        self.encoded += len(images)
        rows = np.stack([np.asarray(image.resize((GRID, GRID)), np.float64).reshape(-1) + 1 for image in images])
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


def make_known(settings: Settings, encoder: Pixels) -> None:
    """Let the memory of these settings be one that this encoder classifies in."""
    made = spec(encoder.name, model=encoder.name, dimension=encoder.dimension)
    with records_of(settings) as database:
        EncoderRecords(database).create_first(made)


def fixed(process: ApiProcess) -> ActiveUseCases[ApiProcess]:
    """A process that follows no switch."""
    return ActiveUseCases(lambda: process.classify.encoder, lambda _encoder: process)


MEMORY_PARTS = {"images", "search", "writes", "leases", "embeddings", "mutes", "conflicts", "marks"}


class Hooked:
    """An object with something done before or after some of its methods; everything else is passed on.

    An engine's `write` is known by the classes of its writes. The parts of a `Memory` are hooked too.
    """

    def __init__(
        self,
        inner: Any,
        before: Callable[[str], object] = lambda _name: None,
        after: Callable[[str], object] = lambda _name: None,
    ) -> None:
        self._inner, self._before, self._after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        held = getattr(self._inner, name)
        if isinstance(self._inner, Memory) and name in MEMORY_PARTS:
            return Hooked(held, self._before, self._after)
        if not callable(held):
            return held

        def call(*arguments: Any, **named: Any) -> Any:
            steps = (
                [type(write).__name__ for write in arguments[0]]
                if name == "write" and arguments and isinstance(arguments[0], list)
                else [name]
            )
            for step in steps:
                self._before(step)
            result = held(*arguments, **named)
            for step in steps:
                self._after(step)
            return result

        return call


class Transactions:
    """A database with something done before or after its writing transactions."""

    def __init__(
        self,
        inner: Database,
        before: Callable[[str], object] = lambda _name: None,
        after: Callable[[str], object] = lambda _name: None,
    ) -> None:
        self._inner, self._before, self._after = inner, before, after

    @contextmanager
    def write(self, urgent: bool = False) -> Iterator[Connection]:
        self._before("transaction")
        with self._inner.write(urgent) as connection:
            yield connection
        self._after("transaction")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class KeepsOpen:
    """The engine is that of other tests too: the app may use it, but not close it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Not now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@dataclass
class Once:
    """Calls `action` the first time that the method `name` is called."""

    name: str
    action: Callable[[], object]
    called: bool = False

    def __call__(self, name: str) -> None:
        if name == self.name and not self.called:
            self.called = True
            self.action()


@cache
def sound_sandbox() -> SandboxPool:
    """One for all tests, as its processes cost time to start; closed at the end of the session."""
    return SandboxPool(LIMITS, 20, 2)


@cache
def faulty_sandbox() -> SandboxPool:
    """The same, and it fails as `tests.support.failing_decoder` says."""
    return FailingSandbox(LIMITS)


@dataclass
class Parts:
    """The use cases of one tenant. Parts may be exchanged before a use case is made of them."""

    folder: Path
    memory: Memory
    pool: ThreadPoolExecutor
    encoder: Pixels = field(default_factory=Pixels)
    tenant: str = field(default_factory=lambda: f"t{uuid.uuid4().hex}")
    enqueued: list[str] = field(default_factory=list)
    given: Database | None = None
    intake: IntakeQueue = field(default_factory=NoIntake)

    def __post_init__(self) -> None:
        self.database = self.given or database_in(self.folder)
        self.settings = settings_in(self.folder)
        stores = wire_stores(self.settings, self.database, self.memory, Secret(KEY), self.encoder.name)
        self.pictures, self.judgements = stores.pictures, stores.judgements
        self.removals, self.covered = stores.removals, stores.covered
        self.blocks, self.receipts = stores.blocks, stores.receipts
        self.vectors = VectorCache(2**20)
        self.decoder = Decoder(sound_sandbox(), self.pool)

    def stores(
        self,
        memory: object = None,
        pictures: object = None,
        database: object = None,
        settings: Settings | None = None,
        decisions: StoredDecisions | None = None,
    ) -> Stores:
        """As every process wires them, with what was exchanged; what undoes votes looks at the memory itself."""
        kept, held = cast(Database, database or self.database), cast(Memory, memory or self.memory)
        made = wire_stores(settings or self.settings, kept, held, Secret(KEY), self.encoder.name)
        check_labels, search = (
            replace(made.undo_after_removal.check_labels, memory=self.memory),
            SearchMissingNeighbours(self.memory),
        )
        return replace(
            made,
            intake=self.intake,
            pictures=cast(PictureStore, pictures or self.pictures),
            receipts=self.receipts if database is None else made.receipts,
            judgements=self.judgements,
            decisions=decisions or made.decisions,
            undo_after_removal=UndoAfterRemoval(self.memory, self.judgements, check_labels, search),
        )

    def accept(self, memory: object = None, pictures: object = None) -> AcceptPictures:
        held, stores = cast(Memory, memory or self.memory), self.stores(pictures=pictures)
        return wire_accept(self.settings, held, stores, self.decoder, self._enqueue)

    def changes(self, memory: object = None, database: object = None, gate: LabelCheck = LabelCheck.OFF) -> Changes:
        """Changes that can be undone."""
        stores = self.stores(settings=self._with(gate))
        if database is not None:
            stores = replace(stores, removals=RemovalRecords(cast(Database, database)))
        return wire_changes(self.settings, cast(Memory, memory or self.memory), stores, LEASE)

    def curate(self, memory: object = None, database: object = None, **asked: Any) -> Change:
        """Mute, unmute or relabel, as a request asks."""
        use_case, request = self.changes(memory, database).change, CurationRequest.model_validate(asked)
        return use_case(self.tenant, use_case.of_curation(self.tenant, request), "a test")

    def amend_image(self, memory: object = None) -> Callable[..., StoredImage]:
        amend, by = self.changes(memory).amend_image, "a test"

        def amended(tenant: str, image_id: str, patch: ImagePatch, **options: Any) -> StoredImage:
            return amend(tenant, image_id, patch, by, **options).image

        return amended

    def look(self, image_id: str, memory: object = None, pictures: object = None) -> bytes:
        """Ask for an image's thumbnail, as the API does."""
        load = LoadThumbnail(
            cast(Memory, memory or self.memory), cast(PictureStore, pictures or self.pictures), self.decoder
        )
        return load(self.held(image_id)[0])

    def remember(
        self,
        encoder: Pixels | None = None,
        lease: timedelta = NEVER,
        max_attempts: int = 3,
        memory: object = None,
        pictures: object = None,
        gate: LabelCheck = LabelCheck.OFF,
    ) -> RememberPictures:
        """A worker's, whose label check reads the memory itself."""
        held, stores, settings = cast(Memory, memory or self.memory), self.stores(pictures=pictures), self._with(gate)
        made = wire_remember(settings, held, stores, encoder or self.encoder, self.decoder, self._enqueue)
        check_labels = replace(made.check_labels, memory=self.memory)
        return replace(made, slice_size=4, lease=lease, max_attempts=max_attempts, check_labels=check_labels)

    def work(self, *arguments: Any, **named: Any) -> None:
        """Remember slice by slice, as a worker does, as long as a message is put back; takes what `remember` takes."""
        put_back: list[str] = [self.tenant]
        remember = replace(self.remember(*arguments, **named), enqueue=put_back.append)
        while put_back:
            remember(put_back.pop())

    def classify(self, prune: Prune = Prune.NONE) -> Classify:
        made = wire_classify(self.settings, self.memory, self.stores(), self.encoder, self.decoder)
        return replace(made, slice_size=4, prune=prune, judgement=self.judgements.current)

    def judge(
        self, tenant: str | None = None, memory: object = None, progress: Progress = lambda *_: None, k: int = 10
    ) -> Judgement | None:
        """Judge the memory; what counts afterwards."""
        kept = cast(Memory, memory or self.memory)
        made = wire_judge(self.settings, kept, self.stores())
        replace(made, update_input=UpdateJudgementInput(kept, self.vectors, 1000), k=k).judge(
            tenant or self.tenant, progress
        )
        return self.judgements.current(tenant or self.tenant)

    def judged_by_another(self, tenant: str) -> StoredJudgements:
        """The judgements of another encoder, for which the images have just the same neighbours; one counts."""
        another = StoredJudgements(self.database, BlobStore(self.folder / "judgements"), "another")
        judged = self.judgements.current(tenant)
        assert judged is not None
        images, registration = self.judgements.input_of(tenant, judged), another.register(tenant)
        assert images is not None
        assert another.store(tenant, make_judgement(images, registration, another.encoder, judged.k), images)
        return another

    def decisions(
        self, memory: object = None, database: object = None, keep: int = 100, keep_bytes: int = 2**30
    ) -> StoredDecisions:
        return replace(self.stores(memory, database=database).decisions, keep=keep, keep_bytes=keep_bytes)

    def explain(self) -> Explain:
        return Explain.of(self.classify(), self.decisions(), unknown)

    def undo_after_removal(self, gate: LabelCheck = LabelCheck.OFF) -> UndoAfterRemoval:
        return self.stores(settings=self._with(gate)).undo_after_removal

    def forget(
        self,
        lease: timedelta = AT_ONCE,
        memory: object = None,
        pictures: object = None,
        database: object = None,
        decisions: StoredDecisions | None = None,
        gate: LabelCheck = LabelCheck.OFF,
    ) -> RemovalSteps:
        """Removals, whose leases are over at once, and that nothing prolongs."""
        stores = self.stores(None, pictures, database, self._with(gate), decisions or self.decisions())
        return replace(wire_removal_steps(cast(Memory, memory or self.memory), stores, lease), keep=nullcontext)

    def remove(self, request: RemovalRequest, forget: RemovalSteps | None = None) -> Removal:
        """Ask for a removal, and do it."""
        forget = forget or self.forget()
        return forget.resume(self.tenant, forget.request(self.tenant, request, TESTER).id)

    def block(self, kind: str, value: str) -> None:
        """Refuse it, as a removal does."""
        with self.database.write() as connection:
            self.blocks.add(connection, self.tenant, kind, [value], "1")

    def verify(self) -> VerifyRemovals:
        """The check of all removals."""
        return wire_verify_removals(self.memory, self.stores())

    def compact(self, memory: object = None, size: int = 0, grace: timedelta = timedelta(0)) -> EraseRemovedData:
        """Erasure; by default of a large memory, which waits for a day."""
        made = wire_erase_removed_data(self.settings, cast(Memory, memory or self.memory), self.stores())
        remove_orphans = replace(made.remove_orphans, memory=self.memory, grace=grace)
        return replace(
            made, remove_orphans=remove_orphans, size=lambda: size, every=timedelta(days=1), keep=nullcontext
        )

    def send(self, *pictures: bytes, accept: AcceptPictures | None = None, **fields: Any) -> list[Accepted]:
        said = ImageFields.model_validate({"labels": ["cat"], **fields})
        return (accept or self.accept())(self.tenant, [Upload(data, said) for data in pictures])

    def teach(self, *pictures: bytes, **fields: Any) -> list[str]:
        ids = [each.image_id for each in self.send(*pictures, **fields)]
        self.work()
        return ids

    def held(self, *image_ids: str) -> list[StoredImage]:
        found = self.memory.images.get(self.tenant, image_ids)
        return [found[image_id] for image_id in image_ids]

    def answer(self, picture: bytes, **options: Any) -> Decisions:
        asked, classify = ClassifyOptions.model_validate({"effort": "exact", **options}), self.classify()
        return classify.decide(self.tenant, classify.embed(self.tenant, [picture]), asked)

    def ask(self, picture: bytes, **options: Any) -> Decision:
        return self.answer(picture, **options).decisions[0]

    def keep(
        self, *pictures: bytes, decisions: StoredDecisions | None = None, asked_by: str = "a test", **options: Any
    ) -> list[Decision]:
        """Ask as the API does where the answers are to be stored."""
        asked, classify = ClassifyOptions.model_validate({"effort": "exact", **options}), self.classify()
        kept = decisions or self.decisions()
        begun, vectors = kept.begin(self.tenant), classify.embed(self.tenant, pictures)
        made = classify.decide(self.tenant, vectors, asked)
        return kept.store(self.tenant, asked_by, begun, pictures, vectors, made.options, made.decisions)

    def keep_made(
        self, kept: StoredDecisions, vectors: Vectors, options: ClassifyOptions, made: Sequence[Decision]
    ) -> list[Decision]:
        """Keep decisions on vectors."""
        return kept.store(self.tenant, "a test", kept.begin(self.tenant), [], vectors, options, made)

    def voters(self, picture: bytes) -> set[str]:
        return {neighbour.image_id for neighbour in self.ask(picture, k=1000).neighbours}

    def files(self) -> set[Path]:
        return {path for path in (self.folder / "pictures").rglob("[!.]*") if path.is_file()}

    def pixels(self) -> set[Path]:
        """What lies beside pictures, but for thumbnails."""
        return {path for path in (self.folder / "pictures").rglob(".*") if path.is_file()} - self.thumbnails()

    def thumbnails(self) -> set[Path]:
        """The thumbnails that lie beside pictures."""
        return {*(self.folder / "pictures").rglob(".*.jpg")}

    def _with(self, gate: LabelCheck) -> Settings:
        curate = self.settings.curate.model_copy(update={"label_check": gate})
        return self.settings.model_copy(update={"curate": curate})

    def _enqueue(self, tenant: str) -> None:
        self.enqueued.append(tenant)


_DATABASES: dict[Path, Database] = {}


def database_in(folder: Path) -> Database:
    """The SQLite database of a folder: one, whoever asks."""
    if folder not in _DATABASES:
        _DATABASES[folder] = Database.in_folder(with_tables(folder))
    return _DATABASES[folder]


def close_databases() -> None:
    """At the end of a test."""
    while _DATABASES:
        _DATABASES.popitem()[1].close()


@cache
def _settings() -> Settings:
    settings = Settings(metadata=METADATA, retention=LIFETIMES)
    # a disk of a test may be smaller than what a service keeps free
    return settings.model_copy(update={"store": settings.store.model_copy(update={"min_free_bytes": 0})})


def settings_in(folder: Path) -> Settings:
    """Those of a service with its data in a folder."""
    return _settings().model_copy(update={"data": folder})


def receipts_in(database: Database, mirror: Path | None = None) -> Receipts:
    """Receipts, with a mirror where one is named."""
    removals = _settings().removals.model_copy(update={"mirror": None if mirror is None else str(mirror)})
    return receipts_of(_settings().model_copy(update={"removals": removals}), database, Secret(KEY))


def unknown(encoder: object, *_: object) -> Classify:
    """How decisions are questioned in a memory of one encoder."""
    raise EncoderMismatch(f"{encoder} is not known")


def back_up(parts: Parts, file: Path, engine: object = None) -> Contents:
    """Write everything into a file."""
    return CreateBackup(
        cast(Engine, engine or parts.memory.points.engine), parts.pictures, parts.database, parts.receipts.log.signer
    )(file)


def restore(
    parts: Parts, file: Path, without_later_removals: bool = False, with_keys: bool = False, rehearsal: bool = False
) -> RestoreResult:
    """Bring a backup back into a place that is empty."""
    engine = parts.memory.points.engine
    use_case = wire_restore(parts.settings, parts.database, engine, parts.stores(), rehearsal)
    source = open_backup(file, parts.receipts.log.signer, unknown)
    return use_case(source, without_later_removals, with_keys)


def encoder_spec(name: str, dimension: int) -> EncoderSpec:
    """What a record says of an encoder that there is no model of."""
    return spec(name, model=name, fingerprint=sha256(name.encode()).hexdigest(), dimension=dimension)


def damage(parts: Parts, key: str) -> None:
    """Leave half a record, as a broken disk does."""
    (parts.folder / "records" / key).write_text('{"half')


def failures(duty: str) -> float:
    """How many records a duty could not deal with so far."""
    return REGISTRY.get_sample_value("visual_memory_failed_total", {"duty": duty}) or 0
