"""Promise 3 on a server: whoever looks next puts back the settings of a vacuuming that died."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from qdrant_client import QdrantClient, models

from visual_memory.schemas.moments import now
from visual_memory.services.vector_engines import qdrant_server_vacuum
from visual_memory.services.vector_engines.engine_contract import Compaction
from visual_memory.services.vector_engines.qdrant_server import QdrantServerEngine

USUAL = (0.3, 4000)


class Killed(BaseException):
    """The process is gone; nothing of it may clean up after itself."""


class Server:
    """qdrant-client's local mode, which keeps no settings of optimisers, with these."""

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._client.create_collection("test", {"a": models.VectorParams(size=4, distance=models.Distance.COSINE)})
        self.settings = USUAL

    def update_collection(self, name: str, optimizers_config: Any = None, **changes: Any) -> None:
        if optimizers_config is not None:
            self.settings = (optimizers_config.deleted_threshold, optimizers_config.vacuum_min_vector_number)
        if changes:
            self._client.update_collection(name, **changes)

    def get_collection(self, name: str) -> models.CollectionInfo:
        found = self._client.get_collection(name)
        held = found.config.optimizer_config
        held.deleted_threshold, held.vacuum_min_vector_number = self.settings
        return found

    @property
    def metadata(self) -> dict[str, Any]:
        return self._client.get_collection("test").config.metadata or {}

    def age(self) -> None:
        """Let what is written down be long past."""
        held = {
            **self.metadata[qdrant_server_vacuum.USUAL],
            "since": (now() - 2 * qdrant_server_vacuum.ABANDONED).isoformat(),
        }
        self._client.update_collection("test", metadata={qdrant_server_vacuum.USUAL: held})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class Dying:
    """A client whose process is killed before its n-th call; after that none gets through."""

    def __init__(self, server: Server, calls: int) -> None:
        self._server, self.left = server, calls

    def __getattr__(self, name: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise Killed
        return getattr(self._server, name)


def engine_of(client: object) -> QdrantServerEngine:
    return QdrantServerEngine(cast(QdrantClient, client), "test")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_server_vacuum, "PAUSE", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def died(server: Server, calls: int) -> bool:
    try:
        engine_of(Dying(server, calls)).compact()
    except Killed:
        return True
    return False


def test_killed_at_any_call_the_next_look_puts_the_settings_back(server: Server) -> None:
    calls, changed = 0, 0
    while died(server, calls):
        left, recorded = server.settings, dict(server.metadata)
        changed += left != USUAL
        engine_of(server).recover()
        assert (server.settings, server.metadata) == (left, recorded), "it may still be at work"
        if recorded:
            server.age()
        engine_of(server).recover()
        assert (server.settings, server.metadata) == (USUAL, {})
        calls += 1
    assert changed >= 2
    assert (server.settings, server.metadata) == (USUAL, {})


def test_killed_at_any_call_the_next_compaction_takes_nothing_for_usual_that_it_finds(server: Server) -> None:
    calls = 0
    while died(server, calls):
        assert isinstance(engine_of(server).compact(), Compaction)
        assert (server.settings, server.metadata) == (USUAL, {})
        calls += 1


def test_what_an_earlier_version_left_is_set_to_what_a_server_has_by_itself(server: Server) -> None:
    server.settings = (qdrant_server_vacuum.THRESHOLD, qdrant_server_vacuum.MIN_VECTORS)
    engine_of(server).recover()
    assert server.settings == (0.2, 1000)


def test_settings_of_the_operators_and_a_store_without_a_collection_are_left_alone(server: Server) -> None:
    engine_of(server).recover()
    assert (server.settings, server.metadata) == (USUAL, {})
    server.delete_collection("test")
    engine_of(server).recover()
