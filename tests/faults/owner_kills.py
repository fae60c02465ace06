"""An owner process that is killed again and again while many write, and the model that its collection must equal."""

import random
import re
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.memory_images import Owner, units
from tests.support.running_service import until
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.points.point_filters import within
from visual_memory.services.vector_engines.engine_contract import (
    EVERY_POINT,
    Delete,
    Index,
    Insert,
    NamedVectors,
    Point,
    PointFilter,
    Replace,
    SetPayload,
    UpdateVectors,
    Write,
)
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

VECTOR = "v"
DIMENSION = 8
INDEXES: dict[str, Index] = {
    "tenant": Index(FieldType.KEYWORD, is_tenant=True),
    "picture": Index(FieldType.KEYWORD),
    "number": Index(FieldType.INTEGER),
}
OFTEN_FLUSHED = (
    "from visual_memory.services.vector_engines.qdrant_edge import index_schedule, segment_flusher;"
    " segment_flusher.FLUSH_SECONDS = 0.05; index_schedule.FULL_SCAN_KIB = 1"  # KiB
)
"""So that many kills meet a flush, or the building of an index."""

Held = dict[str, tuple[dict[str, Any], bytes]]
"""By id: the payload, and the vector's bytes; none where there is no vector."""


@dataclass
class Writer:
    """One thread's points, all of one tenant: what the engine acknowledged, and every marker that must be gone."""

    engine: EngineOwnerClient
    tenant: str
    stop: threading.Event
    random: random.Random
    held: Held = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    writes: int = 0
    error: BaseException | None = None

    def run(self) -> None:
        """Write until told to stop; every write is sent until it is acknowledged, as the callers of the memory do."""
        try:
            while not self.stop.is_set():
                self.random.choice([self._insert, self._replace, self._set, self._embed, self._delete])()
                self.writes += 1
        except BaseException as error:  # noqa: BLE001 - reported by the test
            self.error = error

    def _insert(self) -> None:
        ids = [str(uuid.UUID(int=self.random.getrandbits(128), version=4)) for _ in range(self.random.randint(1, 5))]
        fresh = {point: self._payload() for point in ids}
        self._send(Insert([Point(point, payload) for point, payload in fresh.items()]))
        self.held |= {point: (payload, b"") for point, payload in fresh.items()}

    def _replace(self) -> None:
        for point in self._some():
            new = self._payload()
            self._send(Replace([Point(point, new)], within(self.tenant)))
            self.gone.append(self.held[point][0]["picture"])
            self.held[point] = (new, b"")

    def _set(self) -> None:
        for point in self._some():
            payload, vector = self.held[point]
            change = {"picture": self._payload()["picture"]}
            self._send(SetPayload(change, self._same(payload)))
            self.gone.append(payload["picture"])
            self.held[point] = ({**payload, **change}, vector)

    def _embed(self) -> None:
        ids = self._some()
        vectors = units(len(ids), seed=self.random.getrandbits(32), dimension=DIMENSION)
        if ids:
            self._send(UpdateVectors(ids, NamedVectors(VECTOR, vectors), within(self.tenant)))
        for point, vector in zip(ids, vectors, strict=True):
            self.held[point] = (self.held[point][0], vector.tobytes())

    def _delete(self) -> None:
        for point in self._some()[:2]:
            payload, _ = self.held[point]
            self._send(Delete(self._same(payload)))
            self.gone.append(payload["picture"])
            del self.held[point]

    def _send(self, write: Write) -> None:
        while True:
            try:
                self.engine.write([write])
            except Unavailable:
                continue
            return

    def _some(self) -> list[str]:
        return self.random.sample(sorted(self.held), min(len(self.held), self.random.randint(0, 5)))

    def _payload(self) -> dict[str, Any]:
        marker = f"marker-{self.random.getrandbits(64):016x}"
        return {"tenant": self.tenant, "picture": marker, "number": self.random.getrandbits(40)}

    def _same(self, payload: dict[str, Any]) -> PointFilter:
        return within(self.tenant, [Clause("picture", FieldType.KEYWORD, (payload["picture"],))])


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        lost: points that are not as they were acknowledged, or should not be there.
        returned: markers of what was deleted or overwritten that are still on the disk.
        during_compaction: kills that met one.
        writes: how many there were.
    """

    lost: int
    returned: int
    during_compaction: int
    writes: int


def kill_again_and_again(folder: Path, kills: int, *, compacting: bool, writers: int = 4) -> Outcome:
    """Kill the owner at random moments of writing, flushing and maybe compacting, then compare with the model."""
    stop = threading.Event()
    chance = random.Random(kills)
    with Owner(folder, prelude=OFTEN_FLUSHED) as owner:
        engine = EngineOwnerClient(owner.ready().socket, timeout=60)
        engine.create(VECTOR, DIMENSION, INDEXES)
        shape = engine.inspect()
        writing = [Writer(engine, f"t{n}", stop, random.Random(n)) for n in range(writers)]
        threads = [threading.Thread(target=each.run) for each in writing]
        if compacting:
            threads.append(threading.Thread(target=_compact_on_and_on, args=(engine, stop)))
        for thread in threads:
            thread.start()
        during = 0
        for number in range(kills):
            if compacting and number % 2:  # every other kill waits for a compaction to begin
                until(lambda: _drafts(owner.data), "a compaction")
            time.sleep(chance.uniform(0, 0.3))
            during += _drafts(owner.data)
            owner.kill()
            owner.start()
            engine.ping()
        stop.set()
        for thread in threads:
            thread.join()
        for each in writing:
            if each.error is not None:
                raise each.error
        engine.compact()
        assert engine.inspect() == shape
        expected: Held = {}
        for each in writing:
            expected |= each.held
        found = held_by(engine)
        lost = sum(found.get(point) != expected.get(point) for point in found.keys() | expected.keys())
        engine.close()
        assert owner.stop() == 0
        there = b"".join(path.read_bytes() for path in owner.data.rglob("*") if path.is_file())
        left = set(_markers(there))
        returned = len(left & {marker.encode() for each in writing for marker in each.gone})
        alive = {payload["picture"].encode() for payload, _ in expected.values()}
        assert len(alive - left) <= len(alive) / 50, "what lives is found, but for the few that LZ4 breaks by chance"
        return Outcome(lost, returned, during, sum(each.writes for each in writing))


def held_by(engine: EngineOwnerClient) -> Held:
    """Every point of an engine."""
    points, cursor = engine.export(EVERY_POINT, 500, None)
    while cursor is not None:
        more, cursor = engine.export(EVERY_POINT, 500, cursor)
        points += more
    return {point.id: (point.payload, _bytes(point.vectors)) for point in points}


def _compact_on_and_on(engine: EngineOwnerClient, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            engine.compact()
        except Unavailable:
            continue


def _drafts(folder: Path) -> bool:
    return len(list(folder.glob("shard-*"))) > 1


def _bytes(vectors: Any) -> bytes:
    return np.asarray(vectors[VECTOR], np.float32).tobytes() if vectors else b""


def _markers(data: bytes) -> list[bytes]:
    return re.findall(rb"marker-[0-9a-f]{16}", data)
