"""Accept ready-made vectors, many in one request, which are remembered when it is answered."""

import logging
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import (
    Blocked,
    EncoderMismatch,
    InvalidForm,
    InvalidRequest,
    InvalidVector,
    UnsupportedMediaType,
)
from visual_memory.schemas.image import Accepted, ImageFields
from visual_memory.schemas.labels import LabelRule
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import CallerDep, ServiceDep, process_of
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.listed_errors import may_raise
from visual_memory.services.api.picture_uploads import (
    MAX_FIELDS_BYTES,
    check_fields,
    check_part_names,
    is_json,
    parse_each,
)
from visual_memory.services.api.routes.images import LabelRuleParameter
from visual_memory.services.intake.accept_vectors import Sent
from visual_memory.services.intake.npy_file import read_npy
from visual_memory.services.settings import MAX_AT_ONCE

router = APIRouter(prefix="/v1", tags=["images"], route_class=AuthorizedRoute)

log = logging.getLogger(__name__)

PARTS = {"encoder", "fields", "vectors"}
_BODY: dict[str, Any] = {
    "type": "object",
    "required": sorted(PARTS),
    "additionalProperties": False,
    "properties": {
        "encoder": {"type": "string", "minLength": 1, "description": "the name of the encoder that made the vectors"},
        "vectors": {"type": "string", "format": "binary", "description": "a .npy file of float32 [n, d]"},
        "fields": {
            "type": "string",
            "contentMediaType": "application/jsonl",
            "description": "a line of JSON for each vector, as `ImageFields`; or a single line for all",
        },
    },
}


async def read_vectors(request: Request) -> Sent:
    """Read vectors from multipart: ``vectors`` (a .npy file), ``fields`` (JSON lines), ``encoder`` (a name).

    Raises:
        InvalidRequest: the body is not of this form; the message says where.
    """
    if is_json(request):
        raise UnsupportedMediaType("vectors are sent as multipart/form-data")
    async with request.form(max_files=len(PARTS), max_fields=len(PARTS), max_part_size=MAX_FIELDS_BYTES) as form:
        check_part_names(form, PARTS)
        encoder, fields, vectors = [await _part(form, name) for name in sorted(PARTS)]
    sent = await run_in_threadpool(_parse, encoder, fields, vectors)
    await run_in_threadpool(check_fields, sent.fields, await process_of(request), "fields")
    return sent


@router.post(
    "/vectors",
    operation_id="accept_vectors",
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _BODY}}}},
)
@may_raise(Blocked, EncoderMismatch, InvalidVector)
@requires_scope(Scope.REMEMBER)
def remember_vectors(
    caller: CallerDep,
    service: ServiceDep,
    sent: Annotated[Sent, Depends(read_vectors)],
    label_rule: LabelRuleParameter = LabelRule.REPLACE,
) -> Page[Accepted]:
    """Remember vectors of one of the service's encoders, at most 4,096, all or none; durable when answered.

    They are normalised. Such images have no picture, and no label check. An image that is stored with the vector of
    another encoder gets this one in addition. An earlier expiry than before needs the scope `remove` too.
    """
    with caller.recorded_afterwards("accept", images=len(sent.fields)):
        accepted = service.accept_vectors(caller.tenant, sent, label_rule, may_expire=caller.key.may(Scope.REMOVE))
    log.info("remembered %d vectors", len(accepted), extra={"tenant": caller.tenant})
    return Page.whole(accepted)


async def _part(form: FormData, name: str) -> bytes:
    match form.getlist(name):
        case [str(text)]:
            return text.encode(errors="replace")
        case [UploadFile() as file]:
            return await file.read()
        case found:
            raise InvalidForm(f"{len(found)} parts {name!r} came: send one of each of {', '.join(sorted(PARTS))}")


def _parse(encoder: bytes, fields: bytes, vectors: bytes) -> Sent:
    rows = read_npy(vectors, MAX_AT_ONCE)
    return Sent(encoder.decode(errors="replace"), rows, _lines(fields, len(rows)))


def _lines(data: bytes, number: int) -> Sequence[ImageFields]:
    """Parse the fields of all vectors.

    Raises:
        InvalidRequest: a line is invalid or too long, or their number is wrong; the message says which.
    """
    data = data.strip()
    found = data.count(b"\n") + 1
    if found not in {1, number}:
        raise InvalidRequest(f"{number} vectors came with {found} lines of fields: send one for each, or a single one")
    lines = data.split(b"\n")
    if long := [index for index, line in enumerate(lines, 1) if len(line) > MAX_FIELDS_BYTES]:
        raise InvalidRequest(f"fields, line {long[0]}: it is over {MAX_FIELDS_BYTES} bytes")
    fields = parse_each(ImageFields, "fields", lines)
    if len(fields) < number and fields[0].image_id is not None:
        raise InvalidRequest("fields: the single line for all vectors must not name an image_id")
    return fields * (number // found)
