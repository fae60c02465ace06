"""The engines that the contract is tested on; all tests of an engine share one collection, each with its own tenant."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.memory_images import DIMENSION, ENCODER, METADATA, Owner, quick_folder
from tests.support.qdrant_local_mode import local_client
from tests.support.qdrant_servers import SERVER_ENGINES, server_engine
from visual_memory.services.memory.memory import Memory
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.engine_owner_client import RemoteEngine
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_server import QdrantEngine

ENGINES = ["edge", "remote", "local", *SERVER_ENGINES]


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One collection of every kind of engine in turn, without a shape yet."""
    match request.param:
        case "edge":
            with quick_folder() as folder:
                yield from _closing(EdgeEngine(folder))
        case "remote":
            with quick_folder() as folder, Owner(folder) as owner:
                yield from _closing(RemoteEngine(owner.ready().socket, timeout=30))
        case "local":
            yield from _closing(QdrantEngine(local_client(), "test"))
        case name:
            with server_engine(name) as engine:
                yield engine


def _closing(engine: Engine) -> Iterator[Engine]:
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def memory(engine: Engine) -> Memory:
    memory = Memory(engine, ENCODER, DIMENSION, METADATA)
    memory.open()
    return memory


@pytest.fixture
def tenant() -> str:
    return f"t{uuid.uuid4().hex}"


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        yield made
