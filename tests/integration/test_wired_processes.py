"""What a half wired process has opened is closed again, in reverse order; and all of it at the end."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.wired_service import Hooked, Parts, Pixels, make_known
from visual_memory.schemas.errors import EncoderMismatch, Unavailable
from visual_memory.services.bootstrap.api_process import api_process
from visual_memory.services.bootstrap.job_process import job_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.bootstrap.worker_process import worker_process
from visual_memory.services.infrastructure.records import database_flags
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine

Wire = Callable[[Settings], AbstractContextManager[object]]
PROCESSES = (api_process, worker_process, job_process)


class Opened:
    """Engines over that of the tests, which stays open; knows which are open."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.number = 0
        self.open: list[int] = []

    def __call__(self, *_: object) -> "Opened._One":
        self.number += 1
        self.open.append(self.number)
        return self._One(self, self.number)

    class _One(Hooked):
        def __init__(self, of: "Opened", number: int) -> None:
            super().__init__(of._engine)
            self._of, self._number = of, number

        def close(self) -> None:
            assert self._of.open.pop() == self._number, "the last that was opened is closed first"


@pytest.fixture
def settings(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    return Settings(data=short_folder)


@pytest.fixture
def engines(parts: Parts, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Opened:
    opened = Opened(parts.memory.points.engine)
    make_known(settings, parts.encoder)
    monkeypatch.setattr(wire_memory, "open_engine", opened)
    monkeypatch.setattr(wire_memory, "load_encoder", lambda *_: parts.encoder)
    return opened


def threads() -> set[str]:
    """The threads of this process, but for those that the tests share."""
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("wire", PROCESSES)
def test_at_the_end_all_is_closed(settings: Settings, engines: Opened, wire: Wire) -> None:
    before = threads()
    with wire(settings):
        assert engines.open
    assert engines.open == []
    assert threads() <= before


@pytest.mark.parametrize("wire", PROCESSES)
def test_what_cannot_be_wired_to_its_end_leaves_nothing_open(settings: Settings, engines: Opened, wire: Wire) -> None:
    before = threads()
    with records_of(settings) as database, database.write() as connection:
        database_flags.set_flag(database, connection, database_flags.RESTORE, {})
    with pytest.raises(Unavailable, match="a restore was begun"), wire(settings):
        pytest.fail("it was wired")
    assert engines.number
    assert engines.open == []
    assert threads() <= before


@pytest.mark.parametrize("wire", [api_process, worker_process])
def test_another_encoder_than_the_collections_leaves_nothing_open(
    settings: Settings, engines: Opened, monkeypatch: pytest.MonkeyPatch, wire: Wire
) -> None:
    before = threads()
    monkeypatch.setattr(wire_memory, "load_encoder", lambda *_: Pixels(name="another"))
    with pytest.raises(EncoderMismatch), wire(settings):
        pytest.fail("it was wired")
    assert engines.open == []
    assert threads() <= before
