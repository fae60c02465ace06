"""Send, list, show and change images; count labels."""

import logging
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Query, Response
from pydantic import ValidationError

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Blocked, InvalidFilter, InvalidRequest, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import (
    Accepted,
    Image,
    ImageFields,
    ImagePatch,
    StoredImage,
    point_id,
    thumbnail_url,
)
from visual_memory.schemas.image_search import LATEST_FIRST, SORT_DESCRIPTION, FoundImage, ImageSearch, ImageSort
from visual_memory.schemas.labels import LabelCount, LabelRule
from visual_memory.schemas.list_cursor import CursorNumber, CursorText, ListCursors
from visual_memory.schemas.page import Page
from visual_memory.schemas.strict_json import parse_json
from visual_memory.schemas.validation_faults import error_of_faults, list_json_faults
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import CLASSIFY_OR_READ, AuthorizedRoute, requires_scope
from visual_memory.services.api.if_match import EtagsDep
from visual_memory.services.api.listed_errors import may_raise
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import ImageIdParameter
from visual_memory.services.api.picture_uploads import SentImages, body_schema, read_images
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.intake.accept_pictures import Upload

router = APIRouter(prefix="/v1", tags=["images"], route_class=AuthorizedRoute)

log = logging.getLogger(__name__)

FilterParameter = Annotated[
    str,
    Query(
        alias="filter",
        description="a filter as JSON",
        examples=['{"labels": "cat", "source": ["camera-1", "camera-2"]}'],
        json_schema_extra={
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Filter"},
        },
    ),
]
SortParameter = Annotated[ImageSort, Query(description=SORT_DESCRIPTION, examples=["-captured_at"])]
LabelRuleParameter = Annotated[
    LabelRule, Query(description="what happens to the labels of images that are already stored", examples=["keep"])
]
LABEL_CURSORS = ListCursors("labels", tuple[CursorNumber, CursorText])
Shown = TypeVar("Shown", bound=Image)
NO_STORE_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Pictures must not be cached between service and client, where a removal could not reach them."""


@router.post(
    "/images",
    operation_id="accept_images",
    status_code=202,
    openapi_extra=body_schema(SentImages, "fields", ImageFields),
)
@may_raise(Blocked)
@requires_scope(Scope.REMEMBER)
def accept(
    caller: CallerDep,
    service: ServiceDep,
    uploads: Annotated[list[Upload], Depends(read_images)],
    label_rule: LabelRuleParameter = LabelRule.REPLACE,
) -> Page[Accepted]:
    """Accept pictures, all or none. They are durable when answered, and remembered moments later.

    If an image is already stored, omitted fields stay unchanged, and null clears a field. An earlier expiry than before
    needs the scope `remove` too.
    """
    with caller.recorded_afterwards("accept", images=len(uploads)):
        accepted = service.accept(caller.tenant, uploads, label_rule, may_expire=caller.key.may(Scope.REMOVE))
    points = [point_id(caller.tenant, each.image_id) for each in accepted]
    log.info("accepted %d", len(points), extra={"tenant": caller.tenant, "points": points})
    return Page.whole(accepted)


@router.get("/images", operation_id="list_images", summary="List images")
@requires_scope(Scope.READ)
def images(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    where: FilterParameter = "{}",
    sort: SortParameter = LATEST_FIRST,
) -> Page[Image]:
    """List images that meet a filter, in the order of a moment, page by page.

    An image that is there throughout comes exactly once. A total of more than about 100,000 is an estimate.
    """
    search = ImageSearch(filter=parse_filter(where), sort=sort, **vars(asked))
    return _page(caller, service, search, Image)


@router.post("/images/search", operation_id="search_images", summary="Search images")
@requires_scope(Scope.READ)
def search_images(caller: CallerDep, service: ServiceDep, search: ImageSearch) -> Page[FoundImage]:
    """List images as `GET /v1/images` does, for long filters; with `similar_to`, find the images most similar to one.

    These come in the order of their similarity. An image without a vector is not found; one to compare with is refused
    (409).
    """
    if search.similar_to is None:
        return _page(caller, service, search, FoundImage)
    clauses = search.filter.clauses(service.memory.metadata)
    found = service.memory.similar.nearest(caller.tenant, search.similar_to, search.limit, clauses)
    caller.log_read(len(found), search.filter.named("subject") | subjects_of(each for each, _ in found))
    shown = [(as_image(each, FoundImage), similarity) for each, similarity in found]
    return Page.whole(each.model_copy(update={"similarity": similarity}) for each, similarity in shown)


@router.get("/images/{image_id}", operation_id="get_image")
@requires_scope(Scope.READ)
def image(caller: CallerDep, service: ServiceDep, image_id: ImageIdParameter, response: Response) -> Image:
    """Return an image with its state and fields; the ETag identifies this version of fields and picture."""
    found = load_image_to_show(service, caller, image_id)
    response.headers["ETag"] = found.etag
    return as_image(found, Image)


@router.patch("/images/{image_id}", operation_id="amend_image")
@requires_scope(Scope.REMEMBER)
def amend(
    caller: CallerDep,
    service: ServiceDep,
    image_id: ImageIdParameter,
    patch: ImagePatch,
    etags: EtagsDep,
    response: Response,
) -> Image | Accepted:
    """Change labels and fields; votes change at once. Returns the image, or only its state without the scope `read`.

    The header `Visual-Memory-Change` is the id of the change, which `POST /v1/changes/{id}/undo` takes back; there is
    none where the image is already as the patch says.

    With `If-Match` only if the image is unchanged. An earlier expiry than before needs the scope `remove` too.
    """
    with caller.recorded_action("amend", images=1) as fields:
        may_expire = caller.key.may(Scope.REMOVE)
        made = service.changes.amend_image(caller.tenant, image_id, patch, caller.name, etags, may_expire=may_expire)
        fields["change"] = made.change
    amended = made.image
    if made.change is not None:
        response.headers["Visual-Memory-Change"] = made.change
    response.headers["ETag"] = amended.etag
    if not caller.key.may(Scope.READ):
        return Accepted(image_id=image_id, state=amended.state)
    caller.log_read(1, subjects_of([amended]))
    return as_image(amended, Image)


@router.get("/labels", operation_id="list_labels")
@requires_scope(CLASSIFY_OR_READ)
def labels(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    where: FilterParameter = "{}",
) -> Page[LabelCount]:
    """Count the images of each label, the most frequent first, with the accuracy of each class if it was judged."""
    condition = parse_filter(where)
    caller.check_filter(condition)
    clauses = condition.clauses(service.memory.metadata)
    counts = service.memory.images.count_by_label(caller.tenant, clauses)

    def shown(counted: Sequence[tuple[str, int]]) -> list[LabelCount]:
        page = [LabelCount(label=label, images=number) for label, number in counted]
        return service.report_judgement.with_class_reports(caller.tenant, page)

    return LABEL_CURSORS.page(counts, lambda counted: (-counted[1], counted[0]), asked, shown)


def _page(caller: Caller, service: ApiProcess, search: ImageSearch, kind: type[Shown]) -> Page[Shown]:
    """A page of the images that meet a filter, as images of a kind; the audit log gets an entry."""
    clauses = search.filter.clauses(service.memory.metadata)
    found, following = service.memory.in_order.page(caller.tenant, clauses, search.sort, search.limit, search.cursor)
    caller.log_read(len(found), search.filter.named("subject") | subjects_of(found))
    total = service.memory.in_order.total(caller.tenant, clauses) if search.total else None
    shown = [as_image(each, kind) for each in found]
    if total is None:
        return Page.of(shown, following)
    return Page.of(shown, following, total.images, total_is_estimate=total.is_estimate)


def load_image(service: ApiProcess, caller: Caller, image_id: str) -> StoredImage:
    """Load an image of the caller's tenant.

    Raises:
        NotFound: there is none with this id.
    """
    found = service.memory.images.get(caller.tenant, [image_id]).get(image_id)
    if found is None:
        raise NotFound(f"there is no image {image_id!r}")
    return found


def load_image_to_show(service: ApiProcess, caller: Caller, image_id: str) -> StoredImage:
    """Load an image for an answer, and write an audit log entry that it is shown."""
    found = load_image(service, caller, image_id)
    caller.log_read(1, subjects_of([found]))
    return found


def subjects_of(images: Iterable[StoredImage]) -> set[str]:
    """Return the subjects of images."""
    return {image.subject for image in images if image.subject is not None}


def as_image(stored: StoredImage, kind: type[Shown]) -> Shown:
    """Return the public fields of a stored image."""
    image = kind.model_validate(stored, from_attributes=True)
    return image.model_copy(update={"thumbnail_url": thumbnail_url(stored)})


def parse_filter(text: str) -> Filter:
    """Parse a filter from the parameter ``filter``.

    Raises:
        InvalidFilter: it is not the JSON of a filter.
    """
    try:
        return parse_json(Filter, text)
    except ValidationError as error:
        faults = list_json_faults(error, text, parameter="filter")
    except InvalidRequest as error:  # a key that is given twice
        faults = [each.model_copy(update={"parameter": "filter"}) for each in error.errors]
    raise error_of_faults(InvalidFilter, faults)
