"""Measure a judgement from scratch, and one that adds new images to the previous judgement.

``python -m benchmarks.judge [--images N] [--new N] [--dimension N]``; it is no part of ``make bench``. The vectors are
random directions, the engine is the embedded one within this process. What is printed as anew is a whole pass over all
images, the new ones included.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.curation.check_labels_of_new_images import CheckLabels
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.search_missing_neighbours import SearchMissingNeighbours
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.curation.undo_after_removal import UndoAfterRemoval
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.upgrade_schema import upgrade_schema
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

TENANT = "default"
ENCODER = "random"
CLASSES = 100
AT_ONCE = 1000
GIB = 2**30


def main(images: int, new: int, dimension: int) -> None:
    """Print the seconds of each step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        memory = Memory(EdgeEngine(folder / "engine"), ENCODER, dimension, {})
        memory.open()
        database = Database.in_folder(folder)
        upgrade_schema(database)
        judgements = StoredJudgements(database, BlobStore(folder / "judgements"), ENCODER)
        cache = VectorCache(4 * GIB)
        judge = JudgeMemory(memory, judgements, UpdateJudgementInput(memory, cache, images + new), 10)
        chance = np.random.default_rng(0)
        _measured(f"put {images:,} images", lambda: _put(memory, chance, 0, images))
        anew = _measured(f"judge {images:,} x {dimension} anew", lambda: _judge(judge))
        _put(memory, chance, images, new)
        folded = _measured(f"fold {new:,} new images in", lambda: _judge(judge))
        _measured("judge again, where nothing changed", lambda: _judge(judge))
        undo = UndoAfterRemoval(memory, judgements, CheckLabels(memory), SearchMissingNeighbours(memory))
        _measured(f"repair after the removal of {new:,}", lambda: _remove(memory, undo, new))
        _put(memory, chance, images + new, new)
        cold = JudgeMemory(memory, judgements, UpdateJudgementInput(memory, VectorCache(0), images + new), 10)
        _measured(f"fold {new:,} in with no vectors at hand", lambda: _judge(cold))
        print(f"anew takes {anew / folded:.1f} times as long as folded in")
        print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory at most")
        memory.close()
        database.close()


def _measured(what: str, work: Callable[[], object]) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what}: {wall:.1f} s, {cpu:.1f} s of the CPU", flush=True)
    return wall


def _judge(judge: JudgeMemory) -> None:
    judge.judge(TENANT, lambda *_: None)


def _put(memory: Memory, chance: np.random.Generator, start: int, number: int) -> None:
    for first in range(start, start + number, AT_ONCE):
        images = [_image(each) for each in range(first, min(first + AT_ONCE, start + number))]
        drawn: Vectors = chance.normal(size=(len(images), memory.dimension)).astype(np.float32)
        memory.writes.put(images, vectors=drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def _image(number: int) -> StoredImage:
    return StoredImage(
        image_id=f"image-{number * 7919 % 1_000_003:07}",  # in no order, as ids are that are digests
        labels=[f"label-{number % CLASSES:02}"],
        state=State.REMEMBERED,
        accepted_at=now(),
        content_hash=f"{number:064}",
        tenant=TENANT,
        picture=f"vector/{number}",
        encoder=ENCODER,
    )


def _remove(memory: Memory, undo: UndoAfterRemoval, number: int) -> None:
    pages = list(_gone(memory, number))
    memory.writes.delete([image for page in pages for image in page])
    undo(TENANT, pages)


def _gone(memory: Memory, number: int) -> Iterator[Sequence[StoredImage]]:
    for first in range(0, number, AT_ONCE):
        ids = tuple(_image(each).image_id for each in range(first, min(first + AT_ONCE, number)))
        yield from memory.images.pages(TENANT, [Clause("image_id", FieldType.KEYWORD, ids)], AT_ONCE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Seconds of a judgement anew and folded.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--dimension", type=int, default=1280)
    main(**vars(parser.parse_args()))
