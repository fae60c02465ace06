"""Requests that no honest client sends, over plain sockets: httpx would not send most of them."""

import json
import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.running_service import SETTINGS, Stack, fields
from tests.support.shape_pictures import picture

MOST = int(SETTINGS["API__MAX_BODY_BYTES"])
PATIENCE = 60.0
GOOD = picture("disc", "JPEG")
BOUNDARY = b"--edge"
MULTIPART = b"multipart/form-data; boundary=edge"
JSON = b"application/json"
CLOSED = 0
"""Instead of a status: the connection was closed without an answer, for HTTP gives no other way."""


@dataclass(frozen=True)
class Hostile:
    """A request, without the lines that carry the key, and the statuses that answer it."""

    name: str
    line: bytes
    rest: bytes
    statuses: tuple[int, ...]

    def written(self, key: str) -> bytes:
        """All its bytes."""
        return (
            self.line
            + b"\r\nHost: here\r\nConnection: close\r\nAuthorization: Bearer %b\r\n" % key.encode()
            + self.rest
        )


def _sent(
    name: str, headers: bytes, body: bytes, *statuses: int, line: bytes = b"POST /v1/removals HTTP/1.1"
) -> Hostile:
    return Hostile(name, line, b"Content-Type: " + JSON + b"\r\n" + headers + b"\r\n\r\n" + body, statuses)


def _typed(name: str, path: str, kind: bytes, body: bytes, *statuses: int) -> Hostile:
    line, length = f"POST {path} HTTP/1.1".encode(), b"%d" % len(body)
    return Hostile(
        name, line, b"Content-Type: " + kind + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body, statuses
    )


def _json(name: str, body: bytes, *statuses: int, path: str = "/v1/removals") -> Hostile:
    return _typed(name, path, JSON, body, *statuses)


def _form(name: str, body: bytes, *statuses: int, kind: bytes = MULTIPART) -> Hostile:
    return _typed(name, "/v1/images", kind, body, *statuses)


def _asked(name: str, line: bytes, *statuses: int, headers: bytes = b"") -> Hostile:
    return Hostile(name, line, headers + b"\r\n", statuses)


def part(headers: bytes, content: bytes) -> bytes:
    """One part of a form."""
    return BOUNDARY + b"\r\n" + headers + b"\r\n\r\n" + content + b"\r\n"


FILE = part(b'Content-Disposition: form-data; name="files"; filename="x"', GOOD)
FIELDS = part(b'Content-Disposition: form-data; name="fields"', fields(labels=["x"]).encode())
END = BOUNDARY + b"--\r\n"
WHOLE = FILE + FIELDS + END
REMOVAL = json.dumps({"filter": {"source": "nowhere"}, "reason": "a test"}).encode()

FRAMING = [
    _sent("length negative", b"Content-Length: -5", b"{}", 400),
    _sent("length twice", b"Content-Length: 2\r\nContent-Length: 3", b"{}}", 400),
    _sent("length twice the same", b"Content-Length: 2\r\nContent-Length: 2", b"{}", 400),
    _sent("length endless", b"Content-Length: " + b"9" * 30, b"{}", 400),
    _sent("length no number", b"Content-Length: two", b"{}", 400),
    _sent("length too short", b"Content-Length: 1", b"{}", 400, 422),
    _sent("length over the limit", b"Content-Length: %d" % (MOST + 1), b"", 413),
    _sent("length over a plain route's limit", b"Content-Length: %d" % (2**20 + 1), b"", 413),
    _sent("length and chunks", b"Content-Length: 2\r\nTransfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", 400),
    _sent("unknown coding", b"Transfer-Encoding: gzip", b"{}", 400),
    _sent(
        "coding with a space", b"Content-Length: 4\r\nTransfer-Encoding : chunked", b"0\r\n\r\nGET / HTTP/1.1\r\n", 400
    ),
    _sent("chunks of nonsense", b"Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", 400),
    _sent("chunk endless", b"Transfer-Encoding: chunked", b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n", 400),
    _sent("chunk longer than it says", b"Transfer-Encoding: chunked", b"1\r\n{}\r\n0\r\n\r\n", 400),
    _sent("chunk extension endless", b"Transfer-Encoding: chunked", b"2;" + b"x" * 10**6, 431, CLOSED),
    _sent("trailers endless", b"Transfer-Encoding: chunked", b"0\r\n" + b"X: y\r\n" * 10**5, 431, CLOSED),
    _sent("a trailer", b"Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n", 422),
    _sent("gzip", b"Content-Encoding: gzip\r\nContent-Length: 2", b"\x1f\x8b", 422),
    _sent("expects what nobody gives", b"Expect: cake\r\nContent-Length: 2", b"{}", 422),
    _sent("another protocol", b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2", b"{}", 400, 422),
]
HEADS = [
    _asked("no HTTP", b"\x16\x03\x01\x00\xff", 400),
    _asked("HTTP/2", b"PRI * HTTP/2.0", 400),
    _asked("HTTP/9.9", b"GET /healthz HTTP/9.9", 400),
    _asked("unknown method", b"FROB /healthz HTTP/1.1", 400),
    _asked("CONNECT", b"CONNECT elsewhere:443 HTTP/1.1", 400),
    _asked("TRACE", b"TRACE /healthz HTTP/1.1", 405),
    _asked("OPTIONS", b"OPTIONS /v1/images HTTP/1.1", 405),
    _asked("OPTIONS of all", b"OPTIONS * HTTP/1.1", 404),
    _asked("HEAD", b"HEAD /v1/images HTTP/1.1", 405),
    _asked("another host's", b"GET http://elsewhere/v1/nothing HTTP/1.1", 404),
    _asked("another host's root", b"GET http://elsewhere HTTP/1.1", 400),
    _asked("raw bytes in the path", "GET /v1/images/é HTTP/1.1".encode(), 400),
    _asked("folded header", b"GET /v1/nothing HTTP/1.1", 400, headers=b"X: a\r\n b\r\n"),
    _asked("header without a name", b"GET /v1/nothing HTTP/1.1", 400, headers=b": a\r\n"),
    _asked("NUL in a header", b"GET /v1/nothing HTTP/1.1", 400, headers=b"X-Request-Id: a\x00b\r\n"),
    _asked("header endless", b"GET /v1/nothing HTTP/1.1", 431, CLOSED, headers=b"X: " + b"a" * 10**7 + b"\r\n"),
    _asked("headers by the thousand", b"GET /v1/nothing HTTP/1.1", 431, CLOSED, headers=b"X: y\r\n" * 10**5),
    _asked("many headers", b"GET /v1/nothing HTTP/1.1", 404, headers=b"X: y\r\n" * 250),
    _asked("too many headers", b"GET /v1/nothing HTTP/1.1", 431, headers=b"X: y\r\n" * 9000),
    _asked("line endless", b"GET /" + b"a" * 10**7 + b" HTTP/1.1", 431, CLOSED),
    _asked("NUL in the id", b"GET /v1/images/a%00b HTTP/1.1", 404),
    _asked("line break in the id", b"GET /v1/images/a%0d%0aSet-Cookie:%20x HTTP/1.1", 404),
    _asked("surrogate in the id", b"GET /v1/images/%ed%a0%80 HTTP/1.1", 404),
    _asked("no percents", b"GET /v1/images/%zz%f HTTP/1.1", 404),
    _asked("id too long", b"GET /v1/images/" + b"a" * 60_000 + b" HTTP/1.1", 404),
    _asked("folders up", b"GET /v1/images/../../../../etc/passwd HTTP/1.1", 404),
    _asked("folders up, hidden", b"GET /v1/images/%2e%2e%2f%2e%2e%2fetc%2fpasswd/picture HTTP/1.1", 404),
    _asked("removal up", b"GET /v1/removals/..%2f..%2fkeys HTTP/1.1", 404),
    _asked("unknown parameter", b"DELETE /v1/images/x?dry_run=true HTTP/1.1", 422),
    _asked("parameters by the thousand", b"GET /v1/images?" + b"a&" * 30_000 + b" HTTP/1.1", 422),
    _asked("a number of digits", b"GET /v1/images?limit=" + b"9" * 9000 + b" HTTP/1.1", 422),
    _asked("no UTF-8 in a parameter", b"GET /v1/images?filter=%ed%a0%80 HTTP/1.1", 422),
    _asked("a filter of brackets", b"GET /v1/images?filter=" + b"[" * 60_000 + b" HTTP/1.1", 422),
]
OBJECTS = [
    _json("nothing", b"", 422),
    _json("a scalar", b"0", 422),
    _json("no UTF-8", b'{"reason": "\xff"}', 422),
    _json("UTF-16", REMOVAL.decode().encode("utf-16"), 200, 422),
    _json("more after the end", REMOVAL + b"{}", 422),
    _json("lists in lists", b"[" * 500_000, 422),
    _json("objects in objects", b'{"filter":' * 50_000, 422),
    _json("a number of digits", b'{"filter": {"metadata.age": ' + b"9" * 10**5 + b'}, "reason": "x"}', 422),
    _json("a key twice", b'{"reason": "a", ' + REMOVAL[1:-1] + b', "reason": 7}', 422),
    _json("keys by the thousand", b"{" + b",".join(b'"k%d":0' % n for n in range(50_000)) + b"}", 422),
    _json("a key endless", b'{"' + b"k" * 10**6 + b'": 0}', 422),
    _json(
        "conditions by the thousand",
        b'{"reason": "x", "filter": {' + b",".join(b'"f%d":[[],[],[]]' % n for n in range(30_000)) + b"}}",
        422,
    ),
    _json("a field's name endless", b'{"filter": {"' + b"k" * 10**6 + b'": 0}, "reason": "x"}', 422),
    _json("values by the million", b'{"images": [' + b"{}," * 600_000 + b"{}]}", 422, path="/v1/images"),
    _json("vectors by the million", b'{"vectors": [' + b"[]," * 600_000 + b"[]]}", 422, path="/v1/classify"),
    _json("numbers by the million", b'{"vectors": [[' + b"1," * 900_000 + b"1]]}", 422, path="/v1/classify"),
    _json("vectors of text", b'{"vectors": [[' + b'"a",' * 60_000 + b"1]]}", 422, path="/v1/classify"),
    _json("over the limit", b" " * (MOST + 1), 413, CLOSED, path="/v1/images"),
    _typed("no type", "/v1/removals", b"", REMOVAL, 415),
    _typed("a type of bytes", "/v1/images", b"\xff\xfe;;;", b"{}", 415),
    _typed("a form where none is", "/v1/removals", MULTIPART, WHOLE, 415),
    _typed("urlencoded", "/v1/images", b"application/x-www-form-urlencoded", b"a=b&" * 1000, 415),
    _typed("an unknown charset", "/v1/removals", b"application/json; charset=utf-99", b"{}", 422),
]
CHARSETS = [
    _form(f"charset {name}", WHOLE, 415, kind=MULTIPART + b"; charset=" + name.encode())
    for name in ("undefined", "idna", "punycode", "unicode_escape", "utf-7", "zip", "nonsense", "")
]
FORMS = [
    _form("no boundary", WHOLE, 422, kind=b"multipart/form-data"),
    _form("boundary empty", WHOLE, 422, kind=b"multipart/form-data; boundary="),
    _form("boundary endless", WHOLE, 422, kind=b"multipart/form-data; boundary=" + b"e" * 5000),
    _form("boundary of bytes", WHOLE, 422, kind=b"multipart/form-data; boundary=\xff\xfe"),
    _form("another boundary", WHOLE, 422, kind=b"multipart/form-data; boundary=other"),
    _form("nothing", b"", 400, 422),
    _form("no form", b"x" * 10**6, 422),
    _form("boundary never ends", FILE + FIELDS + BOUNDARY, 400, 422),
    _form("never ends", FILE + FIELDS, 400, 422),
    _form("ends within a header", FILE + BOUNDARY + b"\r\nContent-Dispo", 400, 422),
    _form("nearly boundaries", FILE[:-2] + b"\r\n--edg" * 100_000 + b"\r\n" + FIELDS + END, 413, 422),
    _form("line ends alone", WHOLE.replace(b"\r\n", b"\n"), 422),
    _form("no name", part(b"Content-Disposition: form-data", b"x") + WHOLE, 422),
    _form("no disposition", part(b"Content-Type: text/plain", b"x") + WHOLE, 422),
    _form("name empty", part(b'Content-Disposition: form-data; name=""', b"x") + WHOLE, 422),
    _form("name of NUL", part(b'Content-Disposition: form-data; name="a\x00b"', b"x") + WHOLE, 400, 422),
    _form("name of bytes", part(b'Content-Disposition: form-data; name="\xff"', b"x") + WHOLE, 400, 422),
    _form("name endless", part(b'Content-Disposition: form-data; name="' + b"n" * 10**6 + b'"', b"x") + WHOLE, 422),
    _form("parts by the thousand", part(b'Content-Disposition: form-data; name="fields"', b"{}") * 5000 + WHOLE, 422),
    _form("files by the thousand", FILE[: FILE.index(GOOD)] + b"x\r\n" + FILE * 100 + END, 422),
    _form("headers by the thousand", part(b"X: y\r\n" * 5000 + b'Content-Disposition: form-data; name="x"', b""), 422),
    _form("header endless", part(b"X: " + b"y" * 10**6, b""), 422),
    _form("header without colon", part(b"nonsense", b""), 422),
    _form(
        "a form in a form",
        FIELDS + part(b'Content-Disposition: form-data; name="files"; filename="f"', FIELDS) + END,
        422,
    ),
    _form(
        "base64",
        FILE.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1)[:200] + b"\r\n" + FIELDS + END,
        400,
        422,
    ),
    _form("fields as a file", FILE + FIELDS.replace(b'"fields"', b'"fields"; filename="f"') + END, 422),
    _form("files as fields", FILE.replace(b'; filename="x"', b"") + FIELDS + END, 422),
    _form("fields endless", FILE + part(b'Content-Disposition: form-data; name="fields"', b" " * 10**6) + END, 422),
    _form("over the limit", FILE + b" " * MOST, 413, CLOSED),
]
TABLE = [*FRAMING, *HEADS, *OBJECTS, *CHARSETS, *FORMS]


def status_of(answer: bytes) -> int:
    """The status of an answer; of several, the first that is not 100."""
    for line in answer.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 100"):
            return int(line.split()[1])
    return CLOSED


def ask(stack: Stack, written: bytes, seconds: float = PATIENCE) -> bytes:
    """Send bytes, and return all that comes until the service closes the connection, or waits for us to go on.

    Raises:
        TimeoutError: it does not close it for `PATIENCE`.
    """
    answer = b""
    with connect(stack) as connection:
        connection.settimeout(seconds)
        try:
            connection.sendall(written)
            while came := connection.recv(65536):
                answer += came
        except ConnectionError:
            pass  # closed with bytes of ours unread; what came before is the answer
        except TimeoutError:
            if seconds == PATIENCE:
                raise
    return answer


def connect(stack: Stack) -> socket.socket:
    """A plain connection."""
    return socket.create_connection(("127.0.0.1", int(stack.url.rsplit(":", 1)[1].rstrip("/"))), timeout=PATIENCE)


def mutations(key: str, number: int, seed: int) -> Iterator[bytes]:
    """Good requests with bytes changed, doubled, dropped and cut; half of the changes are near the head."""
    chance = random.Random(seed)
    chunked = b"".join(
        b"%x\r\n%b\r\n" % (len(REMOVAL[at : at + 9]), REMOVAL[at : at + 9]) for at in range(0, len(REMOVAL), 9)
    )
    good = [
        _form("", WHOLE),
        _json("", REMOVAL),
        _sent("", b"Transfer-Encoding: chunked", chunked + b"0\r\n\r\n"),
        _json("", json.dumps({"vectors": [[0.5] * 1280], "k": 3}).encode(), path="/v1/classify"),
        _asked("", b'GET /v1/images?filter={"source":"x"}&limit=3 HTTP/1.1'),
    ]
    words = [b"\r\n", b"\x00", b"\xff", b'"', b"--edge", b"0", b"9" * 20, b"[", b"{", b":", b"%", b"chunked"]
    for _ in range(number):
        data = bytearray(chance.choice(good).written(key))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(min(len(data), chance.choice((700, len(data)))))
            match chance.randrange(5):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    data[at:at] = chance.choice(words)
                case 2:
                    del data[at : at + chance.randint(1, 20)]
                case 3:
                    data[at:at] = data[at : at + chance.randint(1, 200)]
                case _:
                    del data[max(at, 20) :]
        yield bytes(data)


def begun(stack: Stack, key: str, length: int) -> socket.socket:
    """A connection with an upload on its way: a good picture, and then as much of it as is wanted, but no end."""
    connection = connect(stack)
    upload = _typed("", "/v1/images", MULTIPART, b"").rest.replace(b"Content-Length: 0", b"Content-Length: %d" % MOST)
    request = Hostile("", b"POST /v1/images HTTP/1.1", upload + FILE[:-2] + b"\0" * length, ())
    connection.sendall(request.written(key))
    return connection


def spools(stack: Stack) -> list[str]:
    """The temporary files that the API holds open; they have no names, so that a crash leaves none behind."""
    held = []
    for file in Path(f"/proc/{stack.child('api').pid}/fd").iterdir():
        try:
            held.append(str(file.readlink()))
        except FileNotFoundError:
            continue
    return [path for path in held if path.endswith("(deleted)") and "memfd" not in path]


def complaints(stack: Stack) -> list[str]:
    """The lines of the API's log that tell of something that was not foreseen."""
    lines = (stack.data / "logs" / "api.log").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if any(word in line for word in ('"exception"', '"ERROR"', '"CRITICAL"'))]
