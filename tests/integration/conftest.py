"""One embedded engine for all tests, each with a tenant and folders of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.memory.edge import EdgeEngine
from services.memory.memory import Memory
from tests.contract.support import quick_folder

from .support import METADATA, Parts, Pixels


@pytest.fixture(scope="session")
def memory() -> Iterator[Memory]:
    encoder = Pixels()
    with quick_folder() as folder:
        opened = Memory(EdgeEngine(folder), encoder.name, encoder.dimension, METADATA)
        opened.open()
        yield opened
        opened.close()


@pytest.fixture
def parts(memory: Memory) -> Iterator[Parts]:
    with quick_folder() as folder, ThreadPoolExecutor(4) as pool:
        yield Parts(folder, memory, pool)
