"""Promise 3: after a removal and its compaction no byte of what was removed is left below the data folder."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.support.running_service import Stack
from tests.support.shape_pictures import picture
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.bootstrap.operator_commands import operator_commands
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT

pytestmark = pytest.mark.one_machine
MARKS = {
    "labels": ["Mark-Of-Label/and-below"],
    "source": "mark-of-source",
    "subject": "mark-of-subject",
    "metadata": {"site": "mark-of-site", "undeclared": "mark-of-undeclared"},
}
TEXTS = (b"Mark-Of-Label", b"mark-of-source", b"mark-of-subject", b"mark-of-site", b"mark-of-undeclared", b"mark-of-id")


def command(stack: Stack, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command of the operator's, on the same machine."""
    return subprocess.run(
        [sys.executable, "-m", "visual_memory.services.cli", *words],
        env={**os.environ, **stack.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def holding(folder: Path, needles: Iterable[bytes]) -> dict[bytes, set[str]]:
    """The files below a folder that hold each of some bytes."""
    found: dict[bytes, set[str]] = {needle: set() for needle in needles}
    for path in filter(Path.is_file, folder.rglob("*")):
        data = written(path)
        for needle, files in found.items():
            if needle in data:
                files.add(str(path.relative_to(folder)))
    return found


def written(path: Path) -> bytes:
    """A file's bytes without its holes, which are most of the engine's files."""
    parts, end = list[bytes](), 0
    with path.open("rb") as file:
        try:
            while True:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                parts.append(os.pread(file.fileno(), end - start, start))
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
    return b"\0".join(parts)


def vectors(stack: Stack) -> dict[str, bytes]:
    """The stored vector of every image, as its bytes."""
    with operator_commands(stack.settings) as operator:
        points, cursor = operator.engine.export(EVERY_POINT, 1000, None)
        while cursor is not None:
            more, cursor = operator.engine.export(EVERY_POINT, 1000, cursor)
            points += more
    return {str(each.payload["image_id"]): b"".join(map(_bytes, each.vectors.values())) for each in points}


def _bytes(vector: object) -> bytes:
    return np.asarray(vector, np.float32).tobytes()


def test_no_byte_of_what_was_removed_is_left(stack: Stack, tmp_path: Path) -> None:
    sent = [picture("disc") for _ in range(6)]
    gone = [stack.teach(data, image_id=f"mark-of-id-{number}", **MARKS)[0] for number, data in enumerate(sent)]
    stack.remembered(gone)
    kept = stack.teach(picture("bars"), picture("bars"), labels=["kept-label"], source="kept-source")
    stack.remembered(kept)
    stack.teach(sent[0], image_id=gone[0], **{**MARKS, "labels": ["Mark-Of-Label/amended"]})
    [decision] = stack.client.classify([sent[1], picture("disc")], ClassifyOptions(k=3, store=True)).decisions[1:]
    assert {each.image_id for each in decision.neighbours} <= set(gone)
    embedded = vectors(stack)
    small = {each: stack.client.thumbnail(each) for each in (*gone, *kept)}
    erased = [*sent, *(embedded[each] for each in gone), *(small[each] for each in gone)]
    stays = [*(embedded[each] for each in kept), *(small[each] for each in kept), b"kept-source"]
    assert all(holding(stack.data, [*TEXTS, *erased, *stays]).values()), "what is to be looked for is there before"

    removed = stack.client.remove(RemovalRequest(filter=Filter({"labels": "Mark-Of-Label"}), reason="asked to"))
    assert (removed.status, removed.images, removed.erasure) == (RemovalStatus.DONE, 6, None)
    done = command(stack, "compact", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"erased": True, "note": ""}), done.stderr

    left = holding(stack.data, [*TEXTS, *erased, *stays])
    assert set().union(*(left[needle] for needle in TEXTS)) == set()
    assert set().union(*(left[needle] for needle in erased)) == set()
    assert all(left[needle] for needle in stays), "what was not removed is still there"

    assert stack.client.decision(str(decision.id)).scrubbed == 3
    assert [each.id for each in stack.client.decisions().data] == [decision.id], (
        "the other was asked with what is removed"
    )

    receipt = stack.client.removal(removed.id)
    assert receipt.erasure is not None
    assert receipt.erasure.erased
    handed_out = tmp_path / "receipt.json"
    handed_out.write_text(str(receipt.receipt))
    checked = command(stack, "verify-removals", str(handed_out), "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["faults"] == []
    handed_out.write_text(str(receipt.receipt).replace('"signature":"', '"signature":"AA'))
    assert command(stack, "verify-removals", str(handed_out)).returncode == 1


def test_backup_while_it_serves_and_restore_into_a_new_folder(stack: Stack, tmp_path: Path) -> None:
    ids = stack.teach(picture("cross"), picture("cross"), labels=["cross"], subject="restored")
    stack.remembered(ids)
    file = tmp_path / "backup"
    written = command(stack, "backup", str(file), "--json")
    assert written.returncode == 0, written.stderr
    assert json.loads(written.stdout)["points"] >= 2
    restored = command(stack, "restore", str(file), str(tmp_path / "new"), "--without-later-removals", "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["faults"] == []
    assert json.loads(restored.stdout)["points"] == json.loads(written.stdout)["points"]
    refused = command(stack, "restore", str(file), str(tmp_path / "new"), "--without-later-removals")
    assert refused.returncode == 1
    assert "restore into a new folder" in refused.stderr
    rehearsed = command(stack, "restore", str(file), "--rehearse", "--without-later-removals", "--json")
    assert json.loads(rehearsed.stdout)["points"] == json.loads(written.stdout)["points"]
