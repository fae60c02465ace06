"""Show the picture of an image, and its thumbnail."""

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.image import VERSION_LENGTH, thumbnail_version
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.error_responses import binary_content
from visual_memory.services.api.if_match import is_current
from visual_memory.services.api.path_parameters import ImageIdParameter
from visual_memory.services.api.routes.images import NO_STORE_HEADERS, load_image_to_show
from visual_memory.services.decoding.file_formats.recognise_format import media_type

router = APIRouter(prefix="/v1", tags=["images"], route_class=AuthorizedRoute)

IMMUTABLE_SECONDS = 300
"""How long a browser may show a thumbnail without asking. A removal cannot reach a browser's cache, so this is less
than the 10 minutes within which removed bytes are erased from the service's disks."""
IMMUTABLE = f"private, max-age={IMMUTABLE_SECONDS}, immutable"
ASK_FIRST = "private, no-cache"
NOT_MODIFIED = 304


@router.get(
    "/images/{image_id}/picture",
    operation_id="get_picture",
    summary="Get the picture of an image",
    response_class=Response,
    responses=binary_content("image/*"),
)
@requires_scope(Scope.READ)
def picture(caller: CallerDep, service: ServiceDep, image_id: ImageIdParameter) -> Response:
    """Return the picture as it was sent; an image that came as a vector has none."""
    data = service.pictures.read(load_image_to_show(service, caller, image_id).picture)
    return Response(data, media_type=media_type(data), headers=NO_STORE_HEADERS)


@router.get(
    "/images/{image_id}/thumbnail",
    operation_id="get_thumbnail",
    summary="Get the thumbnail of an image",
    response_class=Response,
    responses={**binary_content("image/jpeg"), NOT_MODIFIED: {"description": "The caller has this thumbnail."}},
)
@requires_scope(Scope.READ)
def thumbnail(
    caller: CallerDep,
    service: ServiceDep,
    image_id: ImageIdParameter,
    version: Annotated[
        str | None,
        Query(
            alias="v",
            max_length=VERSION_LENGTH,
            description="the version of the picture, as in the image's `thumbnail_url`; with the present one, a browser"
            f" may show the thumbnail for {IMMUTABLE_SECONDS} s without asking again, otherwise it asks each time",
            examples=["9f86d081884c7d65"],
        ),
    ] = None,
    if_none_match: Annotated[
        str | None,
        Header(
            alias="If-None-Match",
            description="ETags of thumbnails that the caller has: 304 without a body if the present one is among them",
            examples=['"60303ae22b998861bce3b28f33eec1be"'],
        ),
    ] = None,
) -> Response:
    """Return a JPEG of the picture, upright and in sRGB, with a longest side of at most 256 pixels.

    It is made when the picture is accepted, and deleted with it. An image that came as a vector has none.
    """
    found = load_image_to_show(service, caller, image_id)
    jpeg = service.load_thumbnail(found)
    etag = f'"{sha256(jpeg).hexdigest()[:32]}"'
    headers = {
        "ETag": etag,
        "Cache-Control": IMMUTABLE if version == thumbnail_version(found) else ASK_FIRST,
        "Vary": "Authorization, Cookie",
        "X-Content-Type-Options": "nosniff",
    }
    if is_current(etag, if_none_match):
        return Response(status_code=NOT_MODIFIED, headers=headers)
    return Response(jpeg, media_type="image/jpeg", headers=headers)
