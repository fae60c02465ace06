"""The audit log: lines that processes can write at once, and that a tenant reads of its own alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import Blocked, Unavailable
from services.access.audit import BLOCK, Audit

WRITER = """
import sys
from pathlib import Path
from services.access.audit import Audit
for number in range(200):
    Audit(Path(sys.argv[1])).write("north", sys.argv[2] * 200, "accept", images=number)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "audit.jsonl"


def test_processes_that_write_at_once_write_whole_lines(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name in "abcd":
        assert [line["images"] for line in lines if line["by"] == name * 200] == list(range(200))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_tenant_reads_its_own_lines_the_latest_first(path: Path) -> None:
    audit = Audit(path)
    assert audit.latest("north", 10) == []
    for number in range(2 * BLOCK // 100):  # over several blocks
        audit.write("north" if number % 3 else "south", "camera", "accept", images=number)
    latest = audit.latest("south", 5)
    last = (2 * BLOCK // 100 - 1) // 3 * 3
    assert [line.images for line in latest] == [last - 3 * back for back in range(5)]
    everything = audit.latest("south", 10**6)
    assert [line.images for line in everything] == list(range(last, -1, -3))


def test_a_deed_is_written_with_its_outcome(path: Path) -> None:
    audit = Audit(path)
    with audit.deed("north", "camera", "remove", key="k", request="r") as said:
        said["removal"], said["images"] = "m", 3
    with pytest.raises(Blocked), audit.deed("north", "camera", "accept", images=2):
        raise Blocked("the subject, in words")
    with pytest.raises(ZeroDivisionError), audit.deed("north", "camera", "amend"):
        raise ZeroDivisionError("in words")
    broken, refused, done = audit.latest("north", 9)
    assert (done.outcome, done.removal, done.images, done.key, done.request) == ("done", "m", 3, "k", "r")
    assert (refused.action, refused.outcome, refused.images) == ("accept", "blocked", 2)
    assert (broken.action, broken.outcome) == ("amend", "internal")
    assert "in words" not in path.read_text()


def test_a_line_that_a_full_disk_cut_off_costs_no_other(path: Path) -> None:
    audit = Audit(path)
    audit.write("north", "camera", "accept", images=1)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole[:-10])
    audit.write("north", 'she said {"at": "noon"}', "accept", images=2)
    assert [line.images for line in audit.latest("north", 9)] == [2, 1]


def test_what_cannot_be_logged_is_not_answered_as_done(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(Unavailable, match="not written to the audit log"):
        Audit(path).write("north", "camera", "accept")
