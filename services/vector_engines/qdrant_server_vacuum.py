"""Vacuum the segments of a collection on a Qdrant server: change its settings meanwhile, and restore them.

The usual settings are saved in the collection's metadata before they are changed. If the process dies in between, any
process on any machine restores them.
"""

import time
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.records.clock_check import is_over
from visual_memory.services.vector_engines.engine_contract import Compaction

USUAL = "visual_memory_usual_vacuum"
"""The key of the saved settings in the collection's metadata."""
THRESHOLD, MIN_VECTORS = 0.0, 100
"""Vacuum segments with any deleted point; the server accepts no smaller number of vectors in a segment than 100."""
MAX_CHECKS = 60
PAUSE = 0.5
"""How often, and after how many seconds each, to check whether the optimisers are idle."""
ABANDONED = timedelta(minutes=10)
"""No vacuum takes longer, because each of its calls has a timeout."""
LONG_AGO = datetime.min.replace(tzinfo=UTC)
ASKED = "The server was asked to vacuum every segment of over 100 vectors that holds a deleted point."
STILL_BUSY = "Its optimisers were still at work when this was written."
LEFT = (
    "Smaller segments, the write-ahead log, snapshots, replicas and backups are left to the server's operator:"
    " only there can it be said when the bytes are gone."
)


class UsualSettings(BaseModel):
    """The settings to restore, by default those of a server; `since` is when they were changed, None: they are not."""

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
        """Vacuum on the server; it reports only whether its optimisers are idle."""
        usual = self._usual().model_copy(update={"since": now()})
        self._client.update_collection(self._name, metadata={USUAL: usual.model_dump(mode="json")})
        try:
            self._set(THRESHOLD, MIN_VECTORS)
            rested = self._wait_for_optimisers()
        finally:
            self._restore(usual)
        return Compaction(erased=False, note=f"{ASKED} {'They came to rest.' if rested else STILL_BUSY} {LEFT}")

    def recover(self) -> None:
        """Restore the settings if a process died before it did; not while it may still be running."""
        if self._client.collection_exists(self._name):
            usual = self._usual()
            if usual.since is not None and is_over(usual.since, ABANDONED, now()):
                self._restore(usual)

    def _usual(self) -> UsualSettings:
        config = self._client.get_collection(self._name).config
        recorded = (config.metadata or {}).get(USUAL)
        if recorded is not None:
            return UsualSettings.model_validate(recorded)
        current = config.optimizer_config
        threshold, least = current.deleted_threshold, current.vacuum_min_vector_number
        if (threshold, least) == (THRESHOLD, MIN_VECTORS):
            return UsualSettings(since=LONG_AGO)  # by an earlier version, which did not save them
        return UsualSettings(deleted_threshold=threshold, vacuum_min_vector_number=least)

    def _restore(self, usual: UsualSettings) -> None:
        self._set(usual.deleted_threshold, usual.vacuum_min_vector_number)
        self._client.update_collection(self._name, metadata={USUAL: None})

    def _set(self, threshold: float | None, least: int | None) -> None:
        changed = models.OptimizersConfigDiff(deleted_threshold=threshold, vacuum_min_vector_number=least)
        self._client.update_collection(self._name, optimizers_config=changed)

    def _wait_for_optimisers(self) -> bool:
        """Wait until the optimisers are idle, which need a moment to start; False if they are still busy."""
        for _ in range(MAX_CHECKS):
            time.sleep(PAUSE)
            if self._client.get_collection(self._name).status == models.CollectionStatus.GREEN:
                return True
        return False
