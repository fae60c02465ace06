"""Notes of an earlier version give way where they can be made again, and stay where the image is gone."""

import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.running_service import new_folder
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.records.tables import covered_images, removals
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.migrate_covered_images_v1 import delete_incomplete_records
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

SOURCE = Path(__file__).parents[1] / "fixtures" / "data_folder_2" / "data.tar.xz"
ASKED = {"step": "mark", "everything": False, "block": True, "reason": "r", "requested_by": "a test", "by_state": {}}


def test_only_those_of_images_that_are_there_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visual_memory.services.removal.migrate_covered_images_v1.PAGE", 2)
    with new_folder() as folder:
        with tarfile.open(SOURCE) as packed:
            packed.extractall(folder, [each for each in packed if each.name.startswith("data/engine")], filter="data")
        engine = EdgeEngine(folder / "data" / "engine")
        memory = Memory(engine, "efficientnet-lite0", 1280, {})
        pictures = {
            image.image_id: image.picture for image in memory.images.get("default", ["eve-1", "overlap-1"]).values()
        }
        noted = [
            *({"image_id": name, "picture": picture, "fields": {}} for name, picture in pictures.items()),
            {"image_id": "eve-1", "picture": "default/an/earlier-one", "fields": {}},
            {"image_id": "gone", "picture": "default/a/b", "fields": {}},
            {"image_id": "overlap-1", "picture": pictures["overlap-1"] + "2", "fields": {"labels": ["overlap"]}},
        ]
        rest = {"removal": "r", "tenant": "default", "state": "remembered", "content_hash": "c", "marked_by": "r"}
        with database.write() as connection:
            connection.execute(
                removals.insert().values(id="r", tenant="default", requested_at=datetime.now(UTC), **ASKED)
            )
            connection.execute(covered_images.insert(), [{**each, **rest} for each in noted])
        assert delete_incomplete_records(memory, database) == len(pictures)
        assert delete_incomplete_records(memory, database) == 0
        engine.close()
    with database.read() as connection:
        left = {(row.image_id, row.picture) for row in connection.execute(covered_images.select())}
    assert left == {(str(each["image_id"]), str(each["picture"])) for each in noted[len(pictures) :]}
