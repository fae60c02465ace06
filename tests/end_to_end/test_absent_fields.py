"""Absent is not null: what is left out stays, or a removal by it would miss the image; null clears."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.test_command_line import Cli
from tests.support.running_service import ENCODER, Stack, fields, unique
from tests.support.shape_pictures import as_npy, picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.removal import RemovalRequest

SAID: dict[str, Any] = {
    "file_name": "a.jpg",
    "source": "camera-1",
    "subject": "ann",
    "captured_at": "2026-01-31T12:00:00Z",
    "expires_at": "2126-01-31T12:00:00Z",
    "metadata": {"site": "north"},
}
JOSE, DECOMPOSED = "Jos\u00e9", "Jose\u0301"


def by_multipart(stack: Stack, data: bytes, said: dict[str, Any]) -> Any:
    return stack.http.post("/v1/images", files=[("files", ("p", data))], data={"fields": fields(**said)})


def by_json(stack: Stack, data: bytes, said: dict[str, Any]) -> Any:
    sent = {**said, "picture": base64.b64encode(data).decode()}
    return stack.http.post("/v1/images", json={"images": [sent]})


def by_client(stack: Stack, data: bytes, said: dict[str, Any]) -> Any:
    return stack.client.add([(data, ImageFields.model_validate(said))])


def as_vector(stack: Stack, data: bytes, said: dict[str, Any]) -> Any:
    vector = np.random.default_rng(list(data[-8:])).normal(size=(1, 1280)).astype(np.float32)
    parts = {"vectors": ("v.npy", as_npy(vector)), "fields": ("f.jsonl", fields(**said).encode())}
    return stack.http.post("/v1/vectors", files=parts, data={"encoder": ENCODER})


def as_vector_by_client(stack: Stack, data: bytes, said: dict[str, Any]) -> Any:
    vector = np.random.default_rng(list(data[-8:])).normal(size=(1, 1280)).astype(np.float32)
    return stack.client.add_vectors(ENCODER, vector, [ImageFields.model_validate(said)])


def shown(stack: Stack, image_id: str) -> dict[str, Any]:
    image: dict[str, Any] = stack.http.get(f"/v1/images/{image_id}").json()
    return {name: image[name] for name in (*SAID, "labels")}


@pytest.mark.parametrize("send", [by_multipart, by_json, by_client, as_vector, as_vector_by_client])
@pytest.mark.parametrize("content", ["the same", "another"])
def test_what_is_left_out_stays_and_null_clears(stack: Stack, send: Any, content: str) -> None:
    image_id, data = unique("absent"), picture("disc")
    again = data if content == "the same" else picture("bars")
    send(stack, data, {"labels": ["x"], "image_id": image_id, **SAID})
    send(stack, again, {"labels": ["y"], "image_id": image_id})
    assert shown(stack, image_id) == {**SAID, "labels": ["y"]}
    nulls: dict[str, Any] = dict.fromkeys(SAID) | {"metadata": {}}
    for name, empty in nulls.items():
        send(stack, again, {"labels": ["y"], "image_id": image_id, name: empty})
        assert shown(stack, image_id)[name] == empty
    assert shown(stack, image_id) == {**nulls, "labels": ["y"]}


def test_a_name_of_the_file_that_is_sent_is_kept_cleaned(stack: Stack) -> None:
    names = [
        "C:\\pets\\cat.jpg",
        f"../{DECOMPOSED}.png",
        "a\u200bb.png",
        "x" * 300 + ".jpeg",
        "picture",
        "blob",
        ".jpg",
    ]
    kept = ["cat.jpg", f"{JOSE}.png", "ab.png", "x" * 195 + ".jpeg", None, None, None]
    ids = [unique("named") for _ in names]
    answer = stack.http.post(
        "/v1/images",
        files=[("files", (name, picture("disc"))) for name in names],
        data={"fields": [fields(labels=["x"], image_id=image_id) for image_id in ids]},
    )
    assert answer.status_code == 202
    assert [shown(stack, image_id)["file_name"] for image_id in ids] == kept
    assert stack.held({"file_name": f"{DECOMPOSED}.png", "image_id": ids}).keys() == {ids[1]}
    files = [("files", ("other.png", picture("disc")))]
    said = fields(labels=["x"], image_id=ids[0], file_name=None)
    assert stack.http.post("/v1/images", files=files, data={"fields": said}).status_code == 202
    assert shown(stack, ids[0])["file_name"] is None, "what the fields say counts more"


def test_labels_of_what_is_there_are_replaced_as_the_caller_says(stack: Stack) -> None:
    image_id, data = unique("labels"), picture("disc")
    stack.teach(data, labels=["cat"], image_id=image_id)
    for rule, labels, told in [
        (LabelRule.KEEP, ["cat"], True),
        (LabelRule.ADD, ["cat", "dog"], False),
        (LabelRule.REPLACE, ["dog"], False),
    ]:
        [accepted] = stack.client.add([(data, ImageFields(labels=["dog"], image_id=image_id))], rule)
        assert (shown(stack, image_id)["labels"], accepted.other_labels) == (labels, told)
    refused = stack.http.post("/v1/images?label_rule=some", json={"images": []})
    assert refused.status_code == 422


def test_a_folder_sent_again_without_its_manifest_wipes_nothing(stack: Stack, tmp_path: Path) -> None:
    """Promise 2: a removal by subject missed all 60."""
    cli, subject = Cli(stack.url, stack.client.key or ""), unique("subject")
    for number in range(3):
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / f"{number}.png").write_bytes(picture("disc"))
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "path,labels,subject,source,captured_at,metadata.site,file_name\n"
        + "".join(
            f"cat/{n}.png,pet|cat/siamese,{subject},camera,2026-01-31T12:00:00Z,north,{'own.png' if n else ''}\n"
            for n in range(3)
        )
    )
    cli("add", manifest)
    before = stack.held({"subject": subject})
    assert {image.file_name for image in before.values()} == {"0.png", "own.png"}
    [told] = cli.json("add", tmp_path)
    assert (told["sent"], told["other_labels"]) == (3, 3)
    after = stack.held({"subject": subject})
    assert after == before
    assert "3 are stored with other labels, and keep them" in cli("add", tmp_path).stdout
    cli("add", tmp_path, "--label-rule", "add")
    assert {tuple(image.labels) for image in stack.held({"subject": subject}).values()} == {
        ("pet", "cat/siamese", "cat")
    }
    assert "--label-rule" in cli("add", tmp_path, "--label-rule", "some", code=2).stderr


def test_vectors_sent_again_by_a_table_without_fields_wipe_nothing(stack: Stack, tmp_path: Path) -> None:
    cli, subject, ids = Cli(stack.url, stack.client.key or ""), unique("subject"), [unique("row") for _ in range(2)]
    np.save(tmp_path / "v.npy", np.random.default_rng(5).normal(size=(2, 1280)).astype(np.float32))
    whole, bare = tmp_path / "whole.jsonl", tmp_path / "bare.jsonl"
    whole.write_text("".join(json.dumps({"labels": ["x"], "image_id": i, "subject": subject}) + "\n" for i in ids))
    bare.write_text("".join(json.dumps({"labels": ["y"], "image_id": i}) + "\n" for i in ids))
    for lines in (whole, bare):
        [told] = cli.json("add", tmp_path / "v.npy", "--labels", lines, "--encoder", ENCODER)
    assert told["other_labels"] == 2
    held = stack.held({"subject": subject})
    assert {name: image.labels for name, image in held.items()} == {key: ["x"] for key in ids}


def test_two_spellings_of_a_subject_are_one(stack: Stack) -> None:
    """Promise 2: the other spelling voted on, and was accepted."""
    name = unique("n")
    ids = stack.teach(picture("disc"), labels=["x"], subject=f"{JOSE} {name}")
    ids += stack.teach(picture("bars"), labels=["x"], subject=f" {DECOMPOSED} {name} ")
    assert stack.held({"subject": f"{DECOMPOSED} {name}"}).keys() == {*ids}
    request = RemovalRequest(filter=Filter({"subject": f"{DECOMPOSED} {name}"}), reason="asked", block=True)
    assert stack.client.remove(request).images == 2
    for spelling in (JOSE, DECOMPOSED):
        answer = by_multipart(stack, picture("checks"), {"labels": ["x"], "subject": f"{spelling} {name}"})
        assert answer.status_code == 403, answer.text
