"""Sessions of browsers and a tenant's keys over HTTP, by the app as it is wired."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.support.wired_service import METADATA, KeepsOpen, Parts, make_known
from visual_memory.schemas.api_key import KeyRequest, Scope
from visual_memory.schemas.session import Session
from visual_memory.services.api.app import create_app
from visual_memory.services.api.authenticate import SESSION_COOKIE
from visual_memory.services.api.csrf_token import CSRF_HEADER
from visual_memory.services.bootstrap.api_process import ApiProcess, api_process
from visual_memory.services.bootstrap.wiring import wire_memory
from visual_memory.services.settings import Settings


@pytest.fixture
def api(parts: Parts, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("VISUAL_MEMORY_CONFIG", os.devnull)
    monkeypatch.setattr(wire_memory, "open_engine", lambda *_: KeepsOpen(parts.memory.points.engine))
    monkeypatch.setattr(wire_memory, "load_encoder", lambda *_: parts.encoder)
    settings = Settings(data=short_folder / "data", metadata=METADATA)
    make_known(settings, parts.encoder)
    with api_process(settings) as process, TestClient(create_app(settings, process)) as client:
        yield client


@pytest.fixture
def service(api: TestClient) -> ApiProcess:
    found = api.app.state.service.current()  # type: ignore[attr-defined]
    assert isinstance(found, ApiProcess)
    return found


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def key_text(service: ApiProcess, *scopes: Scope, tenant: str = "north") -> str:
    return service.keys.make(KeyRequest(name="reviewer", tenant=tenant, scopes=[*scopes])).text


def test_a_key_becomes_a_session_that_reads_and_writes(api: TestClient, service: ApiProcess) -> None:
    text = key_text(service, Scope.ADMIN)
    answer = api.post("/v1/session", headers=bearer(text))
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/session")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    session = Session.model_validate(answer.json())
    assert api.get("/v1/session").json() == answer.json()
    assert api.get("/v1/me").json()["session_expires_at"] is not None
    write = {"name": "another", "scopes": ["read"]}
    refused = api.post("/v1/keys", json=write)
    assert (refused.status_code, CSRF_HEADER in refused.text) == (403, True)
    assert api.post("/v1/keys", json=write, headers={CSRF_HEADER: "wrong"}).status_code == 403
    made = api.post("/v1/keys", json=write, headers={CSRF_HEADER: session.csrf_token})
    assert made.status_code == 201, made.text
    assert api.delete("/v1/session", headers={CSRF_HEADER: session.csrf_token}).status_code == 204
    api.cookies.set(SESSION_COOKIE, cookie.split("=")[1].split(";")[0])
    assert api.get("/v1/me").status_code == 401


def test_the_key_wins_over_the_cookie(api: TestClient, service: ApiProcess) -> None:
    api.post("/v1/session", headers=bearer(key_text(service, Scope.READ)))
    other = key_text(service, Scope.READ, tenant="south")
    assert api.get("/v1/me", headers=bearer(other)).json()["tenant"] == "south"
    assert api.get("/v1/me", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert api.get("/v1/session", headers=bearer(other)).status_code == 404


def test_a_login_link_opens_one_session_and_nothing_else(api: TestClient, service: ApiProcess) -> None:
    key = service.keys.make(KeyRequest(name="reviewer", tenant="north", scopes=[Scope.ADMIN])).key
    token = service.login_links.make(key).text
    assert api.get("/v1/me", headers=bearer(token)).status_code == 401
    assert api.get("/v1/session", headers=bearer(token)).status_code == 401
    assert api.post("/v1/session", headers=bearer(token)).status_code == 201
    assert api.post("/v1/session", headers=bearer(token)).status_code == 401
    assert api.get("/v1/me").json()["key"] == key.id
    page = api.get("/login")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert api.get("/login.js").headers["content-type"].startswith("text/javascript")


def test_a_tenant_manages_its_own_keys_only(api: TestClient, service: ApiProcess) -> None:
    admin, stranger = bearer(key_text(service, Scope.ADMIN)), bearer(key_text(service, Scope.ADMIN, tenant="south"))
    made = api.post("/v1/keys", json={"name": "camera", "scopes": ["remember"]}, headers=admin).json()
    path = f"/v1/keys/{made['key']['id']}"
    assert api.get("/v1/me", headers=bearer(made["text"])).json()["scopes"] == ["remember"]
    assert [each["name"] for each in api.get("/v1/keys", headers=admin).json()["data"]] == ["reviewer", "camera"]
    assert [each["name"] for each in api.get("/v1/keys", headers=stranger).json()["data"]] == ["reviewer"]
    for method, what in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        assert api.request(method, path + what, headers=stranger).status_code == 404
    refused = api.post("/v1/keys", json={"name": "x", "scopes": ["read"], "tenant": "south"}, headers=admin)
    assert refused.status_code == 422
    rotated = api.post(f"{path}/rotate", headers=admin).json()["text"]
    assert rotated != made["text"]
    assert api.delete(path, headers=admin).json()["revoked_at"] is not None
    assert api.get(path, headers=admin).json()["revoked_at"] is not None
    assert api.post(f"{path}/rotate", headers=admin).status_code == 404
    actions = [each.action for each in service.audit.latest("north").data]
    assert actions == ["keys.revoke", "keys.rotate", "keys.make"]


def test_a_repeated_request_for_a_key_gets_the_same_key(api: TestClient, service: ApiProcess) -> None:
    admin = bearer(key_text(service, Scope.ADMIN)) | {"Idempotency-Key": "once"}
    body = {"name": "camera", "scopes": ["remember"]}
    first, again = (api.post("/v1/keys", json=body, headers=admin).json() for _ in range(2))
    assert first == again
    assert api.get("/v1/me", headers=bearer(first["text"])).status_code == 200
    other = api.post("/v1/keys", json={**body, "name": "another"}, headers=admin)
    assert other.status_code == 422
    api.post(f"/v1/keys/{first['key']['id']}/rotate", headers=admin)
    assert api.post("/v1/keys", json=body, headers=admin).status_code == 409


def test_me_says_what_the_key_may_do_and_what_is_on(api: TestClient, service: ApiProcess) -> None:
    wanted = KeyRequest(name="camera", tenant="north", scopes=[Scope.CLASSIFY], requests_per_minute=600)
    me = api.get("/v1/me", headers=bearer(service.keys.make(wanted).text)).json()
    assert (me["tenant"], me["name"], me["scopes"]) == ("north", "camera", ["classify"])
    assert (me["limits"]["requests_per_minute"], me["limits"]["bytes_per_minute"]) == (600, None)
    assert me["features"]["filter_fields"] == {name: kind.value for name, kind in METADATA.items()}
    assert me["encoder"] == service.classify.encoder.name
