"""Promise 7: bad input costs its sender a clear 4xx, and nobody else anything."""

import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import PIL.Image
import pytest

from tests.support.running_service import SETTINGS, Stack, fields, unique
from tests.support.shape_pictures import as_file, picture
from visual_memory.schemas.fault import PROBLEM_JSON, ProblemDetails

GOOD = picture("disc")
GOOD64 = base64.b64encode(GOOD).decode()
JPEG = picture("disc", "JPEG")
OVER_BYTES = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
DIMENSION = 1280
VECTOR = [0.5] * DIMENSION
MOST_IMAGES = int(SETTINGS["API__MAX_IMAGES"])
PASSED = "2026-01-01T00:00:00Z"
JSON = {"content-type": "application/json"}
FOREIGN = re.compile(r"pydantic|starlette|python.?multipart|h11|Input should|Field required|constrained|function-")


@dataclass(frozen=True)
class Bad:
    """A request, and how it must be answered."""

    name: str
    method: str
    path: str
    status: int
    code: str
    says: str
    arguments: dict[str, Any] = field(default_factory=dict)


def upload(name: str, status: int, code: str, says: str, *files: bytes, said: list[str] | None = None) -> Bad:
    """An upload by multipart."""
    parts = [("files", ("picture", data)) for data in (files or (GOOD,))]
    arguments = {"files": parts, "data": {"fields": [fields(labels=["cat"])] if said is None else said}}
    return Bad(name, "POST", "/v1/images", status, code, says, arguments)


def bad_fields(name: str, says: str, **said: Any) -> Bad:
    """A good picture with bad fields."""
    return upload(name, 422, "invalid_request", says, said=[json.dumps({"labels": ["cat"], **said})])


def body(name: str, path: str, says: str, content: str | bytes, code: str = "invalid_request") -> Bad:
    """A JSON body, not necessarily JSON."""
    return Bad(name, "POST", path, 422, code, says, {"content": content, "headers": JSON})


def sent(**image: Any) -> str:
    """The JSON of an upload of one picture."""
    return json.dumps({"images": [{"picture": GOOD64, "labels": ["cat"], **image}]})


def bad_filter(name: str, says: str, where: Any, code: str = "invalid_filter") -> Bad:
    """A listing by a bad filter."""
    text = where if isinstance(where, str) else json.dumps(where)
    return Bad(name, "GET", "/v1/images", 422, code, says, {"params": {"filter": text}})


def asked(name: str, says: str, code: str = "invalid_request", **options: Any) -> Bad:
    """A classification of a good picture with bad options."""
    arguments = {"files": [("files", ("p", GOOD))], "data": {"options": json.dumps(options)}}
    return Bad(name, "POST", "/v1/classify", 422, code, says, arguments)


def vectors(name: str, says: str, content: str, code: str = "invalid_vector") -> Bad:
    """A classification of bad vectors."""
    return body(name, "/v1/classify", says, f'{{"vectors": {content}}}', code)


def removal(name: str, says: str, code: str = "invalid_request", **request: Any) -> Bad:
    """A removal that must not be recorded."""
    return body(name, "/v1/removals", says, json.dumps(request), code)


def chunks() -> Iterator[bytes]:
    """A body without a declared length that goes on and on."""
    for _ in range(64):
        yield b" " * 65536


PICTURES = [
    upload("text", 422, "invalid_picture", "not a picture", b"I am no picture at all"),
    upload("truncated JPEG", 422, "invalid_picture", "JPEG is damaged or ends too early", JPEG[: len(JPEG) // 2]),
    upload("truncated PNG", 422, "invalid_picture", "PNG is damaged or ends too early", GOOD[:-2000]),
    upload("only a header", 422, "invalid_picture", "damaged", b"\x89PNG\r\n\x1a\n"),
    upload("zero bytes", 422, "invalid_picture", "empty", b""),
    upload("icon", 415, "unsupported_format", "ICO", as_file(PIL.Image.new("RGB", (32, 32)), "ICO")),
    upload("PDF", 415, "unsupported_format", "PDF", b"%PDF-1.7\n1 0 obj\n"),
    upload("SVG", 415, "unsupported_format", "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    upload("bytes", 413, "too_large", "300,000", as_file(PIL.Image.fromarray(OVER_BYTES), "BMP")),
    upload("pixels", 413, "too_large", "1,001 x 1,000", as_file(PIL.Image.new("1", (1001, 1000)))),
    upload("bomb", 413, "too_large", "pixels", as_file(PIL.Image.new("1", (30000, 30000)), "PNG")),
    upload("one of three", 422, "invalid_picture", "picture 2 of 3", GOOD, b"no picture", picture("bars")),
    body(
        "JSON text", "/v1/images", "not a picture", sent(picture=base64.b64encode(b"text").decode()), "invalid_picture"
    ),
]
FIELDS = [
    upload("no fields", 422, "invalid_form", "fields", said=[]),
    upload("no label", 422, "invalid_request", "labels: must be given", said=["{}"]),
    bad_fields("labels empty", "labels", labels=[]),
    bad_fields("label empty", "labels.0: must not be empty", labels=[""]),
    bad_fields("label blank", "labels.1: must not be empty", labels=["cat", "  "]),
    bad_fields("label too long", "200 characters", labels=["x" * 201]),
    bad_fields("labels too many", "32", labels=[f"label-{number}" for number in range(33)]),
    bad_fields("label path", "empty parts", labels=["animal//cat"]),
    bad_fields("label control", "control characters", labels=["a\x07b"]),
    bad_fields("label unseen", "U+200B ZERO WIDTH SPACE", labels=["a\u200bb"]),
    bad_fields("subject unseen", "subject: must not contain the invisible character", subject="\ufeffann"),
    bad_fields("metadata unseen", "U+202E RIGHT-TO-LEFT OVERRIDE", metadata={"note": "\u202eann"}),
    bad_fields("label number", "labels.0", labels=[7]),
    bad_fields("labels text", "labels", labels="cat"),
    bad_fields("unknown field", "colour", colour="red"),
    bad_fields("id path", "image id", image_id="../../etc/passwd"),
    bad_fields("id start", "image id", image_id="_hidden"),
    bad_fields("id empty", "image id", image_id=""),
    bad_fields("id long", "image id", image_id="x" * 201),
    bad_fields("id newline", "image id", image_id="x\n"),
    bad_fields("captured_at zone", "captured_at: must name its time zone", captured_at="2026-01-31T12:00:00"),
    bad_fields("captured_at", "captured_at", captured_at="yesterday"),
    bad_fields("metadata type", "metadata.age takes a whole number", metadata={"age": "old"}),
    bad_fields("metadata site", "metadata.site takes text", metadata={"site": 4}),
    bad_fields("metadata key", "Not A Name", metadata={"Not A Name": 1}),
    bad_fields("metadata nested", "metadata", metadata={"place": {"x": 1}}),
    bad_fields("metadata many", "32", metadata={f"field_{number}": 1 for number in range(33)}),
    bad_fields("subject empty", "subject", subject=""),
    upload("fields JSON", 422, "invalid_request", "JSON", said=["{labels: cat}"]),
    upload("metadata NaN", 422, "invalid_request", "age", said=['{"labels": ["cat"], "metadata": {"age": NaN}}']),
    upload("surrogate", 422, "invalid_request", "JSON", said=['{"labels": ["\\ud800"]}']),
    upload(
        "key twice",
        422,
        "invalid_request",
        "subject: this key",
        said=['{"labels": ["c"], "subject": "a", "subject": "b"}'],
    ),
    upload("counts", 422, "invalid_form", "3 files came with 2", GOOD, JPEG, GOOD, said=[fields(labels=["c"])] * 2),
    upload("one id for two", 422, "invalid_form", "2 files", GOOD, JPEG, said=[fields(labels=["c"], image_id="i")]),
]
FORMS = [
    upload("too many files", 422, "invalid_form", str(MOST_IMAGES), *([GOOD] * (MOST_IMAGES + 1))),
    Bad(
        "unknown part",
        "POST",
        "/v1/images",
        422,
        "invalid_form",
        "'metadata'",
        {"files": [("files", ("p", GOOD))], "data": {"fields": fields(labels=["cat"]), "metadata": "{}"}},
    ),
    Bad(
        "no files",
        "POST",
        "/v1/images",
        422,
        "invalid_form",
        "'files'",
        {"files": [("fields", (None, fields(labels=["cat"])))]},
    ),
    Bad(
        "fields over 64 KiB",
        "POST",
        "/v1/images",
        422,
        "invalid_form",
        "64",
        {"files": [("files", ("p", GOOD))], "data": {"fields": fields(labels=["x" * 70_000])}},
    ),
    Bad("no type", "POST", "/v1/images", 415, "unsupported_media_type", "multipart/form-data", {"content": b"x"}),
    Bad(
        "text/plain",
        "POST",
        "/v1/images",
        415,
        "unsupported_media_type",
        "text/plain",
        {"content": b"x", "headers": {"content-type": "text/plain"}},
    ),
    Bad(
        "no boundary",
        "POST",
        "/v1/images",
        422,
        "invalid_form",
        "boundary",
        {"content": b"x", "headers": {"content-type": "multipart/form-data"}},
    ),
    Bad("body over the limit", "POST", "/v1/images", 413, "too_large", "2000000", {"content": b" " * 2_000_001}),
    Bad("body without length", "POST", "/v1/images", 413, "too_large", "2000000", {"content": chunks, "headers": JSON}),
    Bad("method", "PUT", "/v1/images", 405, "method_not_allowed", "GET, POST"),
    Bad("no JSON", "POST", "/v1/removals", 415, "unsupported_media_type", "application/json", {"content": b"{}"}),
    Bad("path", "GET", "/v1/nothing", 404, "no_such_path", "/v1/nothing"),
]
BODIES = [
    body("JSON", "/v1/images", "JSON: line 1, column 2", "{not json", "invalid_json"),
    body("JSON of a removal", "/v1/removals", "JSON: character 2", "{not json", "invalid_json"),
    body("JSON deep", "/v1/images", "JSON", "[" * 100_000, "invalid_json"),
    body("JSON list", "/v1/images", "object", "[]"),
    body("key twice", "/v1/images", "images.0.labels: this key", sent()[:-3] + ', "labels": ["dog"]}]}'),
    body(
        "key twice in options",
        "/v1/classify",
        "k: this key",
        json.dumps({"vectors": [VECTOR], "k": 1})[:-1] + ', "k": 2}',
    ),
    body("JSON empty", "/v1/images", "images", '{"images": []}'),
    body("JSON unknown", "/v1/images", "colour", sent(colour="red")),
    body("JSON unknown outside", "/v1/images", "more", json.dumps({"images": [], "more": 1})),
    body("base64", "/v1/images", "base64", sent(picture="no base64!")),
    body("base64 number", "/v1/images", "base64", sent(picture=7)),
    body("no picture", "/v1/images", "picture or url", '{"images": [{"labels": ["cat"]}]}'),
    body("picture and url", "/v1/images", "not both", sent(url="https://pictures.example/1.jpg")),
    body("url", "/v1/images", "url_hosts is empty", '{"images": [{"url": "https://a.example/", "labels": ["cat"]}]}'),
    body("url to classify", "/v1/classify", "url_hosts is empty", '{"urls": ["http://127.0.0.1/"]}'),
    body("long url", "/v1/classify", "2,048", json.dumps({"urls": ["https://a.example/" + "x" * 2048]})),
    body("too many urls", "/v1/classify", "41", json.dumps({"urls": ["https://a.example/"] * 41})),
    body("values by the thousand", "/v1/images", "values", '{"images": [' + "{}," * 200_000 + "{}]}"),
    body("vectors by the thousand", "/v1/classify", "values", '{"vectors": [' + "[]," * 200_000 + "[]]}"),
    body(
        "nested by the thousand", "/v1/classify", "values", '{"vectors": [' + ("[" * 99 + "]" * 99 + ",") * 9999 + "0]}"
    ),
    body("a name without end", "/v1/images", "labels", '{"images": [{"' + "n" * 10**6 + '": 1}]}'),
    body("too many", "/v1/images", "41", json.dumps({"images": [{"picture": "", "labels": ["cat"]}] * 41})),
]
FILTERS = [
    bad_filter("field", "'colour'", {"colour": "red"}),
    bad_filter("undeclared metadata", "'metadata.weight'", {"metadata.weight": 3}),
    bad_filter("internal field", "'tenant'", {"tenant": "another"}),
    bad_filter("integer", "metadata.age takes a whole number", {"metadata.age": "old"}),
    bad_filter("integer bool", "metadata.age takes a whole number", {"metadata.age": True}),
    bad_filter("keyword", "source takes text", {"source": 7}),
    bad_filter("range on keyword", "not a range", {"source": {"gte": "a"}}),
    bad_filter("moment", "time zone", {"captured_at": {"gte": "2026-01-01T00:00:00"}}),
    bad_filter("state", "remembered", {"state": "asleep"}),
    bad_filter("huge range", "2**53", {"metadata.age": {"gte": 2**60}}),
    bad_filter("JSON", "JSON", "{source: x}"),
    bad_filter("key twice", "source: this key", '{"source": "a", "source": "b"}'),
    bad_filter("unseen", "subject must not contain the invisible character U+200B", {"subject": "ann\u200b"}),
    Bad("twice", "GET", "/v1/images", 422, "invalid_parameter", "given twice", {"params": {"filter": ["{}", "{}"]}}),
    bad_filter("list", "filter", []),
    bad_filter("empty list", "source", {"source": []}),
    bad_filter("empty range", "source", {"source": {}}),
    bad_filter("unknown bound", "captured_at", {"captured_at": {"after": "2026-01-01T00:00:00Z"}}),
    bad_filter("null", "source", {"source": None}),
    bad_filter("conditions", "at most 100", {f"field_{number}": 1 for number in range(101)}),
    bad_filter("a name without end", "there is no field", {"n" * 30_000: 1}),
    bad_filter("NaN", "metadata.age", '{"metadata.age": NaN}'),
    Bad("labels", "GET", "/v1/labels", 422, "invalid_filter", "'colour'", {"params": {"filter": '{"colour": 1}'}}),
    Bad(
        "parameter",
        "GET",
        "/v1/images",
        422,
        "unknown_parameter",
        "cursor, filter, limit, sort, total",
        {"params": {"filtr": "{}"}},
    ),
    Bad(
        "parameter of none", "DELETE", "/v1/images/x", 422, "unknown_parameter", "none", {"params": {"dry_run": "true"}}
    ),
    Bad("cursor", "GET", "/v1/images", 422, "invalid_cursor", "cursor", {"params": {"cursor": "somewhere"}}),
    Bad("limit 0", "GET", "/v1/images", 422, "invalid_parameter", "limit", {"params": {"limit": 0}}),
    Bad("limit 1001", "GET", "/v1/images", 422, "invalid_parameter", "limit", {"params": {"limit": 1001}}),
]
QUESTIONS = [
    asked("k 0", "k: ", k=0),
    asked("k 1001", "1000", k=1001),
    asked("k text", "k: ", k="many"),
    asked("vote", "vote: ", vote="loudest"),
    asked("alpha", "alpha: ", alpha=0),
    asked("alpha that overflows", "alpha: ", alpha=5e-324),
    asked("temperature", "temperature: ", temperature=0),
    asked("show", "show: ", show=-1),
    asked("option", "colour: ", colour="red"),
    asked("filter", "'colour'", "invalid_filter", filter={"colour": "red"}),
    asked("filter list", "filter", filter=[]),
    Bad(
        "query text",
        "POST",
        "/v1/classify",
        422,
        "invalid_picture",
        "picture 2 of 2",
        {"files": [("files", ("p", GOOD)), ("files", ("p", b"text"))]},
    ),
    Bad(
        "query part",
        "POST",
        "/v1/classify",
        422,
        "invalid_form",
        "'fields'",
        {"files": [("files", ("p", GOOD))], "data": {"fields": "{}"}},
    ),
    body("neither", "/v1/classify", "at least one", "{}"),
    body("both", "/v1/classify", "only one kind", json.dumps({"pictures": [GOOD64], "vectors": [VECTOR]})),
    vectors("short", "2 numbers", "[[1, 2]]"),
    vectors("long", "1281 numbers", json.dumps([VECTOR, [*VECTOR, 1.0]])),
    vectors("zero", "vector 1", json.dumps([VECTOR, [0.0] * DIMENSION])),
    vectors("NaN", "vectors.0.1279", json.dumps([VECTOR[:-1]])[:-2] + ", NaN]]", "invalid_request"),
    vectors("infinite", "vectors.0.1279", json.dumps([VECTOR[:-1]])[:-2] + ", 1e999]]", "invalid_request"),
    vectors("overflow", "vector 0", json.dumps([[1e308] * DIMENSION])),
    vectors("text", "vectors.0.0", '[["one"]]', "invalid_request"),
    vectors("empty", "vectors", "[[]]", "invalid_request"),
    vectors("too many", "41", json.dumps([[1.0]] * (MOST_IMAGES + 1)), "invalid_request"),
]
REMOVALS = [
    removal("empty filter", "everything", reason="x", filter={}),
    removal("no filter", "everything", reason="x"),
    removal("both", "one of the two", reason="x", filter={"source": "a"}, everything=True),
    removal("no reason", "reason", filter={"source": "a"}),
    removal("reason empty", "reason", filter={"source": "a"}, reason=""),
    removal("reason long", "reason", filter={"source": "a"}, reason="x" * 201),
    removal("unknown", "colour", filter={"source": "a"}, reason="x", colour="red"),
    removal("field", "'colour'", "invalid_filter", filter={"colour": "red"}, reason="x"),
    removal("value", "source takes text", "invalid_filter", filter={"source": 1}, reason="x"),
    removal("dry run", "dry_run", filter={"source": "a"}, reason="x", dry_run=True),
    body(
        "twice",
        "/v1/removals",
        "subject: this key",
        '{"filter": {"subject": "a", "subject": {"not": "a"}}, "reason": "x"}',
    ),
    removal("unseen", "subject must not contain", "invalid_filter", filter={"subject": "ann\u200b"}, reason="x"),
    body("surrogate", "/v1/removals", "Unicode", '{"filter": {"source": "a"}, "reason": "x", "\\ud800": 1}'),
    body("surrogate field", "/v1/removals", "ud800", '{"filter": {"\\ud800": "a"}, "reason": "x"}', "invalid_filter"),
]
PATHS = [
    Bad(f"{method} {path}", method, path, 404, "no_such_path" if "%2F" in path else "not_found", says, arguments)
    for method, path, says, arguments in [
        ("GET", "/v1/images/unheard-of", "unheard-of", {}),
        ("GET", "/v1/images/..%2F..%2Fetc%2Fpasswd", "etc/passwd", {}),
        ("GET", "/v1/images/..%2F..%2Fengine/picture", "engine", {}),
        ("DELETE", "/v1/images/..%2F..%2Fengine", "engine", {}),
        ("DELETE", "/v1/images/unheard-of", "unheard-of", {}),
        ("PATCH", "/v1/images/unheard-of", "unheard-of", {"json": {"source": "a"}}),
        ("GET", "/v1/images/unheard-of/thumbnail", "unheard-of", {}),
        ("GET", "/v1/removals/unheard-of", "unheard-of", {}),
        ("GET", "/v1/removals/..%2F..%2Fengine", "engine", {}),
        ("GET", "/v1/removals/%7B00000000-0000-0000-0000-000000000000%7D", "00000000", {}),
        ("GET", "/v1/removals/00000000-0000-0000-0000-000000000000", "00000000", {}),
    ]
]


@dataclass(frozen=True)
class Kept:
    """An image that is there, and all that is."""

    stack: Stack
    image_id: str

    def everything(self) -> tuple[dict[str, Any], set[Path], list[str]]:
        images = {image_id: image.model_dump() for image_id, image in self.stack.held({}).items()}
        return images, self.stack.picture_files(), [each.id for each in self.stack.client.removals().data]

    def refuses(self, bad: Bad) -> str:
        """Send it, check the answer and that nothing changed; the sentence."""
        before = self.everything()
        arguments = dict(bad.arguments)
        if callable(arguments.get("content")):
            arguments["content"] = arguments["content"]()
        answer = self.stack.http.request(bad.method, bad.path.format(id=self.image_id), **arguments)
        assert answer.status_code == bad.status, answer.text
        error = ProblemDetails.model_validate_json(answer.content)
        assert answer.headers["content-type"] == PROBLEM_JSON
        assert (error.code, error.status) == (bad.code, bad.status), error
        assert error.instance == f"urn:request:{answer.headers['x-request-id']}"
        assert any(bad.says in told for told in (error.detail, *map(str, error.errors))), error
        assert not FOREIGN.search(answer.text), error
        assert self.everything() == before
        return error.detail


@pytest.fixture(scope="module")
def kept(stack: Stack) -> Kept:
    [image_id] = stack.teach(picture("disc"), labels=["kept"], image_id=unique("kept"), source="here")
    stack.settled(list(stack.held({})))
    return Kept(stack, image_id)


ALL = [*PICTURES, *FIELDS, *FORMS, *BODIES, *FILTERS, *QUESTIONS, *REMOVALS, *PATHS]


@pytest.mark.parametrize("bad", ALL, ids=[f"{bad.path}: {bad.name}" for bad in ALL])
def test_is_refused_with_a_sentence_and_changes_nothing(kept: Kept, bad: Bad) -> None:
    message = kept.refuses(bad)
    assert len(message) < 1000, "a sentence, and not what was sent"


PATCHES = [
    ("labels empty", {"labels": []}, "labels"),
    ("labels cleared", {"labels": None}, "labels"),
    ("label empty", {"labels": [""]}, "labels.0"),
    ("unknown", {"state": "muted"}, "state"),
    ("id", {"image_id": "another"}, "image_id"),
    ("captured_at", {"captured_at": "2026-01-01T00:00:00"}, "captured_at"),
    ("metadata", {"metadata": {"age": 1.5}}, "metadata.age takes a whole number"),
    ("metadata cleared", {"metadata": None}, "metadata"),
    ("subject", {"subject": "x" * 201}, "subject"),
]


@pytest.mark.parametrize(("name", "patch", "says"), PATCHES, ids=[name for name, _, _ in PATCHES])
def test_a_bad_patch_is_refused(kept: Kept, name: str, patch: dict[str, Any], says: str) -> None:
    kept.refuses(Bad(name, "PATCH", "/v1/images/{id}", 422, "invalid_request", says, {"json": patch}))


def test_every_fault_of_a_request_is_listed_with_its_place(kept: Kept) -> None:
    """Of a body, of the parts of a form, of a filter in a parameter, and of parameters and headers."""
    http = kept.stack.http

    def faults(answer: httpx.Response) -> list[tuple[str, str]]:
        listed: list[dict[str, Any]] = answer.json()["errors"]
        return [
            (json.dumps({name: each[name] for name in each.keys() - {"code", "detail"}}, sort_keys=True), each["code"])
            for each in listed
        ]

    images = {"images": [{"picture": GOOD64, "labels": []}, {"labels": ["cat"], "colour": 1, "subject": ""}]}
    assert faults(http.post("/v1/images", json=images)) == [
        ('{"pointer": "/images/0/labels"}', "too_short"),
        ('{"pointer": "/images/1/subject"}', "invalid"),
        ('{"pointer": "/images/1/colour"}', "unknown_field"),
    ]
    form = {"fields": [fields(labels=["cat"]), '{"labels": [7], "x": 1}', '{"labels": ["a"], "labels": ["b"]}']}
    assert faults(http.post("/v1/images", files=[("files", ("p", GOOD))] * 3, data=form)) == [
        ('{"index": 1, "part": "fields", "pointer": "/labels/0"}', "wrong_type"),
        ('{"index": 1, "part": "fields", "pointer": "/x"}', "unknown_field"),
        ('{"index": 2, "part": "fields", "pointer": "/labels"}', "repeated_key"),
    ]
    aged = [fields(labels=["cat"]), fields(labels=["cat"], metadata={"age": "old", "site": 4}, expires_at=PASSED)]
    assert faults(http.post("/v1/images", files=[("files", ("p", GOOD))] * 2, data={"fields": aged})) == [
        ('{"index": 1, "part": "fields", "pointer": "/expires_at"}', "out_of_range"),
        ('{"index": 1, "part": "fields", "pointer": "/metadata/age"}', "wrong_type"),
        ('{"index": 1, "part": "fields", "pointer": "/metadata/site"}', "wrong_type"),
    ]
    where = json.dumps({"colour": "red", "source": 1, "state": "muted"})
    assert faults(http.get("/v1/images", params={"filter": where})) == [
        ('{"parameter": "filter", "pointer": "/colour"}', "unknown_field"),
        ('{"parameter": "filter", "pointer": "/source"}', "invalid"),
    ]
    removal_ = {"filter": {"colour": "red", "captured_at": "now"}, "reason": "x"}
    assert faults(http.post("/v1/removals", json=removal_)) == [
        ('{"pointer": "/filter/colour"}', "unknown_field"),
        ('{"pointer": "/filter/captured_at"}', "invalid"),
    ]
    assert faults(http.get("/v1/images", params={"a": 1, "b": 2})) == [
        ('{"parameter": "a"}', "unknown_parameter"),
        ('{"parameter": "b"}', "unknown_parameter"),
    ]
    bad = http.post("/v1/judgements", headers={"Idempotency-Key": "a b"})
    assert (bad.json()["code"], faults(bad)) == ("invalid_header", [('{"header": "Idempotency-Key"}', "wrong_form")])


def test_the_type_of_an_error_leads_to_its_description(kept: Kept) -> None:
    answer = kept.stack.http.get("/v1/images/unheard-of")
    page, _, section = answer.json()["type"].partition("#")
    described = httpx.get(f"{kept.stack.url}{page}")
    assert (described.status_code, section) == (200, "not_found")
    assert f'<section id="{section}"><h2>404 Not found</h2>' in described.text
    assert "http://" not in described.text
    assert "https://" not in described.text


def test_a_good_one_beside_the_bad_is_still_taken(stack: Stack) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGBA", (1000, 1000), (0, 0, 0, 0)).save(buffer, "PNG")
    ids = stack.teach(buffer.getvalue(), labels=["as large as can be"])
    assert stack.remembered(ids)
