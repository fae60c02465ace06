"""The command that drops an encoder, over a data folder where no service runs."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.encoder_specs import spec
from tests.support.tiny_encoders import dinov2
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.moments import now
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.cli.commands.encoder import app
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.load_encoder import identify
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings, Settings
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

ACTIVE = spec("tones", fingerprint="1" * 64)


@pytest.fixture
def added(short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderSpec:
    """An encoder that was added to a data folder, beside the active one."""
    dinov2(tmp_path / "enc")
    monkeypatch.setenv("VISUAL_MEMORY_DATA", str(short_folder))
    settings = Settings()
    identity = identify(EncoderSettings(name=str(tmp_path / "enc")))
    other = EncoderSpec(**identity.model_dump(), dimension=16, added_at=now())
    with records_of(settings) as database:
        records = EncoderRecords(database)
        records.create_first(ACTIVE)
        records.add(other)
    engine = EdgeEngine(DataPaths(settings.data).engine)
    Memory(engine, ACTIVE.name, ACTIVE.dimension, {}).open()
    engine.add_vector(vector_name(other.name), other.dimension)
    engine.close()
    return other


@pytest.mark.parametrize(
    ("command", "named"), [("drop", "name"), ("drop", "model"), ("drop", None), ("cancel", "model")]
)
def test_who_names_the_encoder_that_is_dropped_hears_that_the_next_start_is_refused(
    added: EncoderSpec, command: str, named: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named:
        monkeypatch.setenv("VISUAL_MEMORY_ENCODER__NAME", getattr(added, named))
    done = CliRunner().invoke(app, [command, added.name, "--yes", "--json"])
    assert done.exit_code == 0, done.output
    note = json.loads(done.stdout)["note"]
    assert ("next start is refused until" in note) == (named is not None)
    assert ("VISUAL_MEMORY_ENCODER__NAME unset" in note) == (named is not None)
