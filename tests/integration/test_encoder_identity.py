"""Promise 8: a memory is served with the very model that its vectors were made with, or not at all."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support.memory_images import quick_folder
from tests.support.tiny_encoders import dinov2
from tests.support.wired_service import KeepsOpen
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.bootstrap.api_process import api_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.worker_process import worker_process
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings, Settings
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

Serve = Callable[..., AbstractContextManager[ActiveUseCases[Any]]]


@pytest.fixture
def engine() -> Iterator[EdgeEngine]:
    with quick_folder() as folder:
        opened = EdgeEngine(folder)
        yield opened
        opened.close()


@pytest.fixture(params=[api_process, worker_process])
def serve(
    request: pytest.FixtureRequest, engine: EdgeEngine, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """Wires a process over one data folder, with a model."""
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    monkeypatch.setattr(wire_memory, "open_engine", lambda *_: KeepsOpen(engine))

    def wired(model: Path | None) -> AbstractContextManager[ActiveUseCases[Any]]:
        named = EncoderSettings(name=str(model) if model else None)
        process: AbstractContextManager[ActiveUseCases[Any]] = request.param(Settings(data=short_folder, encoder=named))
        return process

    return wired


def test_a_model_is_known_by_what_it_is_and_not_by_where_it_lies(
    serve: Serve, engine: EdgeEngine, tmp_path: Path
) -> None:
    one, another = tmp_path / "m1" / "enc", tmp_path / "m2" / "enc"
    dinov2(one)
    dinov2(another)
    with serve(one):
        pass
    shape = engine.inspect()
    assert shape is not None
    [name] = shape.vectors
    assert name.startswith("enc-")
    with pytest.raises(EncoderMismatch, match=f"made with {name}.*visual-memory encoder add {another}"), serve(another):
        pytest.fail("another model was served over its vectors")
    kept = one.rename(tmp_path / "m1" / "kept")
    with serve(kept):
        pass
    another.rename(one)
    for named in (one, None):
        with pytest.raises(EncoderMismatch, match=f"{name}.*restore those"), serve(named):
            pytest.fail("another model was served over its vectors")
    again = engine.inspect()
    assert again is not None
    assert dict(again.vectors) == {vector_name(name): 16}
