"""One embedded engine for all tests, each with a tenant and folders of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.memory_images import quick_folder
from tests.support.wired_service import METADATA, Parts, Pixels, close_databases, faulty_sandbox, sound_sandbox
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine


@pytest.fixture(scope="session")
def memory() -> Iterator[Memory]:
    encoder = Pixels()
    with quick_folder() as folder:
        opened = Memory(EdgeEngine(folder), encoder.name, encoder.dimension, METADATA)
        opened.open()
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def _sandboxes() -> Iterator[None]:
    yield
    for sandbox in (sound_sandbox, faulty_sandbox):
        if sandbox.cache_info().currsize:
            sandbox().close()


@pytest.fixture
def _told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the tests' encoder, pictures of one shape are more alike than different pictures ever are to a real one."""
    monkeypatch.setattr("visual_memory.services.decisions.scrub_decision.SAME", 1 - 1e-9)


@pytest.fixture
def parts(memory: Memory, _sandboxes: None, _told_apart: None) -> Iterator[Parts]:
    with quick_folder() as folder, ThreadPoolExecutor(4) as pool:
        yield Parts(folder, memory, pool)
        close_databases()
