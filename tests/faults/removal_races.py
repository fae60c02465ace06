"""Many workers and a removal at the same time: real processes over a real engine, and a check of what is left."""

import multiprocessing
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from tests.support.memory_images import Owner, quick_folder
from tests.support.shape_pictures import picture
from tests.support.wired_service import METADATA, TESTER, Parts, Pixels
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import Removal, RemovalRequest
from visual_memory.services.intake.remember_pictures import RememberPictures
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_owner_client import EngineOwnerClient

SLICE = 4
DELIVERIES = 2
LEASE = timedelta(seconds=120)
KINDS = 50
"""Different pictures; more would only test Pillow."""

_worker: list[RememberPictures] = []


@dataclass(frozen=True)
class Outcome:
    """How many images a removal covered, and what of them and of the others was found afterwards."""

    receipt: Removal
    survivors: int
    missing: int


@dataclass(frozen=True)
class Arena:
    """A memory, and workers in processes of their own."""

    parts: Parts
    workers: ProcessPoolExecutor


@contextmanager
def arena(number: int) -> Iterator[Arena]:
    """An engine in its owner process, and so many workers."""
    context = multiprocessing.get_context("spawn")
    with quick_folder() as folder, Owner(folder) as owner, ThreadPoolExecutor(8) as pool:
        parts = _parts(owner.ready().socket, folder, pool)
        parts.memory.open()
        with ProcessPoolExecutor(number, context, _begin, (owner.socket, folder)) as workers:
            yield Arena(parts, workers)
        parts.memory.close()


def forget_while_working(arena: Arena, images: int, seed: int) -> Outcome:
    """Half of the waiting images are removed at a random moment, while workers get twice as many messages as needed."""
    chance, tenant = random.Random(seed), f"t{uuid.uuid4().hex}"
    waiting = _put(arena.parts, tenant, images, chance)
    messages = images // SLICE * DELIVERIES
    working = [arena.workers.submit(_remember, tenant) for _ in range(messages)]
    _wait_for_share(working, chance.random())
    forget = arena.parts.forget(LEASE)
    request = RemovalRequest(filter=Filter({"subject": "goes"}), reason="asked to")
    receipt = forget.resume(tenant, forget.request(tenant, request, TESTER).id)
    for message in working:
        message.result()
    for _ in range(messages):  # delivered once more, long after the removal
        arena.workers.submit(_remember, tenant).result()
    return _outcome(arena.parts, tenant, waiting, receipt)


def _outcome(parts: Parts, tenant: str, waiting: Sequence[StoredImage], receipt: Removal) -> Outcome:
    held: dict[str, StoredImage] = {}
    listed = 0
    for page in parts.memory.images.pages(tenant, [], 1000):
        listed += len(page)
        held |= {image.image_id: image for image in page}
    assert listed == len(held), "each image is there once"
    files = set(parts.pictures.all(tenant))
    goes = [image for image in waiting if image.subject == "goes"]
    stays = [image for image in waiting if image.subject == "stays"]
    survivors = sum(image.image_id in held or image.picture in files for image in goes)
    done = [image for image in stays if image.image_id in held and image.picture in files]
    missing = sum(held[image.image_id].state is not State.REMEMBERED for image in done) + len(stays) - len(done)
    assert receipt.images == len(goes)
    return Outcome(receipt, survivors, missing)


def _put(parts: Parts, tenant: str, images: int, chance: random.Random) -> list[StoredImage]:
    drawn = [picture("disc") for _ in range(KINDS)]
    waiting = [
        StoredImage(
            image_id=f"image-{number}",
            labels=["cat"],
            state=State.WAITING,
            subject=chance.choice(["goes", "stays"]),
            accepted_at=now(),
            content_hash="0" * 64,
            tenant=tenant,
            picture=parts.pictures.new_key(tenant, f"image-{number}", "0" * 64),
        )
        for number in range(images)
    ]
    list(parts.pool.map(lambda image: parts.pictures.write(image.picture, chance.choice(drawn)), waiting))
    for start in range(0, images, 500):
        parts.memory.writes.put(waiting[start : start + 500])
    return waiting


def _wait_for_share(working: Sequence["Future[None]"], share: float) -> None:
    while sum(message.done() for message in working) < share * len(working):
        time.sleep(0.001)


def _begin(socket: Path, folder: Path) -> None:
    parts = _parts(socket, folder, ThreadPoolExecutor(1))
    _worker.append(parts.remember(lease=LEASE))


def _remember(tenant: str) -> None:
    _worker[0](tenant)


def _parts(socket: Path, folder: Path, pool: ThreadPoolExecutor) -> Parts:
    encoder = Pixels()
    memory = Memory(EngineOwnerClient(socket, timeout=60), encoder.name, encoder.dimension, METADATA)
    return Parts(folder, memory, pool, encoder)
