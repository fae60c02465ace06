"""Points that earlier versions wrote come into one spelling of text, once; nothing else of them changes."""

import tarfile
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from tests.support.running_service import new_folder
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.memory.points.normalise_stored_text import normalise_points, normalised_fields
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT, Payload, Point, Write
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

SOURCE = Path(__file__).parents[1] / "fixtures" / "data_folder_2" / "data.tar.xz"
AT_ONCE = timedelta(microseconds=1)
RESPELLED = {"labels", "label_paths", "subject", "source", "metadata", "changed_at"}


class MortalEngine(EdgeEngine):
    """Ends its process at a write, once before it is made and once after."""

    deaths = 0

    def write(self, writes: Sequence[Write], read: Sequence[str] = (), urgent: bool = False) -> list[Payload]:
        """See `Engine.write`."""
        self.deaths -= 1
        if self.deaths == 1:
            raise KeyboardInterrupt
        done = super().write(writes, read, urgent)
        if self.deaths == 0:
            raise KeyboardInterrupt
        return done


@pytest.fixture
def engine() -> Iterator[MortalEngine]:
    with new_folder() as folder:
        with tarfile.open(SOURCE) as packed:
            packed.extractall(folder, [each for each in packed if each.name.startswith("data/engine")], filter="data")
        engine = MortalEngine(folder / "data" / "engine")
        yield engine
        engine.close()


def points(engine: EdgeEngine) -> dict[str, Point]:
    return {point.id: point for point in engine.export(EVERY_POINT, 1000, None)[0]}


def texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            yield from (text for each in value for text in texts(each))
        case dict():
            yield from (text for each in value.values() for text in texts(each))


def is_one_spelling(payload: Payload) -> bool:
    return all(unicodedata.is_normalized("NFC", text) for text in texts(payload))


def test_each_text_is_in_one_spelling_and_the_rest_is_as_it_was(engine: MortalEngine, database: Database) -> None:
    before = points(engine)
    counts = normalise_points(engine, database, AT_ONCE)
    assert counts == {"points": len(before), "subject": 3, "labels": 3, "source": 4, "metadata": 4}
    after = points(engine)
    assert after.keys() == before.keys()
    for point_id, then in before.items():
        now = after[point_id]
        assert is_one_spelling(now.payload)
        changed = {name for name in now.payload if now.payload[name] != then.payload.get(name)}
        assert changed <= RESPELLED
        assert bool(changed) != is_one_spelling(then.payload)
        assert ("labels" in changed) == ("changed_at" in changed) == ("label_paths" in changed)
        assert now.vectors.keys() == then.vectors.keys()
        assert all(np.array_equal(now.vectors[name], then.vectors[name]) for name in now.vectors)
    assert normalise_points(engine, database, AT_ONCE) == counts, "it is done once, and told again"


def test_a_kill_amid_the_points_is_made_good(
    engine: MortalEngine, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visual_memory.services.memory.points.normalise_stored_text.PAGE", 3)
    lives = 0
    for deaths in (2, 1, 4, 3, 0):
        engine.deaths = deaths
        try:
            normalise_points(engine, database, AT_ONCE)
        except KeyboardInterrupt:
            lives += 1
    assert lives == 4
    assert all(is_one_spelling(point.payload) for point in points(engine).values())


def test_a_store_without_a_collection_has_nothing_to_respell(database: Database, tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path / "engine")
    assert normalise_points(engine, database, AT_ONCE) == {}
    engine.close()


def test_what_cannot_be_seen_goes_and_two_labels_may_become_one() -> None:
    payload = {
        "labels": ["cafe\u0301/a\u200b", "caf\u00e9/a", "b"],
        "subject": "\u200b",
        "metadata": {"n": 1, "s": "\u0065\u0301"},
    }
    history = {"history": [{"labels": ["e\u0301"], "until": "2026-01-31T12:00:00+00:00"}]}
    assert normalised_fields(payload | history) == {
        "labels": ["café/a", "b"],
        "label_paths": ["b", "café", "café/a"],
        "subject": "\\u200b",
        "metadata": {"n": 1, "s": "é"},
        "history": [{"labels": ["é"], "until": "2026-01-31T12:00:00+00:00"}],
    }
    assert normalised_fields({"labels": ["café", "b"], "subject": "José", "source": None}) == {}
