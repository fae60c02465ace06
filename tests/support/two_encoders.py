"""A memory of two encoders over an engine of its own, for the tests that add, fill, switch to and drop the second."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from tests.support.encoder_specs import spec
from tests.support.memory_images import quick_folder
from tests.support.qdrant_local_mode import local_client
from tests.support.qdrant_servers import SERVER_ENGINES, server_engine
from tests.support.wired_service import GRID, METADATA, Parts, Pixels
from visual_memory.schemas.encoder import EncoderIdentity, EncoderSpec, FillSettings
from visual_memory.schemas.image import State
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.encoder_migration.add_encoder import AddEncoder
from visual_memory.services.encoder_migration.drop_encoder import DropEncoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoder_migration.fill_pass import FillPass
from visual_memory.services.encoder_migration.switch_encoder import EncoderResources, SwitchEncoder
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.missing_vectors import MissingVectors
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Compaction, Engine
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_server import QdrantServerEngine

FIRST = spec("pixels", fingerprint="1" * 64, dimension=GRID * GRID * 3)
SECOND = spec("tones", fingerprint="2" * 64, dimension=GRID * GRID)
IDENTITY = EncoderIdentity.model_validate(SECOND.model_dump(include=set(EncoderIdentity.model_fields)))
SLICE = 64


@dataclass
class Tones(Pixels):
    """Another encoder: the tones of a 4 x 4 grid, without their colours."""

    name: str = SECOND.name
    dimension: int = SECOND.dimension

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        assert isinstance(tenant, str)
        self.before(images)
        self.encoded += len(images)
        rows = np.stack(
            [np.asarray(image.convert("L").resize((GRID, GRID)), np.float64).ravel() + 1 for image in images]
        )
        unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


@dataclass
class Migrating(Parts):
    """The use cases of one tenant, and those that bring another encoder to its memory; the first one is active."""

    engine: Engine = field(kw_only=True)
    added: Memory = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.records = EncoderRecords(self.database)
        self.records.create_first(FIRST)
        self.added = memory_of(self.engine, SECOND)

    def add(self, records: object = None, engine: object = None, share: float = 1.0) -> EncoderSpec:
        """Add the second encoder."""
        asked, kept = EncoderSettings(), cast(EncoderRecords, records or self.records)
        use = AddEncoder(kept, cast(Engine, engine or self.engine), lambda _: IDENTITY, lambda *_: Tones())
        return use(asked, share)

    def fill(
        self,
        encoder: Pixels | None = None,
        filling: object = None,
        settings: Callable[[], FillSettings | None] = FillSettings,
        ended: threading.Event | None = None,
        slice_size: int = SLICE,
    ) -> int:
        """Go once over all that lacks a vector of the second encoder."""
        fill = FillPass(
            cast(MissingVectors, filling or self.added.missing_vectors),
            self.added.images.tenants,
            self.pictures,
            encoder or Tones(),
            self.decoder,
            self.pool,
            slice_size,
            settings,
            ended or threading.Event(),
        )
        return fill()

    def of(self, engine: object, which: EncoderSpec) -> EncoderResources:
        """What there is of the memory by an encoder."""
        memory = memory_of(cast(Engine, engine), which)
        judgements = StoredJudgements(self.database, BlobStore(self.folder / "judgements"), which.name)
        return EncoderResources(
            memory,
            judgements,
            JudgeMemory(memory, judgements, UpdateJudgementInput(memory, VectorCache(2**20), 1000), 10),
        )

    def switch(self, records: object = None, engine: object = None) -> SwitchEncoder:
        kept = cast(EncoderRecords, records or self.records)
        return SwitchEncoder(kept, lambda which: self.of(engine or self.engine, which))

    def drop(self, records: object = None, engine: object = None) -> DropEncoder:
        kept, over = cast(EncoderRecords, records or self.records), cast(Engine, engine or self.engine)

        def compact() -> Compaction:
            return over.compact()

        return DropEncoder(kept, over, lambda which: self.of(over, which), compact, release_seconds=0)

    def vectors_of(self, which: EncoderSpec) -> dict[str, NDArray[np.float32]]:
        """The vectors of an encoder that are there, by image id."""
        pages = memory_of(self.engine, which).images.pages_with_vectors(self.tenant, [], 100, [*State])
        return {image.image_id: row for images, rows in pages for image, row in zip(images, rows, strict=True)}

    def check_vectors(self, *encoders: Pixels) -> None:
        """Each vector that is there is what its encoder makes of the picture that is stored; none is another's."""
        for encoder in encoders or (Pixels(), Tones()):
            which = FIRST if encoder.name == FIRST.name else SECOND
            for image_id, vector in self.vectors_of(which).items():
                [image] = self.held(image_id)
                picture = self.decoder.decode_one(self.tenant, self.pictures.read(image.picture))
                assert np.allclose(encoder.encode([picture])[0], vector, atol=1e-6), (encoder.name, image_id)

    def shape(self) -> set[str]:
        """The named vectors of the collection."""
        held = self.engine.inspect()
        return set() if held is None else set(held.vectors)


def memory_of(engine: Engine, which: EncoderSpec) -> Memory:
    return Memory(engine, which.name, which.dimension, METADATA)


def migrating(folder: Path, engine: Engine, pool: ThreadPoolExecutor, **named: Any) -> Migrating:
    """Over an engine, whose collection is created."""
    memory = memory_of(engine, FIRST)
    memory.open()
    return Migrating(folder, memory, pool, engine=engine, **named)


ENGINES = ["edge", "local", *SERVER_ENGINES]
QUIET = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]
"""Marks of tests over the local mode of Qdrant's client."""


@contextmanager
def over(kind: str) -> Iterator[Migrating]:
    """The use cases over an engine of a kind, with a collection of their own."""
    with quick_folder() as folder, ThreadPoolExecutor(4) as pool, ExitStack() as opened:
        engine = opened.enter_context(_engine(kind, folder))
        opened.callback(engine.close)
        yield migrating(folder, engine, pool)


@contextmanager
def _engine(kind: str, folder: Path) -> Iterator[Engine]:
    match kind:
        case "edge":
            yield EdgeEngine(folder / "engine")
        case "local":
            yield QdrantServerEngine(local_client(), "test")
        case name:
            with server_engine(name) as engine:
                yield engine


def vector_names(*encoders: EncoderSpec) -> set[str]:
    return {vector_name(which.name) for which in encoders}
