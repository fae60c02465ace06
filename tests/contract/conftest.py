"""The engines of the contract; the tests of a module share a collection of each engine, and each has a tenant."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.memory_images import DIMENSION, ENCODER, METADATA, Owner, quick_folder
from tests.support.qdrant_local_mode import local_client
from tests.support.qdrant_servers import SERVER_ENGINES, server_engine
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Engine
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine
from visual_memory.services.vector_engines.qdrant_server import QdrantServerEngine

ENGINES = ["edge", "remote", "local", *SERVER_ENGINES]


@pytest.fixture(scope="session")
def owner() -> Iterator[EngineOwnerClient]:
    """An engine in an owner process, which takes a while to start."""
    with (
        quick_folder() as folder,
        Owner(folder) as owner,
        closing(EngineOwnerClient(owner.ready().socket, 30)) as engine,
    ):
        yield engine


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A collection of every kind of engine in turn; local mode reads all of it for each call, so it stays small."""
    match request.param:
        case "edge":
            with quick_folder() as folder, closing(EdgeEngine(folder)) as edge:
                yield edge
        case "remote":
            yield request.getfixturevalue("owner")
        case "local":
            with closing(QdrantServerEngine(local_client(), "test")) as local:
                yield local
        case name:
            with server_engine(name) as engine:
                yield engine


@pytest.fixture(scope="module")
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
