"""How both clients reach a service: which endpoints they have, over TLS, and through a proxy."""

import inspect
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from httpx._config import create_ssl_context

from tests.support.awaited_client import CLIENTS
from visual_memory.schemas.errors import Unavailable
from visual_memory.services.client import endpoints, retry_policy
from visual_memory.services.client.http_client import AsyncClient, Client

ELSEWHERE = "http://memory.example:8700"
EMPTY = b'{"data": [], "next_cursor": null, "has_more": false}'


class Listening(BaseHTTPRequestHandler):
    """Answers an empty list, and remembers the targets of requests: paths, or URLs where it is used as a proxy."""

    targets: list[str]

    def do_GET(self) -> None:
        self.targets.append(self.path.partition("?")[0])
        self.send_response(200)
        self.send_header("Content-Length", str(len(EMPTY)))
        self.end_headers()
        self.wfile.write(EMPTY)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server; its port."""
    Listening.targets = []
    with HTTPServer(("127.0.0.1", 0), Listening) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _short_pauses_and_no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry_policy, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", create_ssl_context)  # not the one of conftest
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_both_clients_have_every_endpoint() -> None:
    described = {
        name
        for name, value in vars(endpoints).items()
        if inspect.isfunction(value) and value.__module__ == endpoints.__name__ and not name.startswith("_")
    }
    for kind in (Client, AsyncClient):
        methods = {name for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"}
        assert methods - {"close", "send", "iterate", "events"} == described


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_method_shows_the_parameters_of_its_endpoint(kind: type) -> None:
    method = inspect.signature(kind("http://127.0.0.1:1").suspects)
    assert method.parameters == inspect.signature(endpoints.suspects).parameters
    assert kind.suspects.__doc__ == endpoints.suspects.__doc__  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_certificate_is_checked(kind: type[Client], tmp_path: Path) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with listening(tls) as port:
        url = f"https://localhost:{port}"
        for verify in (context, tmp_path / "ca.pem", str(tmp_path / "ca.pem"), False):
            with kind(url, verify=verify) as client:
                assert client.labels().data == []
        with kind(url) as client, pytest.raises(Unavailable, match="certificate"):
            client.labels()


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_environment_names_certificates(
    kind: type[Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with listening(tls) as port, kind(f"https://localhost:{port}") as client:
        assert client.labels().data == []


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_proxy_is_used(kind: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as port:
        proxy = f"http://127.0.0.1:{port}"
        with kind(ELSEWHERE, proxy=proxy) as client:
            assert client.labels().data == []
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with kind(ELSEWHERE) as client:
            assert client.labels().data == []
        assert Listening.targets == [f"{ELSEWHERE}/v1/labels"] * 2


@pytest.mark.parametrize("kind", CLIENTS)
def test_this_machine_is_reached_without_the_environment_s_proxy(
    kind: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with listening() as port:
        for host in ("127.0.0.1", "localhost"):
            with kind(f"http://{host}:{port}") as client:
                assert client.labels().data == []
        assert Listening.targets == ["/v1/labels"] * 2
