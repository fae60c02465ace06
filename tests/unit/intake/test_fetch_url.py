"""Promise 7: a URL makes this service ask nobody but public machines with a name on the list, and costs little."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import trustme
from pydantic import ValidationError

from tests.support.https_servers import BODY, HOST, PUBLIC, Loopback, answering, fetching, serving
from tests.support.running_service import until
from visual_memory.schemas.errors import FetchFailed, InvalidRequest, TooLarge
from visual_memory.services.intake.picture_urls.dns_resolver import LOOKUPS_OF_ONE, DnsResolver, resolve
from visual_memory.services.intake.picture_urls.fetch_url import HTTPS, FetchUrls, is_public
from visual_memory.services.settings import PictureSettings

PUBLIC6 = "2606:2800:220:1::1"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_a_picture_is_fetched_from_the_address_that_was_looked_at(authority: trustme.CA) -> None:
    with serving(authority) as server:
        network = Loopback(server.port)
        fetch = fetching(authority, network)
        assert fetch("a", [f"https://{HOST}/a%20b/c.jpg?size=1#part", f"HTTPS://{HOST.upper()}:443"]) == [BODY, BODY]
        assert network.asked == [(PUBLIC, 443)], "one connection for both"
        assert server.names == [HOST]
        first, second = server.asked
        assert first.startswith(b"GET /a%20b/c.jpg?size=1 HTTP/1.1\r\n")
        assert b"\r\nHost: pictures.example\r\n" in first
        assert b"\r\nAccept-Encoding: identity\r\n" in first
        assert second.startswith(b"GET / HTTP/1.1\r\n")
    assert fetch("a", []) == []


# --- which URLs are taken


@dataclass
class Canary:
    """A listener on every loopback address that notices whoever connects."""

    listeners: list[socket.socket]
    port: int

    def sings(self) -> bool:
        for listener in self.listeners:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture
def canary() -> Iterator[Canary]:
    four = socket.create_server(("0.0.0.0", 0))
    port = four.getsockname()[1]
    six = socket.create_server(("::1", port), family=socket.AF_INET6)
    with four, six:
        for listener in (four, six):
            listener.setblocking(False)
        yield Canary([four, six], port)


LOCAL = [
    "localhost",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "0.0.0.0",
    "0",
    "127.0.0.1.",
    "localhost.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "[2002:7f00:1::]",
    "[64:ff9b::127.0.0.1]",
    "[::1%25lo]",
    "127。0。0。1",
    "127\uff0e0\uff0e0\uff0e1",
    "①②⑦.⓪.⓪.①",
    "LOCALHOST",
    "%6cocalhost",
    "localhost%00.pictures.example",
]
TRICKS = [
    "https://{host}@{local}/",
    "https://{host}:x@{local}/",
    "https://{host}:443@{local}/",
    "https://@{local}/",
    "https://{host}%40{local}/",
    "https://{host}\\@{local}/",
    "https://{local}\\@{host}/",
    "https://{host}#@{local}/",
    "https://{host}?@{local}/",
    "https://{host}.{local}/",
    "https://{host}.evil.example:{port}/",
    "https://evil-{host}/",
    "https://evil.{host}/",
    "https://{host}./",
    "https://{host}../",
    "https://.{host}/",
    "https://{host}:80/",
    "https://{host}:{port}/",
    "https://{host}:0/",
    "https://{host}:-1/",
    "https://{host}:65979/",
    "https://{host}:4 43/",
    "https://{host}%2e/",
    "https://{host} .{local}/",
    "https://{host}\t.{local}/",
    "https://{host}\r\nHost: {local}/",
    "http://{local}/",
    "http://{host}:{port}/",
    "ftp://{local}/",
    "gopher://{local}/",
    "file:///etc/passwd",
    "file://{host}/etc/passwd",
    "data:image/png;base64,AAAA",
    "jar:https://{local}!/",
    "unix:///run/redis.sock",
    "https+unix://{local}/",
    "//{local}/",
    "///{local}/",
    "{local}",
    "https:{local}/",
    "https:/{local}/",
    "https:///{local}/",
    "https://",
    "https://[",
    "https://[::1",
    "https://[{host}]/",
    "",
    " ",
    "https://\ud800/",
    "https://" + "a" * 64 + "/",
    "https://" + "a." * 200 + "/",
]


@pytest.mark.parametrize("trick", [*TRICKS, *(f"https://{local}:{{port}}/" for local in LOCAL)])
def test_what_is_not_on_the_list_is_not_asked(canary: Canary, trick: str) -> None:
    url = trick.format(host=HOST, local=f"127.0.0.1:{canary.port}", port=canary.port)
    lands = {f"https://{HOST}#@127.0.0.1:{canary.port}/", f"https://{HOST}?@127.0.0.1:{canary.port}/"}
    looked_up: list[str] = []

    def nowhere(host: str, _port: int) -> list[str]:
        looked_up.append(host)
        return []

    fetch = FetchUrls(frozenset({HOST}), 1000, 1000, names=DnsResolver(nowhere))
    with pytest.raises(FetchFailed if url in lands else InvalidRequest):
        fetch("a", [url])
    assert looked_up == [HOST] * (url in lands), "these two are of the host on the list, with an odd path"
    assert not canary.sings()


@pytest.mark.parametrize("local", LOCAL)
def test_even_a_host_on_the_list_may_not_lead_to_this_machine(canary: Canary, local: str) -> None:
    """By the system's own resolver."""
    bare = local.strip("[]").replace("。", ".")
    fetch = FetchUrls(frozenset({f"{bare.lower()}:{canary.port}"}), 1000, 1000)
    with pytest.raises(InvalidRequest):
        fetch("a", [f"https://{local}:{canary.port}/"])
    assert not canary.sings()


def test_the_canary_would_sing(canary: Canary) -> None:
    fetch = FetchUrls(frozenset({f"localhost:{canary.port}"}), 1000, 1000, seconds=1.0, may_reach=lambda _address: True)

    def sung() -> bool:
        with pytest.raises(FetchFailed):
            fetch("a", [f"https://localhost:{canary.port}/"])
        return canary.sings()

    until(sung, "it to sing, where the second was long enough to connect")


def test_without_a_list_nothing_is_fetched() -> None:
    with pytest.raises(InvalidRequest, match=r"pictures\.url_hosts is empty"):
        FetchUrls(frozenset(), 1000, 1000)("a", [f"https://{HOST}/"])


def test_a_name_in_another_script_is_that_of_its_ascii_form(authority: trustme.CA) -> None:
    with serving(authority, name="xn--bcher-kva.example") as server:
        fetch = fetching(authority, Loopback(server.port), hosts="xn--bcher-kva.example")
        assert fetch("a", ["https://Bücher.example/"]) == [BODY]
        with pytest.raises(InvalidRequest):
            fetch("a", ["https://bucher.example/"])


def test_another_port_where_the_list_names_it(authority: trustme.CA) -> None:
    with serving(authority) as server:
        network = Loopback(server.port)
        fetch = fetching(authority, network, hosts=f"{HOST}:8443")
        assert fetch("a", [f"https://{HOST}:8443/"]) == [BODY]
        assert network.asked == [(PUBLIC, 8443)]
        for port in ("", ":443", ":8444"):
            with pytest.raises(InvalidRequest, match="host and port"):
                fetch("a", [f"https://{HOST}{port}/"])


@pytest.mark.parametrize(
    "host", ["Example.com", "example.com.", "https://a", "a/b", "*.a", "a:0", "a:x", "", "é", "a@b"]
)
def test_a_list_that_could_never_match_is_no_setting(host: str) -> None:
    with pytest.raises(ValidationError):
        PictureSettings(url_hosts=[host])
    assert PictureSettings(url_hosts=["a", "a-b.example", "xn--bcher-kva.example:8443", "10.0.0.1"]).url_hosts


# --- which addresses are

NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2002:c0a8:101::",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2001::1",
    "2001:db8::1",
    "100::1",
    "fe80::1",
    "fe80::1%1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
]


def giving(addresses: list[str]) -> Callable[[str, int], list[str]]:
    return lambda _host, _port: addresses


@pytest.mark.parametrize(
    "address",
    NOT_PUBLIC,
)
def test_an_address_that_is_not_public_is_not_connected_to(authority: trustme.CA, address: str) -> None:
    network = Loopback()
    for answers in ([address], [PUBLIC, address], [address, PUBLIC], [PUBLIC6, PUBLIC, address]):
        fetch = fetching(authority, network, resolve=giving(answers))
        with pytest.raises(FetchFailed, match="an address that is not public") as told:
            fetch("a", [f"https://{HOST}/"])
        assert address not in told.value.message
    assert network.asked == []


@pytest.mark.parametrize(
    "address", [PUBLIC, PUBLIC6, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"]
)
def test_an_address_that_is_public_is(address: str) -> None:
    assert is_public(address)


def test_a_name_is_looked_up_once_for_each_connection_and_looked_at_each_time(authority: trustme.CA) -> None:
    """Rebinding: what a name leads to changes between the look and the connection, and between two connections."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    with serving(authority, lambda: [answering(Connection="close")]) as server:
        network = Loopback(server.port)
        fetch = fetching(authority, network, resolve=lambda _host, _port: next(answers))
        with pytest.raises(FetchFailed, match="URL 2 of 2: the host has an address that is not public"):
            fetch("a", [f"https://{HOST}/1", f"https://{HOST}/2"])
    assert network.asked == [(PUBLIC, 443)]


def test_the_next_address_is_tried_where_one_cannot_be_reached(authority: trustme.CA) -> None:
    network = Loopback()
    with pytest.raises(FetchFailed, match="does not answer"):
        fetching(authority, network, resolve=lambda *_: [PUBLIC6, PUBLIC])("a", [f"https://{HOST}/"])
    assert network.asked == [(PUBLIC6, 443), (PUBLIC, 443)]


def test_a_name_without_an_address(authority: trustme.CA) -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    def nowhere(_host: str, _port: int) -> list[str]:
        return []

    for how in (unknown, nowhere):
        with pytest.raises(FetchFailed, match="no address"):
            fetching(authority, Loopback(), resolve=how)("a", [f"https://{HOST}/"])
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]


# --- what hosts answer


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "304 Not"]
)
def test_a_redirect_is_not_followed(authority: trustme.CA, canary: Canary, status: str) -> None:
    target = f"https://localhost:{canary.port}/secret"
    with serving(authority, lambda: [answering(b"", status, Location=target)]) as server:
        network = Loopback(server.port)
        fetch = fetching(authority, network, hosts=f"{HOST} localhost:{canary.port}")
        with pytest.raises(FetchFailed, match="redirect, which is not followed") as told:
            fetch("a", [f"https://{HOST}/"])
        assert "secret" not in told.value.message
        assert len(network.asked) == len(server.asked) == 1
    assert not canary.sings()


@pytest.mark.parametrize("status", ["204 No", "206 Part", "401 Who", "404 Not Found", "500 Oh", "503 Later"])
def test_an_answer_that_is_no_picture(authority: trustme.CA, status: str) -> None:
    match = f"answers {status[:3]} instead"
    with serving(authority, lambda: [answering(b"", status)]) as server, pytest.raises(FetchFailed, match=match):
        fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])


def test_a_compressed_answer_is_refused(authority: trustme.CA) -> None:
    zipped = answering(Content_Encoding="gzip")
    with serving(authority, lambda: [zipped]) as server, pytest.raises(FetchFailed, match="compresses"):
        fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])


SOON, GIVEN_UP = 0.2, r"more than 0\.2 s"


def endless(start: bytes, part: bytes, pause: float = 0) -> Callable[[], Iterator[bytes]]:
    def says() -> Iterator[bytes]:
        yield start
        while True:
            time.sleep(pause)
            yield part

    return says


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "says",
    [
        lambda: [answering(bytes(100_001))],
        lambda: [answering(bytes(2_000_000))],
        endless(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1000)),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", bytes(1000)),
        endless(CHUNKED, b"3e8\r\n" + bytes(1000) + b"\r\n"),
    ],
    ids=["one byte", "much", "without end", "as it said", "in chunks"],
)
def test_bytes_are_counted_as_they_arrive(authority: trustme.CA, says: Callable[[], Iterable[bytes]]) -> None:
    with serving(authority, says) as server:
        with pytest.raises(TooLarge, match="more than 100,000 bytes"):
            fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])
        assert server.sent < 20_000_000, "what the sockets hold, and no more"


def test_as_much_as_is_taken(authority: trustme.CA) -> None:
    with serving(authority, lambda: [answering(bytes(100_000))]) as server:
        fetch = fetching(authority, Loopback(server.port))
        assert list(map(len, fetch("a", [f"https://{HOST}/"] * 2))) == [100_000] * 2
        with pytest.raises(TooLarge, match=r"URL 3 of 3: .* fetch fewer at once"):
            fetch("a", [f"https://{HOST}/"] * 3)


@pytest.mark.parametrize(
    "says",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nX-More: ", b"and more"),
        lambda: [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"],
        lambda: [b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n"],
        lambda: [CHUNKED + b"zz\r\n"],
    ],
    ids=["many headers", "a long header", "SSH", "length", "header", "chunk"],
)
def test_what_is_no_http_or_has_no_end_of_headers(authority: trustme.CA, says: Callable[[], Iterable[bytes]]) -> None:
    with serving(authority, says) as server:
        with pytest.raises(FetchFailed, match="does not answer as a web server"):
            fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])
        assert server.sent < 20_000_000


@pytest.mark.parametrize(
    "says",
    [
        endless(b"", b"", 0.05),
        endless(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n", 0.05),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b".", 0.05),
    ],
    ids=["silent", "headers", "continue", "body"],
)
def test_a_host_that_takes_its_time_is_given_up(authority: trustme.CA, says: Callable[[], Iterable[bytes]]) -> None:
    """It says something every now and then, so that no single wait is long."""
    with serving(authority, says) as server, pytest.raises(FetchFailed, match=GIVEN_UP):
        fetching(authority, Loopback(server.port), seconds=SOON)("a", [f"https://{HOST}/"])


def test_a_host_that_never_shakes_hands_is_given_up(authority: trustme.CA, canary: Canary) -> None:
    with pytest.raises(FetchFailed, match=GIVEN_UP):
        fetching(authority, Loopback(canary.port), seconds=SOON)("a", [f"https://{HOST}/"])
    assert canary.sings()


def test_a_name_that_is_looked_up_for_ever_is_given_up(authority: trustme.CA) -> None:
    ended = threading.Event()
    fetch = fetching(authority, Loopback(), seconds=SOON, resolve=lambda *_: [str(ended.wait(60))])
    try:
        with pytest.raises(FetchFailed, match=GIVEN_UP):
            fetch("a", [f"https://{HOST}/"])
    finally:
        ended.set()


def test_names_of_one_tenant_that_hang_hold_up_no_other_tenant() -> None:
    ended, begun = threading.Event(), threading.Semaphore(0)

    def look_up(host: str, _port: int) -> list[str]:
        if host == "hangs":
            begun.release()
            assert ended.wait(60)
        return [host]

    names, never = DnsResolver(look_up), time.monotonic() + 600
    with ThreadPoolExecutor(16) as threads:
        hanging = [threads.submit(names, "a", "hangs", HTTPS, never) for _ in range(16)]
        for _ in range(LOOKUPS_OF_ONE):
            assert begun.acquire(timeout=60)
        assert names("b", "answers", HTTPS, never) == ["answers"]
        assert not begun.acquire(blocking=False), "one tenant has no more than its part"
        ended.set()
        assert [each.result() for each in hanging] == [["hangs"]] * 16
    assert names("a", "answers", HTTPS, never) == ["answers"]


@pytest.mark.parametrize("name", ["another.example", "*.pictures.example", "127.0.0.1", PUBLIC])
def test_a_certificate_of_another_name_is_not_accepted(authority: trustme.CA, name: str) -> None:
    with serving(authority, name=name) as server:
        with pytest.raises(FetchFailed, match="valid certificate"):
            fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])
        assert server.asked == []


def test_a_certificate_of_nobody_we_trust_is_not_accepted(authority: trustme.CA) -> None:
    with serving(trustme.CA()) as server:
        with pytest.raises(FetchFailed, match="valid certificate"):
            fetching(authority, Loopback(server.port))("a", [f"https://{HOST}/"])
        assert server.asked == []
