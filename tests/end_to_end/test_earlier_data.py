"""A data folder, receipts, blocks and a backup that an earlier version made are opened and mean the same."""

import base64
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.errors import Blocked
from schemas.image import ImageFields, State
from schemas.removal import Removal, RemovalStatus
from services.client import Client
from services.memory.embedded.edge import EdgeEngine
from services.memory.engine import EVERY_POINT
from services.memory.payload import has_picture, to_image
from services.memory.pictures import Pictures
from services.perception.decoding import Limits, decode
from services.perception.loading import earlier_name, identify, load_encoder
from services.settings import EncoderSettings
from tests.shapes import picture
from tests.stack import SETTINGS, Stack, new_folder, running, until

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "fixtures").glob("data_folder_*/expected.json"))


@dataclass(frozen=True)
class Opened:
    """A running service over an earlier data folder, and what the earlier service said of it."""

    stack: Stack
    expected: dict[str, Any]


def _is_sealed(client: Client, removal_id: str) -> bool:
    return client.removal(removal_id).receipt is not None


def _unfinished(expected: dict[str, Any]) -> dict[str, str]:
    """The removals that were under way, by where they stopped."""
    return dict(expected.get("unfinished") or {name: expected[name] for name in ("asked", "marked")})


def command(data: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    settings = {f"VISUAL_MEMORY_{name}": value for name, value in {**SETTINGS, "DATA": str(data)}.items()}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *words],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: folder.name)
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    source: Path = request.param
    with new_folder() as folder:
        with tarfile.open(source / "data.tar.xz") as packed:
            packed.extractall(folder, filter="data")
        expected = json.loads((source / "expected.json").read_text())
        with running(folder / "data") as stack:
            for removal_id in _unfinished(expected).values():
                until(partial(_is_sealed, stack.client, removal_id), f"removal {removal_id} to have its receipt")
            yield Opened(stack, expected)


def test_images_are_as_they_were_and_what_waited_is_remembered(opened: Opened) -> None:
    waited = opened.expected["waiting"]
    opened.stack.remembered(waited)
    now = {image.image_id: image for image in opened.stack.client.images()}
    gone = opened.expected["images"].keys() - now.keys()
    covered = opened.expected.get("covered_by_unfinished")
    if covered is None:
        assert len(gone) == 2  # what the two removals covered that were under way
    else:
        assert gone == {image_id for each in covered.values() for image_id in each}
    for image_id, then in opened.expected["images"].items():
        if image_id in gone:
            continue
        image = now[image_id]
        assert (image.labels, image.subject) == (then["labels"], then["subject"])
        assert image.state == (State.REMEMBERED if image_id in waited else then["state"])


def test_what_was_under_way_is_finished_with_a_receipt(opened: Opened) -> None:
    for name, removal_id in _unfinished(opened.expected).items():
        done = opened.stack.client.removal(removal_id)
        assert done.status is RemovalStatus.DONE
        assert name not in ("asked", "marked") or done.images == 1


def test_receipts_that_were_handed_out_are_valid(opened: Opened, tmp_path: Path) -> None:
    files = []
    for name in opened.expected["receipts"]:
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(opened.expected["receipts"][name]))
    checked = command(opened.stack.data, "verify-removals", *map(str, files), "--json")
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["faults"] == []


def test_a_receipt_that_was_changed_is_not(opened: Opened, tmp_path: Path) -> None:
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(opened.expected["receipts"]["ann-erased"] | {"images": 7}))
    assert command(opened.stack.data, "verify-removals", str(forged)).returncode == 1


def test_blocks_refuse_what_they_refused(opened: Opened) -> None:
    blocked_picture = base64.b64decode(opened.expected["tom_picture"])
    with pytest.raises(Blocked):
        opened.stack.client.add([(blocked_picture, ImageFields(labels=["another"]))])
    with pytest.raises(Blocked):
        opened.stack.client.add([(picture("bars"), ImageFields(labels=["another"], subject="ann"))])


def test_decisions_and_evaluations_are_there(opened: Opened) -> None:
    client = opened.stack.client
    client.judge()  # the judgement of then was voided by the removals that were under way
    until(lambda: client.judgement().current, "the memory to be judged")
    assert {each.id for each in client.decisions()} == set(opened.expected["decisions"])
    for decision_id in opened.expected["decisions"]:
        client.replay(decision_id)


def test_keys_open_what_they_opened(opened: Opened) -> None:
    keys = opened.expected["keys"]
    with Client(opened.stack.url, keys["shop"]["text"]) as shop:
        assert [image.image_id for image in shop.images()] == ["shop-1"]
    with Client(opened.stack.url, opened.expected["admin"]) as admin:
        assert admin.labels()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_backup_is_restored_without_what_was_removed_since(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    with new_folder() as there:
        with tarfile.open(folder / "data.tar.xz") as packed:
            packed.extractall(there, filter="data")
        empty = there / "restored"
        empty.mkdir()
        (there / "data" / "records").rename(empty / "records")
        (there / "data" / "secret").rename(empty / "secret")
        restored = command(empty, "restore", str(folder / "backup"), "--json")
        assert restored.returncode == 0, restored
        removed = {Removal.model_validate(each).id: each for each in expected["receipts"].values()}
        # besides those that were done, the removal that was stopped behind its mark has begun to cover an image
        assert json.loads(restored.stdout)["left_out"] >= sum(each["images"] for each in removed.values())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_pictures_give_the_vectors_that_it_holds(folder: Path) -> None:
    """With the first preprocessing, which new pictures of such a memory go on to be encoded with."""
    settings = EncoderSettings(precision="float32")
    encoder, compared = load_encoder(settings, identify(settings, 1)), 0
    with new_folder() as there:
        with tarfile.open(folder / "data.tar.xz") as packed:
            packed.extractall(there, filter="data")
        pictures, engine = Pictures(there / "data" / "pictures"), EdgeEngine(there / "data" / "engine")
        points, _ = engine.export(EVERY_POINT, 1000, None)
        engine.close()
        for point in points:
            vector, image = point.vectors.get(earlier_name(settings)), to_image(point.payload)
            if vector is None or not has_picture(image.picture):
                continue
            seen = decode(pictures.read(image.picture), Limits(10**7, 10**7), encoder.view)
            assert float(np.dot(encoder.encode([seen])[0], vector)) > 0.99999
            compared += 1
    assert compared > 5
