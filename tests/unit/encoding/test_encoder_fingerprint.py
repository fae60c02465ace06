"""Promise 8: an encoder is told apart from every other with different vectors, and from no other."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from tests.support.tiny_encoders import dinov2
from tests.unit.encoding.test_model_families import PICTURES
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.encoding.encoder_contract import EncoderUnusable
from visual_memory.services.encoding.load_encoder import identify, load_encoder
from visual_memory.services.settings import EncoderSettings

NAMED = "an-author/a-model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's."""
    dinov2(tmp_path / "m1" / "enc")
    return tmp_path / "m1" / "enc"


def digest(folder: Path, **settings: Any) -> str:
    return identify(EncoderSettings.model_validate({"name": str(folder), **settings})).fingerprint


def change_weight(file: Path) -> None:
    """Another number in a file of weights, of the same length."""
    weights = load_file(file)
    weights[min(weights)] += 1
    save_file(weights, file, {"format": "pt"})


def change_setting(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_the_built_in_encoders_names_stay() -> None:
    """Whoever has vectors of them would have to make them anew."""
    assert identify(EncoderSettings()).name == "efficientnet-lite0-276db636ed2c"
    assert identify(EncoderSettings(), 1).name == "efficientnet-lite0-42d5b2324914"


def test_where_and_how_it_is_computed_changes_nothing(folder: Path) -> None:
    first = identify(EncoderSettings(name=str(folder)))
    for other in ({"device": "cuda:0"}, {"batch_size": 3}, {"threads": 2}, {"precision": "float32"}):
        assert identify(EncoderSettings.model_validate({"name": str(folder), **other})) == first
    moved = shutil.copytree(folder, folder.parents[1] / "elsewhere" / "enc")
    again = identify(EncoderSettings(name=str(moved)))
    assert (again.name, again.fingerprint) == (first.name, first.fingerprint)


def test_what_decides_no_vector_changes_nothing(folder: Path) -> None:
    first = digest(folder)
    change_setting(folder / "config.json", transformers_version="4.0.0", _name_or_path="/home/somebody/enc")
    (folder / "README.md").write_text("a model")
    (folder / "generation_config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"is not read where there are the other weights")
    assert digest(folder) == first


CHANGES: dict[str, Callable[[Path], None]] = {
    "a weight": lambda folder: change_weight(folder / "model.safetensors"),
    "a setting of the network": lambda folder: change_setting(folder / "config.json", layer_norm_eps=0.1),
    "a setting of the pictures": lambda folder: change_setting(
        folder / "preprocessor_config.json", image_mean=[0, 0, 0]
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_decides_vectors_makes_another(folder: Path, change: Callable[[Path], None]) -> None:
    known = identify(EncoderSettings(name=str(folder)))
    before = load_encoder(EncoderSettings(), known).encode(PICTURES)
    change(folder)
    changed = identify(EncoderSettings(name=str(folder)))
    assert changed.fingerprint != known.fingerprint
    assert np.abs(load_encoder(EncoderSettings(), changed).encode(PICTURES) - before).max() > 1e-6
    with pytest.raises(EncoderMismatch, match=f"{known.name}.*restore those.*visual-memory encoder add FOLDER"):
        load_encoder(EncoderSettings(), known)


def test_pooling_precision_and_preprocessing_make_others(folder: Path) -> None:
    settings: list[dict[str, Any]] = [{}, {"pooling": "cls"}, {"pooling": "mean"}, {"precision": "bfloat16"}]
    digests = [digest(folder, **given) for given in settings]
    digests += [identify(EncoderSettings(name=str(folder)), 1).fingerprint]
    assert len({*digests}) == 5


def test_two_folders_of_one_name_are_two_encoders(folder: Path) -> None:
    other = folder.parents[1] / "m2" / "enc"
    dinov2(other)
    names = {identify(EncoderSettings(name=str(each))).name for each in (folder, other)}
    assert len(names) == 2
    assert {name.rpartition("-")[0] for name in names} == {"enc"}


def test_each_shard_of_the_weights_counts(tmp_path: Path) -> None:
    family = dinov2(tmp_path / "whole")
    family.model.save_pretrained(tmp_path / "whole", max_shard_size="5KB")
    (tmp_path / "whole" / "model.safetensors").unlink(missing_ok=True)
    shards = sorted((tmp_path / "whole").glob("model-*.safetensors"))
    assert len(shards) > 1
    known = digest(tmp_path / "whole")
    for shard in shards:
        change_weight(shard)
        assert digest(tmp_path / "whole") != known
        known = digest(tmp_path / "whole")


def test_weights_of_pytorch_count(tmp_path: Path) -> None:
    family = dinov2(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EncoderUnusable, match="contains no weights"):
        digest(tmp_path)
    weights = family.model.state_dict()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    known = digest(tmp_path)
    torch.save({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "pytorch_model.bin")
    assert digest(tmp_path) != known


def test_the_modules_that_sentence_transformers_saved_count(folder: Path, tmp_path: Path) -> None:
    SentenceTransformer(str(folder), device="cpu").save(str(tmp_path / "saved"), create_model_card=False)
    known = digest(tmp_path / "saved")
    assert known != digest(folder)
    change_setting(tmp_path / "saved" / "1_Pooling" / "config.json", pooling_mode="cls")
    assert digest(tmp_path / "saved") != known


def test_a_folder_that_was_moved_is_found_where_the_settings_name_it(folder: Path) -> None:
    known = identify(EncoderSettings(name=str(folder)))
    vectors = load_encoder(EncoderSettings(), known).encode(PICTURES)
    moved = folder.rename(folder.parent / "moved")
    with pytest.raises(EncoderUnusable, match="there is no such folder"):
        load_encoder(EncoderSettings(), known)
    found = load_encoder(EncoderSettings(name=str(moved)), known)
    assert found.name == known.name
    assert np.array_equal(found.encode(PICTURES), vectors)


class Hub:
    """A hub with one model, of which it tells the files of a folder; the real client asks it."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.commit = folder, "1" * 40
        self._cache = cache
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET  # noqa: N815 - as it is called

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        place = urlsplit(request.path).path
        headers = {"X-Repo-Commit": self.commit}
        if "/resolve/" in place:
            body = (self.folder / place.split(f"/resolve/{self.commit}/")[1]).read_bytes()
            headers["ETag"] = f'"{sha256(body).hexdigest()}"'
        elif "/tree/" in place:
            files = [path for path in self.folder.rglob("*") if path.is_file()]
            found = [(str(path.relative_to(self.folder)), path.stat().st_size) for path in files]
            listed = [{"type": "file", "path": path, "size": size, "oid": "0" * 40} for path, size in found]
            body = json.dumps(listed).encode()
        else:
            body = json.dumps({"id": NAMED, "modelId": NAMED, "sha": self.commit, "siblings": []}).encode()
        request.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def kept(self, offline: bool = False) -> Path:
        """Where another process finds the model; `offline`: without asking the hub, which takes half a minute."""
        host, port = self._server.server_address[:2]
        where = {
            "HF_ENDPOINT": f"http://{host!s}:{port}",
            "HF_HUB_CACHE": str(self._cache),
            "HF_HUB_OFFLINE": str(int(offline)),
        }
        code = (
            "from visual_memory.services.encoding.encoder_fingerprint import model_folder;"
            f"print(model_folder({NAMED!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **where}, capture_output=True, text=True, check=True
        )
        return Path(done.stdout.strip())


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Iterator[Hub]:
    opened = Hub(folder, tmp_path / "hub")
    yield opened
    opened.close()


def test_a_model_of_the_hub_is_fetched_once_and_kept_as_it_is(hub: Hub, folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"nothing that is read")
    kept = hub.kept()
    assert {path.name for path in kept.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    known = digest(folder)
    assert digest(kept) == known
    hub.commit = "2" * 40
    change_weight(folder / "model.safetensors")
    assert hub.kept() == kept
    hub.close()
    assert hub.kept() == kept
    assert digest(kept) == known


def test_a_model_of_the_hub_that_was_fetched_in_part(hub: Hub, folder: Path) -> None:
    kept = hub.kept()
    (kept / "preprocessor_config.json").unlink()
    assert hub.kept() == kept
    assert digest(kept) == digest(folder)
    (kept / "preprocessor_config.json").unlink()
    hub.close()
    assert hub.kept(offline=True) == kept  # perhaps it does without


def test_a_model_of_the_hub_with_older_weights(hub: Hub, folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert digest(hub.kept()) == digest(folder)


def test_a_model_of_the_hub_is_loaded_from_where_it_is_kept(
    hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.kept()
    hub.close()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    settings = EncoderSettings(name=NAMED)
    found = identify(settings)
    assert (found.model, found.fingerprint) == (NAMED, digest(folder))
    assert found.name == f"an-author-a-model-{found.fingerprint[:12]}"
    local = load_encoder(EncoderSettings(name=str(folder)))
    assert np.array_equal(load_encoder(settings, found).encode(PICTURES), local.encode(PICTURES))


@pytest.mark.parametrize("name", ["模型", "-", "..a", "x" * 200])
def test_a_folder_of_any_name_gives_vectors_a_name_for_a_store(folder: Path, tmp_path: Path, name: str) -> None:
    found = identify(EncoderSettings(name=str(folder.rename(tmp_path / name))))
    assert found.name[0].isalnum()
    assert len(found.name) < 120
    assert found.name.endswith(found.fingerprint[:12])
