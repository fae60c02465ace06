"""Fetch pictures by URL, only from the hosts that the operator lists.

Otherwise a sender could make this service request addresses that only it can reach (SSRF). So only https is used, to
listed hosts; every address of a host must be public, and the connection goes to the address that was checked.
"""

import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any

import httpcore
import httpx

from visual_memory.schemas.errors import FetchFailed, FetchUnanswered, InvalidRequest, TooLarge, VisualMemoryError
from visual_memory.services.intake.picture_urls.dns_resolver import DnsResolver, left

SECONDS = 10.0
HTTPS = 443
NOT_NOW = {408, 425, 429}
"""HTTP statuses after which another try may succeed."""
UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
HEADERS: Mapping[bytes | str, bytes | str] = {
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "User-Agent": "visual-memory",
}

log = logging.getLogger(__name__)


def is_public(address: str) -> bool:
    """Whether an address is public: not of this machine or a local network, and not multicast."""
    return _is_public(ip_address(address))


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if isinstance(ip, IPv4Address):
        return ip.is_global and not ip.is_multicast
    inner = ip.ipv4_mapped or ip.sixtofour or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
    return _is_public(inner) if inner is not None else ip in UNICAST and ip.is_global


@dataclass(frozen=True)
class FetchUrls:
    """The use case.

    Attributes:
        hosts: names in lower case, each with ``:port`` if that is not 443; empty: nothing is fetched.
        max_bytes: size of the largest picture.
        max_total: largest total size of the pictures of a call.
        seconds: time limit of a call.
        trust: makes the TLS context.
        names: resolves host names.
        may_reach: checks an address before connecting to it.
        network: makes the connections.
    """

    hosts: frozenset[str]
    max_bytes: int
    max_total: int
    seconds: float = SECONDS
    trust: Callable[[], ssl.SSLContext] = httpx.create_ssl_context
    names: DnsResolver = field(default_factory=DnsResolver)
    may_reach: Callable[[str], bool] = is_public
    network: httpcore.NetworkBackend = httpcore.SyncBackend()  # noqa: RUF009 - it holds no state

    def __call__(self, tenant: str, urls: Sequence[str]) -> list[bytes]:
        """Fetch the URLs of a tenant; an error names the first bad one by its number, counted from 1.

        Raises:
            InvalidRequest: a URL is not valid, or its host is not listed; nothing was requested.
            FetchFailed: a host does not return the picture.
            TooLarge: it returns too many bytes.
        """
        targets, fetched = [], list[bytes]()
        for index, url in enumerate(urls, 1):
            with _numbered(index, len(urls)):
                targets.append(self._target(url))
        if not targets:
            return []
        deadline = time.monotonic() + self.seconds
        with httpcore.ConnectionPool(self.trust(), network_backend=_Pinned(self, tenant, deadline)) as pool:
            for index, target in enumerate(targets, 1):
                with _numbered(index, len(urls)):
                    fetched.append(self._get(pool, target, self.max_total - sum(map(len, fetched))))
        return fetched

    def _target(self, text: str) -> httpcore.URL:
        if not self.hosts:
            raise InvalidRequest("pictures are not fetched here (pictures.url_hosts is empty): send the picture itself")
        try:
            url = httpx.URL(text)
        except (httpx.InvalidURL, ValueError):
            raise InvalidRequest("not a URL: write https://host/path") from None
        if url.scheme != "https" or url.userinfo:
            raise InvalidRequest("a picture's URL begins with https:// and has neither user nor password")
        host, port = url.raw_host.decode(), HTTPS if url.port is None else url.port
        if (host if port == HTTPS else f"{host}:{port}") not in self.hosts:
            raise InvalidRequest(
                "this host and port are not among those that pictures are fetched from: send it itself"
            )
        return httpcore.URL(scheme="https", host=host, port=port, target=url.raw_path)

    def _get(self, pool: httpcore.ConnectionPool, url: httpcore.URL, left_total: int) -> bytes:
        try:
            with pool.stream("GET", url, headers=HEADERS) as response:
                _check(response)
                return _limited(response.iter_stream(), self.max_bytes, left_total)
        except (httpcore.TimeoutException, TimeoutError):
            raise FetchUnanswered(
                f"the host takes more than {self.seconds:g} s: fetch fewer at once, or send it"
            ) from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            log.info("nothing could be fetched from %s: %r", url.host.decode(), error)
            raise FetchUnanswered("the host does not answer as a web server with a valid certificate does") from None


@contextmanager
def _numbered(index: int, number: int) -> Iterator[None]:
    try:
        yield
    except VisualMemoryError as error:
        where = f"URL {index} of {number}: " if number > 1 else ""
        raise type(error)(f"{where}{error.message}") from error


def _check(response: httpcore.Response) -> None:
    if 300 <= response.status < 400:
        raise FetchFailed("the host answers with a redirect, which is not followed: send the URL that it leads to")
    if response.status >= 500 or response.status in NOT_NOW:
        raise FetchUnanswered(f"the host answers {response.status} instead of the picture")
    if response.status != 200:
        raise FetchFailed(f"the host answers {response.status} instead of the picture")
    if any(name.lower() == b"content-encoding" and value.lower() != b"identity" for name, value in response.headers):
        raise FetchFailed("the host compresses its answer although the request excludes that")


def _limited(chunks: Iterable[bytes], max_bytes: int, left_total: int) -> bytes:
    arrived = bytearray()
    for chunk in chunks:
        arrived += chunk
        if len(arrived) > max_bytes:
            raise TooLarge(f"the host sends more than {max_bytes:,} bytes, the largest accepted size")
        if len(arrived) > left_total:
            raise TooLarge("the pictures of this request are too many bytes: fetch fewer at once")
    return bytes(arrived)


class _Pinned(httpcore.NetworkBackend):
    """Connects only to addresses that were checked, before the deadline."""

    def __init__(self, fetch: FetchUrls, tenant: str, deadline: float) -> None:
        self._fetch = fetch
        self._tenant = tenant
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """See `httpcore`."""
        failed: Exception = FetchFailed("the host has no address")
        for address in self._addresses(host, port):
            try:
                stream = self._fetch.network.connect_tcp(
                    address, port, left(self._deadline), local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failed = error
            else:
                return _Timed(stream, self._deadline)
        raise failed

    def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = self._fetch.names(self._tenant, host, port, self._deadline)
        except (socket.gaierror, UnicodeError) as error:
            again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
            raise (FetchUnanswered if again else FetchFailed)("the host has no address") from None
        if not all(self._fetch.may_reach(address) for address in found):
            log.warning("%s is a host to fetch from, but has an address that is not public", host)
            raise FetchFailed("the host has an address that is not public")
        return [str(ip_address(address)) for address in found]


class _Timed(httpcore.NetworkStream):
    """A stream whose operations share one deadline, so that a slow host cannot extend it."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        """See `httpcore`."""
        return self._inner.read(max_bytes, left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        """See `httpcore`."""
        self._inner.write(buffer, left(self._deadline))

    def close(self) -> None:
        """See `httpcore`."""
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        """See `httpcore`."""
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """See `httpcore`."""
        return self._inner.get_extra_info(info)
