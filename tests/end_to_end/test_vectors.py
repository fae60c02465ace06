"""Ready-made vectors through the whole service: from files by command, and what must not come in that way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.test_command_line import Cli
from tests.support.memory_images import units
from tests.support.running_service import ENCODER, Stack, unique
from tests.support.shape_pictures import as_npy
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.vector_engines.engine_contract import Vectors

DIMENSION = 1280
GOOD = as_npy(units(2, dimension=DIMENSION))
LINE = '{"labels": ["x"]}'


def rows(number: int, seed: int) -> Vectors:
    return units(number, seed, DIMENSION)


def test_added_by_command_they_vote_and_go_like_any_other(stack: Stack, tmp_path: Path) -> None:
    cli, source, vectors = Cli(stack.url, stack.client.key or ""), unique("bulk"), rows(6, seed=7)
    np.save(tmp_path / "v.npy", vectors)
    (tmp_path / "l.txt").write_text("".join(f"{source}/{n % 2}\n" for n in range(6)))
    words = ("add", tmp_path / "v.npy", "--labels", tmp_path / "l.txt", "--encoder", ENCODER, "--source", source)
    for _ in range(2):  # the second changes nothing
        [told] = cli.json(*words)
        assert (told["sent"], told["remembered"], told["refused"]) == (6, 6, {})
    held = stack.held({"source": source})
    assert len(held) == 6
    assert {(image.state, image.encoder) for image in held.values()} == {(State.REMEMBERED, ENCODER)}
    with stack.caller(stack.client.key) as http:
        for what in ("picture", "thumbnail"):
            answer = http.get(f"/v1/images/{next(iter(held))}/{what}")
            assert answer.status_code == 404
            assert "it came as a vector" in answer.json()["detail"]
        asked = {"vectors": vectors[:1].tolist(), "k": 1, "filter": {"source": source}}
        [decision] = http.post("/v1/classify", json=asked).json()["decisions"]
    assert decision["label"] == f"{source}/0"
    receipt = stack.client.remove(RemovalRequest(filter=Filter({"source": source}), reason="a test"))
    assert (receipt.images, receipt.pictures) == (6, 0)
    assert stack.held({"source": source}) == {}
    assert "another (1280 numbers)" in cli(*words[:5], "another", code=1).stderr


def form(**parts: Any) -> dict[str, Any]:
    """A request's parts; None leaves one out."""
    given = {"encoder": ENCODER, "fields": LINE, "vectors": ("v.npy", GOOD), **parts}
    return {
        "files": [
            (name, value if isinstance(value, tuple) else (None, value)) for name, value in given.items() if value
        ]
    }


TWICE = {"files": [("vectors", ("v.npy", GOOD)), *form()["files"]]}
BAD = {
    "another encoder": (form(encoder="resnet"), "of resnet (1280 numbers)"),
    "another dimension": (form(vectors=("v", as_npy(units(2)))), "(8 numbers)"),
    "zero": (form(vectors=("v", as_npy(np.zeros((2, DIMENSION), np.float32)))), "vector 0 is zero"),
    "not finite": (form(vectors=("v", as_npy(np.full((1, DIMENSION), np.nan, np.float32)))), "vector 0 is zero or not"),
    "no file": (form(vectors=("v", b"PAR1")), "no .npy file"),
    "a header that lies": (form(vectors=("v", GOOD.replace(b"(2, 1280)", b"(9, 9999)"))), "not as long"),
    "too many": (form(vectors=("v", as_npy(np.ones((4097, 8), np.float32)))), "at most 4096"),
    "vectors without a file's name": (form(vectors="1,2"), "no .npy file"),
    "no vectors": (form(vectors=None), "0 parts 'vectors'"),
    "two of them": (TWICE, "2 parts 'vectors'"),
    "an unknown part": (form(colour="red"), "no part 'colour'"),
    "lines too few": (form(vectors=("v", as_npy(rows(3, 0))), fields=f"{LINE}\n{LINE}"), "2 lines of fields"),
    "lines too many": (form(fields=("f", b"\n".join([LINE.encode()] * 3))), "3 lines of fields"),
    "a million lines": (form(fields=("f", b"\n{}" * 500_000)), "500000 lines of fields"),
    "a line across two": (form(fields='{"labels": ["x"]\n"source": "y"}'), "fields, number 1: is not JSON"),
    "a line that is too long": (form(fields=("f", b'{"labels": ["' + b"x" * 70_000 + b'"]}')), "over 65536 bytes"),
    "a line without labels": (form(fields="{}"), "fields: labels: must be given"),
    "one id for all": (form(fields='{"labels": ["x"], "image_id": "a"}'), "must not name an image_id"),
    "not text": (form(fields=("f", b"\xff\xfe")), "fields: is not JSON"),
    "JSON": ({"json": {"vectors": [[1.0] * DIMENSION]}}, "multipart/form-data"),
    "no form": ({"content": GOOD, "headers": {"content-type": "application/octet-stream"}}, "multipart/form-data"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_good_request_is_a_clear_4xx(stack: Stack, name: str) -> None:
    arguments, says = BAD[name]
    with stack.caller(stack.new_key(unique("bad"))) as http:
        answer = http.post("/v1/vectors", **arguments)
        assert answer.status_code == (415 if "form-data" in says else 422), answer.text
        assert says in json.loads(answer.text)["detail"]
        assert http.get("/v1/images").json()["data"] == []


def test_a_body_over_the_limit_is_refused(stack: Stack) -> None:
    with stack.caller(stack.client.key) as http:
        answer = http.post("/v1/vectors", **form(vectors=("v", bytes(2_100_000))))
    assert answer.status_code == 413
