"""Pictures as they arrive: ``multipart/form-data``, or JSON with base64 or URLs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from visual_memory.schemas.classify_options import ClassifyOptions, QueryVector
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.picture_base64 import Picture
from visual_memory.schemas.strict_json import parse_json
from visual_memory.schemas.text_rules import sent_file_name
from visual_memory.services.api.authenticate import service
from visual_memory.services.api.error_responses import explain
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.settings import MAX_AT_ONCE

FIELDS_BYTES = 64 * 1024
FIELDS_VALUES = 256
SMALL = 32 * 1024
"""Bytes of a body that are parsed sooner, a vector in 0.2 ms, than a thread would have its turn."""
MOST_FILTERED = 64 * 1024
"""More values than an image's fields have in JSON, and more than a filter has."""


Url = Annotated[str, Field(max_length=2048, description="https, of a host that this service fetches from")]


class SentImage(ImageFields):
    """A picture with its fields: in base64, or by URL."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["picture"]}, {"required": ["url"]}]})

    picture: Picture | None = None
    url: Url | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "SentImage":
        if (self.picture is None) == (self.url is None):
            raise ValueError("send picture or url, and not both")
        return self


class SentImages(BaseModel):
    """The JSON body of an acceptance."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[SentImage], Field(min_length=1, max_length=MAX_AT_ONCE)]


def _some(name: str) -> JsonDict:
    return {"required": [name], "properties": {name: {"minItems": 1}}}


class ClassifyRequest(ClassifyOptions):
    """The JSON body of a classification: pictures in base64 or by URL, or vectors."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_some("pictures"), _some("urls"), _some("vectors")]})

    pictures: Annotated[list[Picture], Field(max_length=MAX_AT_ONCE)] = Field(default_factory=list)
    urls: Annotated[list[Url], Field(max_length=MAX_AT_ONCE)] = Field(default_factory=list)
    vectors: Annotated[list[QueryVector], Field(max_length=MAX_AT_ONCE)] = Field(default_factory=list)
    encoder: Annotated[
        str | None,
        Field(max_length=200, description="whose vectors these are, or who is to answer: refused where another does"),
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> "ClassifyRequest":
        if sum(map(bool, (self.pictures, self.urls, self.vectors))) != 1:
            raise ValueError("send pictures or vectors or urls: at least one, and not both kinds")
        return self


Body = TypeVar("Body", bound=BaseModel)


async def read_uploads(request: Request) -> list[Upload]:
    """The pictures of an acceptance with their fields; those by URL are fetched now, so that 202 holds for them too.

    Multipart: parts ``files``, and parts ``fields`` that each hold the fields of one file as JSON, in the same order;
    a single ``fields`` part is that of every file. The name of a part
    counts where no ``file_name`` is said, nor known.

    Raises:
        InvalidRequest: the body is not of this form; the message says where.
        FetchFailed, TooLarge: a picture by URL cannot be had.
    """
    parts = await service(request)
    most = parts.settings.api.max_images
    if is_json(request):
        sent = await _parse_body(SentImages, await request.body(), parts)
        _check_number(len(sent.images), most)
        pictures = await run_in_threadpool(_pictures, sent.images, partial(parts.fetch, request.state.caller.tenant))
        fields = [
            ImageFields.model_construct(image.model_fields_set & ImageFields.model_fields.keys(), **dict(image))
            for image in sent.images
        ]
        return [Upload(data, each) for data, each in zip(pictures, fields, strict=True)]
    async with request.form(max_files=most, max_fields=most, max_part_size=FIELDS_BYTES) as form:
        files, names = await _files(form, {"files", "fields"})
        fields = [_parse(ImageFields, str(text)) for text in form.getlist("fields")]
    if len(fields) == 1 and (len(files) == 1 or fields[0].image_id is None):
        fields *= len(files)
    if len(fields) != len(files):
        raise InvalidRequest(
            f"{len(files)} files came with {len(fields)} parts 'fields': send one for each file, in the same order,"
            " or a single one, without image_id, for all"
        )
    called = (sent_file_name(name.replace("%22", '"')) for name in names)  # as browsers and HTTPX spell quotes
    return [Upload(data, said.of_file(name)) for data, said, name in zip(files, fields, called, strict=True)]


async def read_queries(request: Request) -> ClassifyRequest:
    """The pictures or vectors of a classification with its options; multipart: ``files`` and one ``options`` (JSON).

    Raises:
        InvalidRequest: the body is not of this form; the message says where.
        FetchFailed, TooLarge: a picture by URL cannot be had.
    """
    parts = await service(request)
    most = parts.settings.api.max_images
    if is_json(request):
        sent = await _parse_body(ClassifyRequest, await request.body(), parts)
        _check_number(len(sent.pictures) + len(sent.urls) + len(sent.vectors), most)
        if sent.urls:
            fetched = await run_in_threadpool(parts.fetch, request.state.caller.tenant, sent.urls)
            sent = sent.model_copy(update={"pictures": fetched, "urls": []})
        return sent
    async with request.form(max_files=most, max_fields=1, max_part_size=FIELDS_BYTES) as form:
        files, _ = await _files(form, {"files", "options"})
        options = _parse(ClassifyOptions, str(form.get("options", "{}")))
    return ClassifyRequest.model_construct(**dict(options), pictures=files, urls=[], vectors=[])


def body_of(json: type[BaseModel], part: str, part_schema: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that comes in either form; the models' schemas are added by `services.api.app`."""
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    beside = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref(part_schema)}
    properties = {"files": files, part: {"type": "array", "items": beside} if part == "fields" else beside}
    form = {"type": "object", "required": ["files"], "properties": properties, "additionalProperties": False}
    content = {"application/json": {"schema": _ref(json)}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def is_json(request: Request) -> bool:
    """Whether a body is JSON, and else a form.

    Raises:
        InvalidRequest: it is neither.
    """
    header = request.headers.get("content-type", "")
    kind = header.split(";")[0].strip().lower()
    if kind not in {"application/json", "multipart/form-data"}:
        raise InvalidRequest(f"the body is {kind or 'of no named type'}: send multipart/form-data or application/json")
    # Starlette decodes the parts with any codec that Python has, and some of those raise what it does not expect.
    if parse_options_header(header)[1].get(b"charset", b"utf-8").lower() not in {b"utf-8", b"utf8"}:
        raise InvalidRequest("the body is not in UTF-8: send it so, without a charset")
    return kind == "application/json"


async def _parse_body(model: type[Body], body: bytes, parts: ApiProcess) -> Body:
    """As `_parse`, unless it holds so many values that these, or their errors, would take 300 times its length."""
    most = parts.settings.api.max_images * (parts.memory.dimension + FIELDS_VALUES) + MOST_FILTERED
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise InvalidRequest(f"the body holds more than {most} values: send fewer pictures or vectors at once")
    if len(body) <= SMALL:
        return _parse(model, body)
    return await run_in_threadpool(_parse, model, body)


def _parse(model: type[Body], text: str | bytes) -> Body:
    try:
        return parse_json(model, text)
    except ValidationError as error:
        raise InvalidRequest(explain(error)) from None


def _pictures(images: Sequence[SentImage], fetch: Callable[[Sequence[str]], list[bytes]]) -> list[bytes]:
    fetched = iter(fetch([image.url for image in images if image.url is not None]))
    return [next(fetched) if image.picture is None else image.picture for image in images]


def _check_number(sent: int, most: int) -> None:
    if sent > most:
        raise InvalidRequest(f"{sent} pictures or vectors are too many for one request: send at most {most}")


def check_parts(form: FormData, known: set[str]) -> None:
    """Refuse a part of another name.

    Raises:
        InvalidRequest: there is one; the message names it.
    """
    if unknown := set(form) - known:
        raise InvalidRequest(f"there is no part {min(unknown)!r}: the parts are {', '.join(sorted(known))}")


async def _files(form: FormData, known: set[str]) -> tuple[Sequence[bytes], Sequence[str]]:
    """The files of a form and what they are called."""
    check_parts(form, known)
    parts = form.getlist("files")
    files = [part for part in parts if isinstance(part, UploadFile)]
    if not files or len(files) < len(parts):
        raise InvalidRequest("send one or more parts 'files', each a picture with a file name")
    return [await file.read() for file in files], [file.filename or "" for file in files]
