"""Promise 8: which encoder a memory classifies with, by its records, its collection, and the settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.encoder_specs import spec
from tests.support.tiny_encoders import dinov2
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.encoder_migration.active_encoder import resolve_active_encoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.load_encoder import identify
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import Shape

BUILT_IN = EncoderSettings()


@dataclass
class Held:
    """A memory's records, and what its collection holds."""

    records: EncoderRecords
    vectors: Mapping[str, int] | None = None

    def resolve(self, settings: EncoderSettings = BUILT_IN) -> EncoderSpec:
        shape = None
        if self.vectors is not None:
            shape = Shape({vector_name(name): size for name, size in self.vectors.items()}, {})
        return resolve_active_encoder(self.records, shape, settings)


@pytest.fixture
def memory(database: Database) -> Held:
    return Held(EncoderRecords(database))


@pytest.fixture
def model(tmp_path: Path) -> EncoderSettings:
    folder = tmp_path / "m1" / "enc"
    dinov2(folder)
    return EncoderSettings(name=str(folder))


def test_a_new_memory_has_the_built_in_encoder_with_todays_preprocessing(memory: Held) -> None:
    found = memory.resolve()
    assert (found.model, found.preprocessing, found.dimension) == ("efficientnet-lite0", 2, 1280)
    assert found.name == identify(BUILT_IN).name == f"efficientnet-lite0-{found.fingerprint[:12]}"
    active = memory.records.active()
    assert active is not None
    assert active.name == found.name
    assert memory.records.get(found.name) == found


def test_a_new_memory_has_the_encoder_that_the_settings_name(memory: Held, model: EncoderSettings) -> None:
    found = memory.resolve(model)
    assert (found.name, found.dimension) == (identify(model).name, 16)
    memory.vectors = {found.name: 16}
    assert memory.resolve(model) == memory.resolve() == found  # once it is there, it need not be named


def test_an_earlier_memory_keeps_its_name_and_its_preprocessing(memory: Held, model: EncoderSettings) -> None:
    memory.vectors = {"efficientnet-lite0": 1280}
    found = memory.resolve()
    assert (found.name, found.preprocessing) == ("efficientnet-lite0", 1)
    assert found.fingerprint == identify(BUILT_IN, 1).fingerprint
    assert memory.resolve(EncoderSettings(name="efficientnet-lite0")) == found
    with pytest.raises(EncoderMismatch, match=r"visual-memory encoder add /.*/m1/enc"):
        memory.resolve(model)


def test_an_earlier_memory_of_a_folders_model(memory: Held, model: EncoderSettings) -> None:
    memory.vectors = {"enc-mean": 16}
    with pytest.raises(EncoderMismatch, match=r"enc-mean \(16 numbers\), and not of enc, which"):
        memory.resolve(model)
    assert memory.records.known() == {}
    found = memory.resolve(model.model_copy(update={"pooling": "mean"}))
    assert (found.name, found.model, found.pooling, found.preprocessing) == ("enc-mean", model.name, "mean", 1)
    with pytest.raises(EncoderMismatch, match="pooling auto"):
        memory.resolve(model)


def test_a_memory_without_records_is_known_by_the_fingerprint(memory: Held, model: EncoderSettings) -> None:
    memory.vectors = {f"moved-{identify(model).fingerprint[:12]}": 16}
    found = memory.resolve(model)
    assert (found.name, found.preprocessing) == (next(iter(memory.vectors)), 2)


def test_a_known_encoder_may_be_named_while_another_is_active(memory: Held, model: EncoderSettings) -> None:
    first = memory.resolve()
    added = spec("any name", **identify(model).model_dump(exclude={"name"}))
    memory.records.add(added)
    assert memory.resolve(model) == first
    assert memory.resolve(EncoderSettings(name="any name")) == first
    memory.records.switch("any name")
    assert memory.resolve(BUILT_IN) == memory.resolve(model) == added


def test_one_that_upgrades_by_itself_may_be_told_of_another(memory: Held, model: EncoderSettings) -> None:
    first = memory.resolve()
    assert memory.resolve(model.model_copy(update={"upgrade": "auto"})) == first


@pytest.mark.parametrize("upgrade", ["manual", "auto"])
def test_an_encoder_that_is_not_known_is_not_asked_of_the_hub(memory: Held, upgrade: str) -> None:
    first = memory.resolve()
    gone = EncoderSettings.model_validate({"name": "dinov2-small-0123456789ab", "upgrade": upgrade})
    with pytest.raises(EncoderMismatch, match=f"0123456789ab, and this memory has {first.name}: leave"):
        memory.resolve(gone)


def test_the_precision_is_part_of_it_where_vectors_do_not_agree(memory: Held, model: EncoderSettings) -> None:
    memory.resolve(model)
    with pytest.raises(EncoderMismatch, match="precision bfloat16"):
        memory.resolve(model.model_copy(update={"precision": "bfloat16"}))


def test_the_built_in_encoder_agrees_with_itself(memory: Held) -> None:
    first = memory.resolve()
    for precision in ("float32", "bfloat16"):
        named = {"name": "efficientnet-lite0", "precision": precision, "pooling": "cls"}
        assert memory.resolve(EncoderSettings.model_validate(named)) == first
