"""An API that kills itself at a step of its work: the real app over the real parts, whose calls are the steps."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import cast
from unittest.mock import patch

import httpx
import numpy as np
import PIL.Image
import uvicorn
from numpy.typing import NDArray

from tests.support.running_service import ENCODER, Stack, until
from tests.support.wired_service import Hooked, fixed
from visual_memory.services.api.app import create_app
from visual_memory.services.bootstrap.api_process import ApiProcess, api_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.decoding.preprocessing_crop import PreprocessingCrop
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.settings import Settings

NEVER = 10**9


class Fate:
    """Kills the process at its n-th step; what is called is a step before and a step after."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self._lock = threading.Lock()

    def __call__(self, _name: str = "") -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                os.kill(os.getpid(), signal.SIGKILL)


class NoEncoder:
    """What the API's wiring needs to know of the encoder; acceptance embeds nothing, so it need not be loaded."""

    name = ENCODER
    dimension = 1280
    batch_size = 8
    crop = PreprocessingCrop(256, 224)

    def encode(self, images: Sequence[PIL.Image.Image]) -> NDArray[np.float32]:
        raise NotImplementedError


def settings_beside(stack: Stack) -> Settings:
    """The settings of a running service, with another port for an API beside its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with patch.dict(os.environ, {**stack.environment, "VISUAL_MEMORY_API__PORT": str(port)}):
        return Settings()


@contextmanager
def wire(settings: Settings) -> Iterator[ActiveUseCases[ApiProcess]]:
    """The API's process as it is wired, without the encoder's network."""
    with (
        patch.object(wire_memory, "load_encoder", lambda *_: NoEncoder()),
        api_process(settings) as process,
    ):
        yield process


def serve(settings: Settings, steps: int) -> None:
    """Serve until step `steps` of the work on requests."""

    fate = Fate(steps)

    def hooked(part: object) -> Hooked:
        return Hooked(part, fate, fate)

    with wire(settings) as wired:
        service = wired.current()
        service.memory.points.engine = hooked(service.memory.points.engine)
        pictures = cast(PictureStore, hooked(service.pictures))
        service.accept.put.blocks._database = hooked(service.accept.put.blocks._database)  # type: ignore[assignment]
        os.fsync = hooked(os).fsync
        enqueue = Hooked(service.accept.enqueue, fate, fate).__call__
        mortal = replace(
            service, accept=replace(service.accept, put=replace(service.accept.put, pictures=pictures), enqueue=enqueue)
        )
        uvicorn.run(
            create_app(settings, fixed(mortal)), host=settings.api.host, port=settings.api.port, log_config=None
        )


@contextmanager
def mortal_api(settings: Settings, steps: int = NEVER) -> Iterator[BaseProcess]:
    """An API of its own that answers; forked from a process that has imported all that it needs."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])
    process = forks.Process(target=serve, args=(settings, steps), daemon=True)
    process.start()
    try:
        until(lambda: _answers(settings) or not process.is_alive(), "the API to answer")
        yield process
    finally:
        process.kill()
        process.join(10)


def _answers(settings: Settings) -> bool:
    try:
        return httpx.get(f"http://{settings.api.host}:{settings.api.port}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False
