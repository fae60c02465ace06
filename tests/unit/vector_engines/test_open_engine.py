"""The engine of the settings: what they say of a server reaches the client of Qdrant."""

import os
from pathlib import Path
from typing import Any

import pytest
import qdrant_client

from tests.support import qdrant_servers, service_stores
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.open_engine import open_engine


class Opened:
    """In the place of `qdrant_client.QdrantClient`: keeps what it was opened with."""

    arguments: dict[str, Any]
    collections: list[str]

    def __init__(self, **arguments: Any) -> None:
        Opened.arguments, Opened.collections = arguments, []

    def collection_exists(self, name: str) -> bool:
        Opened.collections.append(name)
        return False

    def delete_collection(self, name: str) -> None:
        Opened.collections.append(name)

    def close(self) -> None:
        pass


@pytest.fixture
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_client, "QdrantClient", Opened)
    monkeypatch.setattr(qdrant_servers, "QdrantClient", Opened)
    monkeypatch.setattr(qdrant_servers, "URL", "http://server:6333")
    monkeypatch.setattr(service_stores, "new_postgresql", lambda: "postgresql://postgres@server/records")
    monkeypatch.setenv("QDRANT_GRPC_PORT", "7334")
    monkeypatch.setenv("QDRANT_API_KEY", "the-key")


@pytest.mark.usefixtures("_server")
@pytest.mark.parametrize("engine", ["qdrant-http", "qdrant-grpc"])
def test_a_service_over_a_server_has_a_collection_that_outlives_its_processes(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    stores = service_stores.ServiceStores(engine)
    variables = stores.variables(Path("a"))
    assert stores.variables(Path("a")) == variables
    assert stores.variables(Path("b"))["STORE__COLLECTION"] != variables["STORE__COLLECTION"]
    for name, value in variables.items():
        monkeypatch.setenv(f"VISUAL_MEMORY_{name}", value)
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    opened = open_engine(Settings().store, Path(), 5)
    assert opened.inspect() is None
    assert Opened.collections == [variables["STORE__COLLECTION"]]
    expected = {"url": "http://server:6333", "api_key": "the-key", "grpc_port": 7334, "timeout": 5}
    assert Opened.arguments.items() >= {**expected, "prefer_grpc": engine == "qdrant-grpc"}.items()

    stores.close()
    assert Opened.arguments.items() >= {"url": "http://server:6333", "api_key": "the-key"}.items()
    assert stores.variables(Path("a"))["STORE__COLLECTION"] != variables["STORE__COLLECTION"]


def test_without_a_server_the_embedded_engine_is_used() -> None:
    assert service_stores.ServiceStores().variables(Path("a")) == {}
