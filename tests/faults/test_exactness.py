"""Promises 4, 6 and 8 at length: what a memory decides, after removals and of itself, and what it refuses to hold."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.conftest import Report
from tests.integration.test_exact_removal import Item, items, unlearn, votes
from tests.support.memory_images import quick_folder
from tests.support.wired_service import METADATA, Parts, Pixels
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

MEMORIES = 400
OTHERS = [("pixels", 47), ("pixel", 48), ("another/encoder", 48), ("pixels@2", 48)]


@pytest.fixture
def parts() -> Iterator[Parts]:
    with quick_folder() as folder, ThreadPoolExecutor(4) as pool:
        encoder = Pixels()
        memory = Memory(EdgeEngine(folder / "engine"), encoder.name, encoder.dimension, METADATA)
        memory.open()
        yield Parts(folder, memory, pool)
        memory.close()


def test_a_memory_that_forgot_decides_as_one_that_never_saw(parts: Parts, report: Report) -> None:
    compared: list[int] = []

    @settings(max_examples=MEMORIES, deadline=None, database=None)
    @given(items=items, options=votes, order=st.randoms(use_true_random=False))
    def hold(items: list[Item], options: ClassifyOptions, order: Random) -> None:
        compared.append(unlearn(parts, items, options, order))

    hold()
    report(4, "decisions of memories after a removal, held against memories that never saw it", sum(compared), 0, 0)
    report(6, "decisions counted again from their own neighbours", sum(compared), 0, 0)


def test_another_encoder_is_refused(report: Report) -> None:
    with quick_folder() as folder:
        for name, dimension in [("pixels", 48), *OTHERS]:
            engine = EdgeEngine(folder / "engine")
            memory = Memory(engine, name, dimension, METADATA)
            if (name, dimension) in OTHERS:
                with pytest.raises(EncoderMismatch, match=f"the settings name {name}"):
                    memory.open()
            else:
                memory.open()
            memory.close()
    report(8, "a collection opened with another encoder", len(OTHERS), 0, 0)
