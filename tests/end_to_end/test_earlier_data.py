"""A data folder, receipts, blocks and a backup that an earlier version made are opened and mean the same."""

import base64
import json
import tarfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import Ended, run_command
from tests.support.encoder_commands import Check, Commands, encoder_of, votes
from tests.support.running_service import SETTINGS, Stack, new_folder, running, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.errors import Blocked, Forbidden, NotAuthorized
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, has_picture, point_id
from visual_memory.schemas.removal import RemovalRequest, RemovalStatus
from visual_memory.services.client.http_client import Client
from visual_memory.services.decoding.picture_limits import PictureLimits
from visual_memory.services.decoding.pillow_decode import decode
from visual_memory.services.encoding.load_encoder import identify, legacy_name, load_encoder
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.memory.points.collection_schema import vector_name
from visual_memory.services.memory.points.point_payload import to_image
from visual_memory.services.settings import EncoderSettings
from visual_memory.services.vector_engines.engine_contract import EVERY_POINT
from visual_memory.services.vector_engines.qdrant_edge.edge_engine import EdgeEngine

OLD = "efficientnet-lite0"
pytestmark = pytest.mark.one_machine
FOLDERS = sorted(path.parent for path in (Path(__file__).parents[1] / "fixtures").glob("data_folder_*/expected.json"))
NAMES_WHO_WAS_REMOVED = {"20261130T062831906028-d65f6623"}
"""Decisions whose filter names the subject of a removal that was under way."""


@dataclass(frozen=True)
class Opened:
    """A running service over an earlier data folder, and what the earlier service said of it."""

    stack: Stack
    expected: dict[str, Any]
    source: Path


def _is_sealed(client: Client, removal_id: str) -> bool:
    return client.removal(removal_id).receipt is not None


def _unfinished(expected: dict[str, Any]) -> dict[str, str]:
    """The removals that were under way, by where they stopped."""
    return dict(expected.get("unfinished") or {name: expected[name] for name in ("asked", "marked")})


def command(data: Path, *words: str) -> Ended:
    settings = {f"VISUAL_MEMORY_{name}": value for name, value in {**SETTINGS, "DATA": str(data)}.items()}
    return run_command(*words, settings=settings)


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
            yield Opened(stack, expected, source)


def test_images_are_as_they_were_and_what_waited_is_remembered(opened: Opened) -> None:
    waited = opened.expected["waiting"]
    opened.stack.remembered(waited)
    now = {image.image_id: image for image in opened.stack.client.images().data}
    gone = opened.expected["images"].keys() - now.keys()
    covered = opened.expected.get("covered_by_unfinished")
    if covered is None:
        assert len(gone) == 2  # what the two removals covered that were under way
    else:
        assert gone == {image_id for each in covered.values() for image_id in each}
    for image_id, then in opened.expected["images"].items():
        if image_id in gone:
            continue
        image = now[image_id].model_dump(mode="json")
        for field in ("labels", "subject", "source", "metadata"):
            assert image[field] == in_nfc(then.get(field, image[field])), field
        assert image["state"] == ("remembered" if image_id in waited else then["state"])


def in_nfc(value: Any) -> Any:
    return json.loads(unicodedata.normalize("NFC", json.dumps(value, ensure_ascii=False)))


def test_a_subject_is_found_in_whichever_spelling_it_was_sent(opened: Opened) -> None:
    then = opened.expected["images"].items()
    ids = {image_id for image_id, image in then if in_nfc(image["subject"]) == "José"}
    for spelling in ("NFC", "NFD"):
        assert opened.stack.held({"subject": unicodedata.normalize(spelling, "José")}).keys() == ids


def test_what_was_under_way_is_finished_with_a_receipt(opened: Opened) -> None:
    covered = opened.expected.get("covered_by_unfinished", {})
    for name, removal_id in _unfinished(opened.expected).items():
        done = opened.stack.client.removal(removal_id)
        assert (done.status, done.filter) == (RemovalStatus.DONE, None)
        assert done.images == len(covered.get(name, ["one"])), "each covers all that met its filter, whoever deleted it"


def test_receipts_that_were_handed_out_are_valid_and_given_as_they_were(opened: Opened, tmp_path: Path) -> None:
    files = []
    for name, receipt in opened.expected["receipts"].items():
        files.append(tmp_path / f"{name}.json")
        files[-1].write_bytes(_handed_out(opened, name, receipt))
    checked = command(opened.stack.data, "verify-removals", *map(str, files), "--json")
    assert checked.returncode == 0, checked
    assert json.loads(checked.stdout)["faults"] == [], "nothing that was removed is there"
    assert command(opened.stack.data, "verify-receipt", *map(str, files)).returncode == 0
    for name in opened.expected["receipts"].keys() & {"ann-erased", "tom", "rene"}:
        receipt = opened.expected["receipts"][name]
        assert opened.stack.client.receipt(receipt["id"]).encode() == _handed_out(opened, name, receipt)


def _handed_out(opened: Opened, name: str, receipt: dict[str, Any]) -> bytes:
    """A receipt as bytes; of the first folder they are not kept, but written in the same way."""
    file = opened.source / "receipts" / f"{name}.json"
    return file.read_bytes() if file.exists() else json.dumps(receipt, separators=(",", ":")).encode()


def test_a_receipt_that_was_changed_is_not(opened: Opened, tmp_path: Path) -> None:
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(opened.expected["receipts"]["ann-erased"] | {"images": 7}))
    assert command(opened.stack.data, "verify-removals", str(forged)).returncode == 1


def test_blocks_refuse_what_they_refused(opened: Opened) -> None:
    contents = opened.expected.get("contents", {})
    blocked = {name: contents[name] for name in contents.keys() & {"ann", "tom", "rene", "eve", "deleting"}}
    for content in (opened.expected["tom_picture"], *blocked.values()):
        with pytest.raises(Blocked):
            opened.stack.client.add([(base64.b64decode(content), ImageFields(labels=["another"]))])
    subjects = ["ann", *(["eve", "dee", "René", unicodedata.normalize("NFD", "René")] if contents else [])]
    for subject in subjects:
        with pytest.raises(Blocked):
            opened.stack.client.add([(picture("bars"), ImageFields(labels=["another"], subject=subject))])


def test_no_record_is_a_file_any_more(opened: Opened) -> None:
    assert not (opened.stack.data / "records").exists()
    assert not (opened.stack.data / "audit.jsonl").exists()
    then = opened.expected.get("audit", [])
    now = [line.model_dump(mode="json", exclude_none=True) for line in opened.stack.client.audit(limit=1000).data]
    kept = {(line["at"], line["action"], line.get("removal")) for line in now}
    assert {(line["at"], line["action"], line.get("removal")) for line in then} <= kept


def test_decisions_and_evaluations_are_there(opened: Opened) -> None:
    client = opened.stack.client
    client.judge()  # the judgement of then was voided by the removals that were under way
    until(lambda: client.judgement().current, "the memory to be judged")
    kept = set(opened.expected["decisions"]) - NAMES_WHO_WAS_REMOVED
    assert {each.id for each in client.decisions().data} == kept
    for decision_id in kept:
        client.replay(decision_id)


def test_keys_open_what_they_opened(opened: Opened) -> None:
    keys = opened.expected["keys"]
    with Client(opened.stack.url, keys["shop"]["text"]) as shop:
        assert [image.image_id for image in shop.images().data] == ["shop-1"]
    with Client(opened.stack.url, opened.expected["admin"]) as admin:
        assert admin.labels().data
    for name in keys.keys() & {"revoked", "rotated_before"}:
        with Client(opened.stack.url, keys[name]["text"]) as former, pytest.raises(NotAuthorized):
            former.labels()
    with Client(opened.stack.url, keys["reader"]["text"]) as reader, pytest.raises(Forbidden):
        reader.remove_image("shop-1")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_backup_is_restored(folder: Path) -> None:
    with new_folder() as there:
        with tarfile.open(folder / "data.tar.xz") as packed:
            packed.extractall(there, filter="data")
        restored = command(
            there / "data", "restore", str(folder / "backup"), str(there / "new"), "--without-later-removals", "--json"
        )
        assert restored.returncode == 0, restored
        told = json.loads(restored.stdout)
        assert told["faults"] == []
        assert told["points"] >= told["pictures"] > 0
        with tarfile.open(folder / "backup") as old:
            assert told["pictures"] + told["left_out"] >= sum(name.startswith("pictures/") for name in old.getnames())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_its_pictures_give_the_vectors_that_it_holds(folder: Path) -> None:
    """With the first preprocessing, which new pictures of such a memory go on to be encoded with."""
    settings = EncoderSettings(precision="float32")
    encoder, compared = load_encoder(settings, identify(settings, 1)), 0
    with new_folder() as there:
        with tarfile.open(folder / "data.tar.xz") as packed:
            packed.extractall(there, filter="data")
        pictures, engine = PictureStore(there / "data" / "pictures"), EdgeEngine(there / "data" / "engine")
        points, _ = engine.export(EVERY_POINT, 1000, None)
        engine.close()
        for point in points:
            vector, image = point.vectors.get(legacy_name(settings)), to_image(point.payload)
            if vector is None or not has_picture(image.picture):
                continue
            seen = decode(pictures.read(image.picture), PictureLimits(10**7, 10**7), encoder.crop)
            assert float(np.dot(encoder.encode([seen])[0], vector)) > 0.99999
            compared += 1
    assert compared > 5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("opened", FOLDERS[:1], indirect=True, ids=lambda folder: folder.name)
def test_its_encoder_is_filled_compared_switched_back_and_forth_and_dropped(opened: Opened) -> None:
    """It moves to the encoder of today without a pause; last, for nothing is as it was afterwards."""
    stack = opened.stack
    stack.remembered(opened.expected["waiting"])
    encoders, check = Commands(stack.data), Check(Commands(stack.data))
    assert encoder_of(stack, "disc") == (OLD, "shape/disc")
    assert encoders.active == OLD
    old = encoders.known()[OLD]
    assert (old.preprocessing, old.dimension) == (1, 1280)
    assert "active already" not in encoders.refused("switch", "nobody")

    [damaged] = stack.remembered(stack.teach(picture("cross"), labels=["shape/cross"]))
    [file] = [path for path in stack.picture_files() if point_id("default", damaged) in path.name]
    file.write_bytes(b"no picture any more")

    said = encoders.encoder("add", OLD, "--wait")
    new = said["spec"]["name"]
    assert (said["spec"]["preprocessing"], said["counts"]["left"]) == (2, 0)
    assert "added already" in encoders.refused("add", OLD)
    assert said["counts"]["vectors_only"] > 0, "the folder holds images that came as vectors"
    assert said["counts"]["failed"] == 1
    stack.client.remove(RemovalRequest(filter=Filter({"image_id": damaged}), reason="it is damaged"))
    until(lambda: damaged not in check.commands.ids(), "it to be gone")
    assert len(check()[new]) == said["counts"]["filled"]

    [image_id] = stack.teach(picture("bars"), labels=["shape/bars"])
    stack.remembered([image_id])
    check_filled(encoders, check, image_id, new)

    check_compared(encoders, new)
    before = votes(stack)
    switched = encoders.encoder("switch", new)
    assert switched["not_voting"] == said["counts"]["vectors_only"]
    until(lambda: encoder_of(stack, "disc")[0] == new, "the switch to be seen")
    assert encoder_of(stack, "bars") == (new, "shape/bars")
    missing = encoders.run("encoder", "missing", new, "--json").stdout.splitlines()
    ours = {each["image_id"] for each in map(json.loads, missing) if each["tenant"] == "default"}
    assert before - votes(stack) <= ours

    encoders.encoder("switch", "--back")
    until(lambda: encoder_of(stack, "disc")[0] == OLD, "the way back to be seen")
    assert votes(stack) == before
    encoders.encoder("switch", new)
    until(lambda: encoder_of(stack, "disc")[0] == new, "the switch to be seen")
    check_dropped(encoders, check, stack, new)


def check_filled(encoders: Commands, check: Check, image_id: str, new: str) -> None:
    """A new image gets the vectors of both encoders."""
    both = {vector_name(OLD), vector_name(new)}
    until(lambda: both in [{*point.vectors} for point in encoders.points_of(image_id)], "both vectors")
    assert {OLD, new} == {each for each, ids in check().items() if image_id in ids and each}


def check_compared(encoders: Commands, new: str) -> None:
    compared = encoders.encoder("compare", "--tenant", "default")
    assert (compared["a"], compared["b"], compared["lacking"][OLD]) == (OLD, new, 0)
    assert compared["itself"]["b"]["accuracy"]["value"] > 0.5


def check_dropped(encoders: Commands, check: Check, stack: Stack, new: str) -> None:
    """Drop the encoder of then: nothing of its vectors is left on the disk."""
    alone = (point.vectors[vector_name(OLD)] for point in encoders.points() if [*point.vectors] == [vector_name(OLD)])
    numbers = np.array(next(alone), "<f4").tobytes()[:64]
    assert any(numbers in path.read_bytes() for path in files(stack.data))
    unsure = encoders.run("encoder", "drop", OLD)
    assert (unsure.returncode, "came as vectors of other encoders" in unsure.stdout) == (1, True)
    dropped = encoders.encoder("drop", OLD, "--yes")
    assert dropped["erased"]
    assert encoders.known().keys() == {new}
    assert encoder_of(stack, "checks") == (new, "shape/checks")
    assert check().keys() == {"", new}
    assert "was dropped" in encoders.refused("switch", "--back")
    verified = encoders.run("verify-removals", "--json")
    assert (verified.returncode, json.loads(verified.stdout)["faults"]) == (0, [])
    assert not any(numbers in path.read_bytes() for path in files(stack.data))


def files(data: Path) -> list[Path]:
    """Of the engine."""
    return [path for path in (data / "engine").rglob("*") if path.is_file()]
