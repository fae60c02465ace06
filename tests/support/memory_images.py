"""Images, vectors and owner processes for the tests of the memory."""

import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import psutil

from tests.support.running_service import stand_still
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.changes.plan_actions import Plan, plan_mute, plan_relabel
from visual_memory.services.memory.conditional_writes import PutResult, with_new_revisions
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import in_state, marked_by
from visual_memory.services.memory.store_embeddings import NotRemembered
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

ENCODER = "made/up encoder"
DIMENSION = 8
METADATA: Mapping[str, FieldType] = {
    "camera": FieldType.KEYWORD,
    "count": FieldType.INTEGER,
    "weight": FieldType.FLOAT,
    "indoor": FieldType.BOOLEAN,
    "seen": FieldType.DATETIME,
}


def image(tenant: str, image_id: str, **fields: Any) -> StoredImage:
    """A waiting image; `fields` win."""
    given: dict[str, Any] = {
        "labels": ["cat"],
        "state": State.WAITING,
        "accepted_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "content_hash": sha256(image_id.encode()).hexdigest(),
        "picture": f"{tenant}/{image_id}/{uuid.uuid4()}",
    }
    return StoredImage(tenant=tenant, image_id=image_id, **(given | fields))


def put(memory: Memory, images: Sequence[StoredImage]) -> PutResult:
    """Put images of one tenant, in the place of what is there."""
    return memory.writes.put(images, memory.images.get(images[0].tenant, [each.image_id for each in images]))


def mute(memory: Memory, tenant: str, clauses: Sequence[Clause], wrong_votes: int | None = None) -> int:
    """Mute the remembered images that meet a filter, without a record; their number."""
    return _change(memory, tenant, clauses, plan_mute(wrong_votes))


def relabel(memory: Memory, tenant: str, clauses: Sequence[Clause], labels: Sequence[str]) -> int:
    """Relabel the images that meet a filter, without a record; their number."""
    return _change(memory, tenant, clauses, plan_relabel(labels))


def _change(memory: Memory, tenant: str, clauses: Sequence[Clause], plan: Plan) -> int:
    changed = 0
    for page in memory.images.pages(tenant, [*clauses, in_state(*plan.states)], 1000):
        pairs = with_new_revisions([(image, plan.becomes(image, now())) for image in page])
        after = memory.writes.change(pairs, plan.fields) if pairs else {}
        changed += sum(after[image.image_id].revision == becomes.revision for image, becomes in pairs)
    return changed


def delete_marked(memory: Memory, tenant: str, removal_id: str) -> None:
    """Delete what a removal has marked, as it does."""
    for page in [*memory.images.pages(tenant, [marked_by(removal_id)], 1000)]:
        memory.marks.delete(tenant, [each.image_id for each in page], removal_id)


def reject(memory: Memory, image: StoredImage, reason: str) -> bool:
    """Give up an image; whether it is rejected now."""
    memory.embeddings.store([], units(0, dimension=memory.dimension), others=NotRemembered(rejected=[(image, reason)]))
    held = memory.images.get(image.tenant, [image.image_id]).get(image.image_id)
    return held is not None and (held.picture, held.state) == (image.picture, State.REJECTED)


def clauses(**conditions: Any) -> list[Clause]:
    """A filter's clauses; ``metadata_x`` stands for ``metadata.x``."""
    named = {name.replace("metadata_", "metadata."): condition for name, condition in conditions.items()}
    return Filter.model_validate(named).clauses(METADATA)


def units(rows: int, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    """Random directions, float32 [rows, dimension]."""
    drawn = np.random.default_rng(seed).normal(size=(rows, dimension))
    unit: Vectors = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    return unit


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder with a path short enough for a socket, in memory where there is such a place.

    What is flushed outlives a killed process there too, and no test here pulls the plug.
    """
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="vm", dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


class Owner:
    """An owner process of a test; used as a context, it is always stopped. `prelude` is code that it runs first."""

    def __init__(self, folder: Path, floor: int = 0, prelude: str = "pass") -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.data = folder / "data"
        self._floor = floor
        self._prelude = prelude
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        code = (
            "import sys; from pathlib import Path;"
            " from visual_memory.services.vector_engines.engine_owner_process import serve;"
            f"{self._prelude};"
            "serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))"
        )
        command = [sys.executable, "-c", code, str(self.data), str(self.socket), str(self._floor)]
        self.process = subprocess.Popen(command)

    def ready(self) -> "Owner":
        """Started, and answering."""
        self.start()
        engine = EngineOwnerClient(self.socket, timeout=30)
        engine.ping()
        engine.close()
        return self

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def suspend(self) -> None:
        assert self.process is not None
        stand_still(psutil.Process(self.process.pid))

    def stop(self) -> int:
        """End it as a supervisor does; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
