"""Promise 7 for strangers: with a key in the settings, no route but health answers without it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from schemas.filter import FieldType
from services import bootstrap
from services.api.app import create_app
from services.memory.engine import Engine
from services.settings import ApiSettings, Settings

from .support import METADATA, Parts

KEY = "a key that nobody guesses"
OPEN = {"/healthz", "/readyz", "/metrics"}
VERBS = {"get", "post", "put", "patch", "delete"}
UNKNOWN = "00000000-0000-0000-0000-000000000000"


class KeepsOpen:
    """The engine is that of other tests too: the app may use it, but not close it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def close(self) -> None:
        """Not now."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@pytest.fixture
def engine(parts: Parts) -> KeepsOpen:
    return KeepsOpen(parts.memory._engine)


@pytest.fixture
def api(parts: Parts, engine: KeepsOpen, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The app as `bootstrap` wires it, over the tests' engine and encoder; without a broker, as if Redis were down."""
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    monkeypatch.setattr(bootstrap, "open_engine", lambda *_: engine)
    monkeypatch.setattr(bootstrap, "load_encoder", lambda _: parts.encoder)
    settings = Settings(
        data=short_folder,
        tenant=parts.tenant,
        metadata=dict[str, FieldType](METADATA),
        api=ApiSettings(key=SecretStr(KEY)),
    )
    with TestClient(create_app(settings, bootstrap.bootstrap), raise_server_exceptions=False) as client:
        yield client


def routes(api: TestClient) -> list[tuple[str, str]]:
    """Every operation that the OpenAPI document knows, as (method, path)."""
    document = api.get("/openapi.json").json()
    return [
        (verb.upper(), path.replace("{image_id}", UNKNOWN).replace("{removal_id}", UNKNOWN))
        for path, operations in document["paths"].items()
        for verb in operations.keys() & VERBS
    ]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"X-API-Key": KEY},
        {"Authorization": "Bearer kéy"},
    ],
    ids=ascii,
)
def test_without_the_key_nothing_answers(api: TestClient, sent: dict[str, str]) -> None:
    closed = [(method, path) for method, path in routes(api) if path not in OPEN]
    assert len(closed) >= 10
    for method, path in closed:
        answer = api.request(method, path, headers={name.encode(): value.encode() for name, value in sent.items()})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_authorized"), (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "Authorization: Bearer" in answer.json()["error"]["message"]


def test_health_is_open_to_all(api: TestClient) -> None:
    for path in OPEN:
        assert api.get(path).status_code == 200, path


def test_with_the_key_every_route_answers(api: TestClient) -> None:
    for method, path in [(method, path) for method, path in routes(api) if path not in OPEN]:
        answer = api.request(method, path, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code in ({200} if method == "GET" and UNKNOWN not in path else {404, 422}), (method, path)


def test_a_stranger_s_body_is_not_read_before_the_key_is_checked(api: TestClient) -> None:
    for path in ("/v1/images", "/v1/classify"):
        answer = api.post(path, content=b"{not json", headers={"content-type": "application/json"})
        assert answer.status_code == 401, path
    assert api.post("/v1/removals", json={"colour": "red"}).status_code == 401


def test_the_record_of_a_removal_tells_that_the_key_was_used(api: TestClient) -> None:
    answer = api.post(
        "/v1/removals",
        json={"filter": {"subject": "ann"}, "reason": "asked to"},
        headers={"Authorization": f"Bearer {KEY}"},
    )
    assert answer.json()["requested_by"].endswith("with the API key")
    assert KEY not in answer.text


def test_the_document_describes_every_body(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    for path in ("/v1/images", "/v1/classify"):
        described = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(described) == {"application/json", "multipart/form-data"}
    for name in ("SentImages", "ImageFields", "ClassifyRequest", "ClassifyOptions"):
        assert name in document["components"]["schemas"]


def test_what_goes_wrong_inside_is_not_told_to_callers(api: TestClient, engine: KeepsOpen) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret of the house")

    engine.__dict__["facet"] = fail
    answer = api.get("/v1/labels", headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
