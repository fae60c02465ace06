"""Images: send, look at, list, change."""

import logging
from collections.abc import Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ValidationError

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import InvalidRequest, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import Accepted, Image, ImageFields, ImagePage, ImagePatch, StoredImage
from visual_memory.schemas.labels import LabelCount, LabelRule
from visual_memory.schemas.strict_json import parse_json
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import SEES_CLASSES, GuardedRoute, needs
from visual_memory.services.api.error_responses import content, explain
from visual_memory.services.api.if_match import EtagsDep
from visual_memory.services.api.picture_uploads import SentImages, body_of, read_uploads
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.decoding.file_formats.recognise_format import media_type
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.points.point_payload import point_id

router = APIRouter(prefix="/v1", tags=["images"], route_class=GuardedRoute)

log = logging.getLogger(__name__)

Where = Annotated[
    str,
    Query(
        alias="filter",
        description="a filter as JSON",
        json_schema_extra={
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Filter"},
        },
    ),
]
LabelsThere = Annotated[LabelRule, Query(description="what becomes of the labels of images that are there")]
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Pictures are kept by no cache on the way, or a removal could not reach them."""


@router.post(
    "/images",
    status_code=202,
    openapi_extra=body_of(SentImages, "fields", ImageFields),
    response_model_exclude_defaults=True,
)
@needs(Scope.REMEMBER)
def accept(
    caller: CallerDep,
    service: ServiceDep,
    uploads: Annotated[list[Upload], Depends(read_uploads)],
    labels: LabelsThere = LabelRule.REPLACE,
) -> list[Accepted]:
    """Accept pictures to be remembered; all or none. Durable when answered, remembered moments later.

    Of an image that is there, fields that are left out stay as they are, and null clears. To let it expire earlier than
    before needs `remove` too.
    """
    with caller.recorded_afterwards("accept", images=len(uploads)):
        accepted = service.accept(caller.tenant, uploads, labels, may_expire=caller.key.may(Scope.REMOVE))
    points = [point_id(caller.tenant, each.image_id) for each in accepted]
    log.info("accepted %d", len(points), extra={"tenant": caller.tenant, "points": points})
    return accepted


@router.get("/images")
@needs(Scope.READ)
def images(
    caller: CallerDep,
    service: ServiceDep,
    where: Where = "{}",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: str | None = None,
) -> ImagePage:
    """List images that meet a filter, page by page."""
    asked = read_filter(where)
    page, following = service.memory.images.page(caller.tenant, asked.clauses(service.memory.metadata), limit, cursor)
    caller.saw(len(page), asked.named("subject") | subjects_of(page))
    return ImagePage(images=[as_image(each) for each in page], cursor=following)


@router.get("/images/{image_id}")
@needs(Scope.READ)
def image(caller: CallerDep, service: ServiceDep, image_id: str, response: Response) -> Image:
    """What is known of an image, its state first of all; its ETag says which labels and fields of which picture."""
    found = shown(service, caller, image_id)
    response.headers["ETag"] = found.etag
    return as_image(found)


@router.patch("/images/{image_id}")
@needs(Scope.REMEMBER)
def amend(
    caller: CallerDep, service: ServiceDep, image_id: str, patch: ImagePatch, etags: EtagsDep, response: Response
) -> Image | Accepted:
    """Change labels and fields; votes follow at once. All of the image is shown to whom may `read` it, else its state.

    With `If-Match` only while it is as it was seen. To let it expire earlier than before needs `remove` too.
    """
    with caller.recorded_action("amend", images=1):
        may_expire = caller.key.may(Scope.REMOVE)
        amended = service.amend_image(caller.tenant, image_id, patch, etags, may_expire=may_expire)
    response.headers["ETag"] = amended.etag
    if not caller.key.may(Scope.READ):
        return Accepted(image_id=image_id, state=amended.state)
    caller.saw(1, subjects_of([amended]))
    return as_image(amended)


@router.get("/images/{image_id}/picture", response_class=Response, responses=content("image/*"))
@needs(Scope.READ)
def picture(caller: CallerDep, service: ServiceDep, image_id: str) -> Response:
    """The picture as it was sent."""
    data = service.pictures.read(shown(service, caller, image_id).picture)
    return Response(data, media_type=media_type(data), headers=PRIVATE)


@router.get("/images/{image_id}/thumbnail", response_class=Response, responses=content("image/jpeg"))
@needs(Scope.READ)
def thumb(
    caller: CallerDep, service: ServiceDep, image_id: str, size: Annotated[int, Query(ge=16, le=1024)] = 160
) -> Response:
    """A small JPEG of the picture, made anew each time, so that there is none to forget."""
    data = service.pictures.read(shown(service, caller, image_id).picture)
    return Response(service.decoder.thumbnail(caller.tenant, data, size), media_type="image/jpeg", headers=PRIVATE)


@router.get("/labels", response_model_exclude_none=True)
@needs(SEES_CLASSES)
def labels(
    caller: CallerDep,
    service: ServiceDep,
    where: Where = "{}",
) -> list[LabelCount]:
    """How many images carry each label, the most frequent first; and how each class does, if it was judged."""
    asked = read_filter(where)
    caller.check_filter(asked)
    clauses = asked.clauses(service.memory.metadata)
    counts = service.memory.images.count_by_label(caller.tenant, clauses)
    return service.judging.with_judgement(
        caller.tenant, [LabelCount(label=label, images=number) for label, number in counts]
    )


def held(service: ApiProcess, caller: Caller, image_id: str) -> StoredImage:
    """The image of this id.

    Raises:
        NotFound: the caller's tenant has none.
    """
    found = service.memory.images.get(caller.tenant, [image_id]).get(image_id)
    if found is None:
        raise NotFound(f"there is no image {image_id!r}")
    return found


def shown(service: ApiProcess, caller: Caller, image_id: str) -> StoredImage:
    """The same for one that is about to be shown, which is logged."""
    found = held(service, caller, image_id)
    caller.saw(1, subjects_of([found]))
    return found


def subjects_of(images: Iterable[StoredImage]) -> set[str]:
    """Whom images show, as far as that is said."""
    return {image.subject for image in images if image.subject is not None}


def as_image(stored: StoredImage) -> Image:
    """What callers see of a stored image."""
    return Image.model_validate(stored, from_attributes=True)


def read_filter(text: str) -> Filter:
    """A filter from a query string.

    Raises:
        InvalidRequest: it is not the JSON of a filter.
    """
    try:
        return parse_json(Filter, text)
    except ValidationError as error:
        raise InvalidRequest(f"filter: {explain(error)}") from None
