"""Promise 2: a picture that a crash left without a point does not outlive it for long; no other picture is touched."""

import os
import time
from datetime import timedelta
from pathlib import Path

from schemas.image import now
from services.memory.edge import EdgeEngine
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.tidy import Tidy
from tests.contract.support import ENCODER, METADATA, image


def test_only_old_pictures_without_a_point_go(tmp_path: Path) -> None:
    memory = Memory(EdgeEngine(tmp_path / "engine"), ENCODER, 8, METADATA)
    memory.open()
    pictures = Pictures(tmp_path / "pictures")
    keys = {
        name: pictures.new_key(tenant, name, "0" * 64) for name, tenant in (("kept", "a"), ("old", "b"), ("young", "a"))
    }
    for key in keys.values():
        pictures.write(key, b"picture")
    an_hour_ago = time.time() - 3700
    for name in ("kept", "old"):
        os.utime(tmp_path / "pictures" / keys[name], (an_hour_ago, an_hour_ago))
    memory.put([image("a", "kept", picture=keys["kept"])])

    assert Tidy(memory, pictures, timedelta(hours=1))() == 1
    assert pictures.all() == sorted([keys["kept"], keys["young"]])
    assert pictures.written_at(keys["young"]) > now() - timedelta(minutes=5)
    memory.close()
