"""Vacuuming the segments of a collection on a Qdrant server: its settings are changed meanwhile, and put back.

What they usually are is written into the collection's own metadata before they are changed. So if the process dies in
between, whoever looks next, on whatever machine, puts them back.
"""

import time
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from visual_memory.schemas.image import now
from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.vector_engines.engine_contract import Compaction

USUAL = "visual_memory_usual_vacuum"
"""The key in the collection's metadata."""
THRESHOLD, LEAST = 0.0, 100
"""Any deleted point is reason enough; the server takes no smaller number of vectors in a segment than 100."""
LOOKS = 60
PAUSE = 0.5
"""How often, and every how many seconds, to ask whether the optimisers are at rest."""
ABANDONED = timedelta(minutes=10)
"""No vacuuming takes longer: each call that it consists of has a timeout."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)
ASKED = "The server was asked to vacuum every segment of over 100 vectors that holds a deleted point."
STILL_BUSY = "Its optimisers were still at work when this was written."
LEFT = (
    "Smaller segments, the write-ahead log, snapshots, replicas and backups are left to the server's operator:"
    " only there can it be said when the bytes are gone."
)


class UsualSettings(BaseModel):
    """The settings to be put back, by default those of a server; `since` when they were changed, None: they are not."""

    deleted_threshold: float | None = 0.2
    vacuum_min_vector_number: int | None = 1000
    since: datetime | None = None


class Vacuum:
    """Vacuums one collection.

    Args:
        client: connected to the server.
        collection: its name.
    """

    def __init__(self, client: QdrantClient, collection: str) -> None:
        self._client = client
        self._name = collection

    def __call__(self) -> Compaction:
        """Ask the server to vacuum; it says only whether its optimisers are at rest."""
        usual = self._usual().model_copy(update={"since": now()})
        self._client.update_collection(self._name, metadata={USUAL: usual.model_dump(mode="json")})
        try:
            self._set(THRESHOLD, LEAST)
            rested = self._wait_for_optimisers()
        finally:
            self._put_back(usual)
        return Compaction(erased=False, note=f"{ASKED} {'They came to rest.' if rested else STILL_BUSY} {LEFT}")

    def recover(self) -> None:
        """Put the settings back where a process died in between; not where it may still be at work."""
        if self._client.collection_exists(self._name):
            usual = self._usual()
            if usual.since is not None and is_over(usual.since, ABANDONED, now()):
                self._put_back(usual)

    def _usual(self) -> UsualSettings:
        config = self._client.get_collection(self._name).config
        recorded = (config.metadata or {}).get(USUAL)
        if recorded is not None:
            return UsualSettings.model_validate(recorded)
        held = config.optimizer_config
        threshold, least = held.deleted_threshold, held.vacuum_min_vector_number
        if (threshold, least) == (THRESHOLD, LEAST):
            return UsualSettings(since=LONG_AGO)  # by an earlier version, which wrote nothing down
        return UsualSettings(deleted_threshold=threshold, vacuum_min_vector_number=least)

    def _put_back(self, usual: UsualSettings) -> None:
        self._set(usual.deleted_threshold, usual.vacuum_min_vector_number)
        self._client.update_collection(self._name, metadata={USUAL: None})

    def _set(self, threshold: float | None, least: int | None) -> None:
        changed = models.OptimizersConfigDiff(deleted_threshold=threshold, vacuum_min_vector_number=least)
        self._client.update_collection(self._name, optimizers_config=changed)

    def _wait_for_optimisers(self) -> bool:
        """Whether they have nothing more to do; they need a moment to begin."""
        for _ in range(LOOKS):
            time.sleep(PAUSE)
            if self._client.get_collection(self._name).status == models.CollectionStatus.GREEN:
                return True
        return False
