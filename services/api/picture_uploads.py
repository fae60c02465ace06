"""Read pictures from a request: ``multipart/form-data``, or JSON with base64 or URLs."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from visual_memory.schemas.classify_options import ClassifyOptions, QueryVector
from visual_memory.schemas.errors import InvalidForm, InvalidJson, InvalidRequest, UnsupportedMediaType
from visual_memory.schemas.fault import MAX_NAME, Fault, limited
from visual_memory.schemas.fault_sentences import INVALID_JSON
from visual_memory.schemas.field_types import convert_metadata
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.picture_base64 import Picture
from visual_memory.schemas.strict_json import parse_json
from visual_memory.schemas.text_rules import sent_file_name
from visual_memory.schemas.validation_faults import error_of_faults, list_json_faults
from visual_memory.services.api.authenticate import process_of
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.intake.retention_limits import check_expiry
from visual_memory.services.settings import MAX_AT_ONCE

MAX_FIELDS_BYTES = 64 * 1024
VALUES_PER_IMAGE = 256
"""JSON values allowed per image: more than its fields have."""
MAX_INLINE_BYTES = 32 * 1024
"""Longest body that is parsed on the event loop: that takes 0.2 ms for a vector, less than starting a thread."""
VALUES_PER_FILTER = 64 * 1024
"""JSON values allowed for a filter: more than one has."""


Url = Annotated[str, Field(max_length=2048, description="https URL of a host that this service fetches from")]


class SentImage(ImageFields):
    """A picture in base64 or by URL, with its fields."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["picture"]}, {"required": ["url"]}]})

    picture: Picture | None = Field(
        default=None, description="the picture, in base64; or give a `url`", examples=["/9j/4AAQSkZJRg=="]
    )
    url: Url | None = Field(
        default=None,
        description="an https URL of the picture, of a host that this service fetches from; or give a `picture`",
        examples=["https://example.org/cat.jpg"],
    )

    @model_validator(mode="after")
    def _check_one_given(self) -> "SentImage":
        if (self.picture is None) == (self.url is None):
            raise ValueError("send picture or url, and not both")
        return self


class SentImages(BaseModel):
    """The JSON body of a request that sends pictures."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[SentImage], Field(min_length=1, max_length=MAX_AT_ONCE)] = Field(
        description="the pictures with their fields"
    )


class ClassifyRequest(ClassifyOptions):
    """The JSON body of a classification: `pictures`, `urls` or `vectors`, one of the three."""

    pictures: Annotated[list[Picture], Field(max_length=MAX_AT_ONCE)] = Field(
        default_factory=list, description="pictures, in base64", examples=[["/9j/4AAQSkZJRg=="]]
    )
    urls: Annotated[list[Url], Field(max_length=MAX_AT_ONCE)] = Field(
        default_factory=list,
        description="https URLs of pictures, of hosts that this service fetches from",
        examples=[["https://example.org/cat.jpg"]],
    )
    vectors: Annotated[list[QueryVector], Field(max_length=MAX_AT_ONCE)] = Field(
        default_factory=list, description="vectors of the active encoder", examples=[[[0.1, 0.2]]]
    )
    encoder: Annotated[
        str | None,
        Field(max_length=200, description="encoder of the vectors, or the expected one: refused if another is active"),
    ] = Field(default=None, examples=["efficientnet-lite0"])

    @model_validator(mode="after")
    def _check_one_given(self) -> "ClassifyRequest":
        if sum(map(bool, (self.pictures, self.urls, self.vectors))) != 1:
            raise ValueError("send pictures, vectors or urls: at least one, and only one kind")
        return self


Body = TypeVar("Body", bound=BaseModel)


async def read_uploads(request: Request) -> list[Upload]:
    """Read pictures with their fields; those by URL are fetched now, as 202 promises that they are stored.

    Multipart: parts ``files``, and parts ``fields`` that each hold the fields of one file as JSON, in the same order;
    a single ``fields`` part applies to every file. The file name of a part is used if ``file_name`` is not given.

    Raises:
        InvalidRequest: the body is not of this form; the message says where.
        FetchFailed, TooLarge: a picture cannot be fetched from its URL.
    """
    process = await process_of(request)
    max_images = process.settings.api.max_images
    if is_json(request):
        sent = await _parse_body(SentImages, await request.body(), process)
        _check_number(len(sent.images), max_images)
        pictures = await run_in_threadpool(_pictures, sent.images, partial(process.fetch, request.state.caller.tenant))
        fields = [
            ImageFields.model_construct(image.model_fields_set & ImageFields.model_fields.keys(), **dict(image))
            for image in sent.images
        ]
        return [Upload(data, each) for data, each in zip(pictures, fields, strict=True)]
    async with request.form(max_files=max_images, max_fields=max_images, max_part_size=MAX_FIELDS_BYTES) as form:
        files, names = await _files(form, {"files", "fields"})
        fields = parse_each(ImageFields, "fields", [str(text) for text in form.getlist("fields")])
    if len(fields) == 1 and (len(files) == 1 or fields[0].image_id is None):
        fields *= len(files)
    if len(fields) != len(files):
        raise InvalidForm(
            f"{len(files)} files came with {len(fields)} parts 'fields': send one for each file, in the same order,"
            " or a single one, without image_id, for all"
        )
    file_names = (sent_file_name(name.replace("%22", '"')) for name in names)  # browsers and HTTPX encode quotes so
    return [Upload(data, each.of_file(name)) for data, each, name in zip(files, fields, file_names, strict=True)]


async def read_images(request: Request) -> list[Upload]:
    """Read pictures that are to be stored: as `read_uploads`, and check what depends on settings and the clock.

    Raises:
        InvalidRequest: as `read_uploads`; or images would expire in the past, or have declared metadata of another
            type: the error lists each.
    """
    uploads = await read_uploads(request)
    check_fields([upload.fields for upload in uploads], await process_of(request), "" if is_json(request) else "fields")
    return uploads


def check_fields(images: Sequence[ImageFields], process: ApiProcess, part: str) -> None:
    """Check the fields of images that are to be stored, to list all faults before the first image is accepted.

    Args:
        images: their fields, in the order in which they were sent.
        process: has the declared types of metadata.
        part: the part of the form that had them; empty: they were in the list ``images`` of a JSON body.

    Raises:
        InvalidRequest: some would be refused.
    """
    faults, declared = list[Fault](), process.memory.metadata
    for index, fields in enumerate(images):
        if index and fields is images[index - 1]:  # one for all
            continue
        inside = {"part": part, "index": index} if part else {}
        for check in (partial(check_expiry, fields.expires_at), partial(convert_metadata, fields.metadata, declared)):
            try:
                check()
            except InvalidRequest as error:
                faults += [
                    each.model_copy(update=inside or {"pointer": f"/images/{index}{each.pointer}"})
                    for each in error.errors
                ]
    if faults:
        raise error_of_faults(InvalidRequest, faults)


async def read_queries(request: Request) -> ClassifyRequest:
    """Read pictures or vectors to classify, and the options; multipart: ``files`` and one ``options`` (JSON).

    Raises:
        InvalidRequest: the body is not of this form; the message says where.
        FetchFailed, TooLarge: a picture cannot be fetched from its URL.
    """
    process = await process_of(request)
    max_images = process.settings.api.max_images
    if is_json(request):
        sent = await _parse_body(ClassifyRequest, await request.body(), process)
        _check_number(len(sent.pictures) + len(sent.urls) + len(sent.vectors), max_images)
        if sent.urls:
            fetched = await run_in_threadpool(process.fetch, request.state.caller.tenant, sent.urls)
            sent = sent.model_copy(update={"pictures": fetched, "urls": []})
        return sent
    async with request.form(max_files=max_images, max_fields=1, max_part_size=MAX_FIELDS_BYTES) as form:
        files, _ = await _files(form, {"files", "options"})
        [options] = parse_each(ClassifyOptions, "options", [str(form.get("options", "{}"))])
    return ClassifyRequest.model_construct(**dict(options), pictures=files, urls=[], vectors=[])


def body_schema(json: type[BaseModel], part: str, part_schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that may be JSON or multipart, for OpenAPI; `documentation` adds the schemas of the models."""
    files = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    extra = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref(part_schema)}
    properties = {"files": files, part: {"type": "array", "items": extra} if part == "fields" else extra}
    form = {"type": "object", "required": ["files"], "properties": properties, "additionalProperties": False}
    content = {"application/json": {"schema": _ref(json)}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def is_json(request: Request) -> bool:
    """Return whether a body is JSON; otherwise it is a form.

    Raises:
        UnsupportedMediaType: it is neither.
    """
    header = request.headers.get("content-type", "")
    kind = header.split(";")[0].strip().lower()
    if kind not in {"application/json", "multipart/form-data"}:
        raise UnsupportedMediaType(
            f"the body is {kind or 'of no named type'}: send multipart/form-data or application/json"
        )
    # Starlette decodes the parts with any codec of Python, and some of those raise unexpected errors.
    if parse_options_header(header)[1].get(b"charset", b"utf-8").lower() not in {b"utf-8", b"utf8"}:
        raise UnsupportedMediaType("the body is not UTF-8: send UTF-8, without a charset")
    return kind == "application/json"


async def _parse_body(model: type[Body], body: bytes, process: ApiProcess) -> Body:
    """Parse a body, unless it has so many values that they, or their errors, would use 300 times its length."""
    max_values = process.settings.api.max_images * (process.memory.dimension + VALUES_PER_IMAGE) + VALUES_PER_FILTER
    if sum(map(body.count, (b",", b"[", b"{"))) > max_values:
        raise InvalidRequest(f"the body has more than {max_values} values: send fewer pictures or vectors at once")
    if len(body) <= MAX_INLINE_BYTES:
        return _parse(model, body)
    return await run_in_threadpool(_parse, model, body)


def _parse(model: type[Body], text: str | bytes) -> Body:
    try:
        return parse_json(model, text)
    except ValidationError as error:
        faults = list_json_faults(error, text)
    is_json = all(fault.code != INVALID_JSON for fault in faults)
    raise error_of_faults(InvalidRequest if is_json else InvalidJson, faults, "body")


def parse_each(model: type[Body], part: str, texts: Sequence[str | bytes]) -> list[Body]:
    """Parse the JSON texts of a form, each in a part of the same name, or in a line of one part.

    Args:
        model: of each text.
        part: the name.
        texts: in their order.

    Raises:
        InvalidRequest: some do not fit the model; the error lists the faults of all.
    """
    parsed, faults = list[Body](), list[Fault]()
    for index, text in enumerate(texts):
        place: dict[str, str | int] = {"part": part} if len(texts) == 1 else {"part": part, "index": index}
        try:
            parsed.append(parse_json(model, text))
        except ValidationError as error:
            faults += list_json_faults(error, text, **place)
        except InvalidRequest as error:  # a key that is given twice
            faults += [each.model_copy(update=place) for each in error.errors]
    if faults:
        raise error_of_faults(InvalidRequest, faults)
    return parsed


def _pictures(images: Sequence[SentImage], fetch: Callable[[Sequence[str]], list[bytes]]) -> list[bytes]:
    fetched = iter(fetch([image.url for image in images if image.url is not None]))
    return [next(fetched) if image.picture is None else image.picture for image in images]


def _check_number(number: int, limit: int) -> None:
    if number > limit:
        raise InvalidRequest(f"{number} pictures or vectors are too many for one request: send at most {limit}")


def check_part_names(form: FormData, known: set[str]) -> None:
    """Check that a form has only known parts.

    Raises:
        InvalidForm: it has another one; the message names it.
    """
    if unknown := set(form) - known:
        detail = f"is no part of this form: the parts are {', '.join(sorted(known))}"
        faults = [Fault(part=name[:MAX_NAME], code="unknown_part", detail=detail) for name in sorted(unknown)]
        error = InvalidForm(f"there is no part {min(unknown)!r}: the parts are {', '.join(sorted(known))}")
        error.errors = limited(faults)
        raise error


async def _files(form: FormData, known: set[str]) -> tuple[Sequence[bytes], Sequence[str]]:
    """Return the files of a form, and their names."""
    check_part_names(form, known)
    parts = form.getlist("files")
    files = [part for part in parts if isinstance(part, UploadFile)]
    if not files or len(files) < len(parts):
        raise InvalidForm("send one or more parts 'files', each a picture with a file name")
    return [await file.read() for file in files], [file.filename or "" for file in files]
