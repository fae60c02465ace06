"""Promise 2: a picture that a crash left without a point does not outlive it for long; no other picture is touched."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from schemas.image import now
from services.answers.decisions import StoredDecisions
from services.forgetting.blocks import Blocks
from services.forgetting.tidy import Tidy
from services.memory.embedded.edge import EdgeEngine
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from tests.contract.support import ENCODER, METADATA, image


def tidy_of(memory: Memory, pictures: Pictures, ledger: Ledger) -> Tidy:
    decisions = StoredDecisions(ledger, ledger, memory, Blocks(ledger), 100)
    return Tidy(memory, pictures, ledger, timedelta(hours=1), [decisions.settle_all])


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

    assert tidy_of(memory, pictures, Ledger(tmp_path / "records"))() == 1
    assert pictures.all() == sorted([keys["kept"], keys["young"]])
    assert pictures.written_at(keys["young"]) > now() - timedelta(minutes=5)
    memory.close()


WRITE = """
import os, signal, sys
from services.memory.ledger import Ledger
from services.memory.pictures import Pictures
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "picture":
    Pictures(sys.argv[1]).write("t/aa/x", b"marker-picture")
Ledger(sys.argv[1]).put("a/b", "marker-record")
"""


def test_what_a_kill_left_half_written_goes_after_a_while(tmp_path: Path) -> None:
    """Promise 3: a draft of a picture holds the picture."""
    memory = Memory(EdgeEngine(tmp_path / "engine"), ENCODER, 8, METADATA)
    memory.open()
    pictures, ledger = Pictures(tmp_path / "pictures"), Ledger(tmp_path / "records")
    tidy = tidy_of(memory, pictures, ledger)
    for kind in ("picture", "record"):
        command = [sys.executable, "-c", WRITE, str(tmp_path / f"{kind}s"), kind]
        assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    drafts = [path for kind in ("pictures", "records") for path in (tmp_path / kind).rglob(".*")]
    assert [b"marker" in draft.read_bytes() for draft in drafts] == [True, True]
    assert pictures.all() == ledger.list("") == []
    assert tidy() == 0
    an_hour_ago = time.time() - 3700
    for draft in drafts:
        os.utime(draft, (an_hour_ago, an_hour_ago))
    (tmp_path / "pictures" / "t" / "aa" / ".keep").touch()
    os.utime(tmp_path / "pictures" / "t" / "aa" / ".keep", (an_hour_ago, an_hour_ago))
    ledger.put("a/c", "kept")
    assert tidy() == 2
    assert not any(draft.exists() for draft in drafts)
    assert ledger.list("") == ["a/c"]
    assert (tmp_path / "pictures" / "t" / "aa" / ".keep").exists()
    memory.close()
