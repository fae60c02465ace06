"""HTTPS servers on loopback that play the public ones which pictures are fetched from."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpcore
import trustme

from visual_memory.services.intake.picture_urls.dns_resolver import DnsResolver
from visual_memory.services.intake.picture_urls.fetch_url import FetchUrls

HOST = "pictures.example"
PUBLIC = "93.184.216.34"
BODY = b"any bytes" * 1000


def answering(body: bytes = BODY, status: str = "200 OK", **headers: str) -> bytes:
    named = {"Content-Length": str(len(body)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


class Server:
    """An HTTPS server on loopback that says the same to everyone: bytes, one after the other for as long as asked."""

    def __init__(self, authority: trustme.CA, name: str, says: Callable[[], Iterable[bytes]]) -> None:
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._tls)
        self._says = says
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self.port = self._listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.names: list[str] = []
        self.sent = 0
        self._tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._threads[0].start()

    def close(self) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(30)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
            self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with plain, self._tls.wrap_socket(plain, server_side=True) as connection:
                while request := connection.recv(65536):
                    self.asked.append(request)
                    for part in self._says():
                        if self._stopped.is_set():
                            return
                        connection.sendall(part)
                        self.sent += len(part)
        except OSError:
            return


@contextmanager
def serving(
    authority: trustme.CA, says: Callable[[], Iterable[bytes]] = lambda: [answering()], name: str = HOST
) -> Iterator[Server]:
    server = Server(authority, name, says)
    try:
        yield server
    finally:
        server.close()


@dataclass
class Loopback(httpcore.NetworkBackend):
    """Keeps what it is asked to connect to, and connects to a port of this machine instead; none: to nothing."""

    port: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def connect_tcp(self, host: str, port: int, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        self.asked.append((host, port))
        if self.port is None:
            raise httpcore.ConnectError("nobody there")
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", self.port, *arguments, **named)


def fetching(
    authority: trustme.CA,
    network: Loopback,
    hosts: str = HOST,
    resolve: Callable[[str, int], Sequence[str]] = lambda _host, _port: [PUBLIC],
    **changes: Any,
) -> FetchUrls:
    """A fetch as in the service, but that names lead to a public address and that leads to this machine."""

    def trust() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without this machine's authorities, slow to read
        authority.configure_trust(context)
        return context

    parts = {"names": DnsResolver(resolve), "trust": trust, "seconds": 30.0, **changes}
    return FetchUrls(frozenset(hosts.split()), 100_000, 250_000, network=network, **parts)
