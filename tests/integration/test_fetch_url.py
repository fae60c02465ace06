"""Promise 7: pictures by URL, through the API: all or none, and a host's fault is the sender's to hear of."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.testclient import TestClient

from tests.support.https_servers import HOST, Loopback, Server, answering, fetching, serving
from tests.support.shape_pictures import picture
from tests.support.wired_service import KeepsOpen, Parts, fixed, make_known
from visual_memory.schemas.api_key import KeyRequest, Scope
from visual_memory.services.access.api_keys import ApiKeys
from visual_memory.services.api.app import create_app
from visual_memory.services.bootstrap.api_process import api_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.bootstrap.wiring.wire_records import records_of
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class Web:
    """The API, and the server that it fetches from, with what that answers."""

    api: TestClient
    server: Server
    says: list[bytes]


@pytest.fixture
def web(parts: Parts, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """The app as it is wired, but that HOST is played by a server on this machine."""
    authority, says = trustme.CA(), [answering(picture("disc"))]
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    monkeypatch.setattr(wire_memory, "load_encoder", lambda *_: parts.encoder)
    monkeypatch.setattr(wire_memory, "open_engine", lambda *_: KeepsOpen(parts.memory.points.engine))
    settings = Settings(data=short_folder)
    make_known(settings, parts.encoder)
    with (
        serving(authority, lambda: says) as server,
        api_process(settings) as wired,
        records_of(settings) as database,
    ):
        process = replace(wired.current(), fetch=fetching(authority, Loopback(server.port)))
        key = ApiKeys(database).make(KeyRequest(name="a test", tenant=parts.tenant, scopes=[Scope.ADMIN]))
        headers = {"Authorization": f"Bearer {key.text}"}
        with TestClient(create_app(settings, fixed(process)), raise_server_exceptions=False, headers=headers) as api:
            yield Web(api, server, says)


def by_url(**fields: Any) -> dict[str, Any]:
    return {"url": f"https://{HOST}/disc.png", "labels": ["disc"], **fields}


def test_a_picture_by_url_is_held_like_one_that_was_sent(web: Web, parts: Parts) -> None:
    data = picture("disc")
    web.says[:] = [answering(data)]
    sent = web.api.post("/v1/images", json={"images": [by_url(image_id="fetched", source="web")]})
    assert sent.status_code == 202, sent.text
    [image] = parts.held("fetched")
    assert (image.content_hash, image.source, image.labels) == (sha256(data).hexdigest(), "web", ["disc"])
    web.says[:] = [answering(b"", "410 Gone")]
    assert web.api.get("/v1/images/fetched/picture").content == data, "it was fetched before it was answered 202"


def test_pictures_and_urls_keep_their_places(web: Web, parts: Parts) -> None:
    import base64

    first, last = picture("bars"), picture("cross")
    web.says[:] = [answering(last)]
    here = {"picture": base64.b64encode(first).decode(), "labels": ["bars"], "image_id": "here"}
    there = by_url(image_id="there")
    assert web.api.post("/v1/images", json={"images": [there, here, by_url(image_id="again")]}).status_code == 202
    hashes = [image.content_hash for image in parts.held("there", "here", "again")]
    assert hashes == [sha256(data).hexdigest() for data in (last, first, last)]


def test_classify_by_url(web: Web, parts: Parts) -> None:
    data = picture("disc")
    parts.teach(data, labels=["disc"])
    web.says[:] = [answering(data)]
    answer = web.api.post("/v1/classify", json={"urls": [f"https://{HOST}/1", f"https://{HOST}/2"], "k": 1})
    assert [decision["label"] for decision in answer.json()["decisions"]] == ["disc", "disc"]


@pytest.mark.parametrize(
    ("url", "says", "status", "code", "message"),
    [
        ("https://another.example/", b"", 422, "invalid_request", "URL 2 of 2: this host and port are not among"),
        (f"http://{HOST}/", b"", 422, "invalid_request", "begins with https://"),
        (f"https://{HOST}/", answering(b"", "404 No"), 422, "fetch_failed", "URL 1 of 2: the host answers 404"),
        (f"https://{HOST}/", answering(bytes(100_001)), 413, "too_large", "more than 100,000 bytes"),
        (f"https://{HOST}/", answering(b"<html>"), 422, "invalid_picture", "picture 1 of 2: the bytes are not a pict"),
    ],
)
def test_what_cannot_be_had_is_refused_with_all_that_came_with_it(
    web: Web, parts: Parts, url: str, says: bytes, status: int, code: str, message: str
) -> None:
    web.says[:] = [says]
    sent = {"images": [by_url(), {"url": url, "labels": ["disc"]}]}
    for answer in (
        web.api.post("/v1/images", json=sent),
        web.api.post("/v1/classify", json={"urls": [by_url()["url"], url]}),
    ):
        error = answer.json()
        assert (answer.status_code, error["code"]) == (status, code)
        assert message in error["detail"]
    assert parts.memory.images.count(parts.tenant) == 0
    assert parts.files() == set()
