"""Preview and request removals, and show their receipts."""

from concurrent.futures import TimeoutError as StillRunning
from functools import partial

from fastapi import APIRouter, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.page import Page
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest, RemovalStatus
from visual_memory.services.access.audit_log import RUNNING
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.if_match import EtagsDep
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import ImageIdParameter, RemovalIdParameter
from visual_memory.services.api.response_headers import describe_headers, set_location
from visual_memory.services.api.routes.images import load_image
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["removals"], route_class=AuthorizedRoute)

RECEIPT_WAIT_SECONDS = 1.0
"""How long an answer waits for the receipt; a removal that takes longer continues in the background."""
ACTION, KIND = "remove", "removal"
"""The action, and the field for the id, in the audit log."""
RECORDED = describe_headers(
    202, "The removal, with its receipt if it is done within a second; else it continues", retry_after=True
)


@router.post("/removals/preview", operation_id="preview_removal", summary="Preview a removal")
@requires_scope(Scope.REMOVE)
def preview(caller: CallerDep, service: ServiceDep, request: RemovalRequest) -> RemovalPreview:
    """Count what a removal would cover now, and what else it would delete or change; changes nothing.

    The names of files are shown only to keys with the scope `read`.
    """
    found = service.preview_removal(caller.tenant, request, show_file_names=caller.key.may(Scope.READ))
    caller.log_read(found.preview.images, request.filter.named("subject") | found.subjects)
    return found.preview


@router.post(
    "/removals", operation_id="create_removal", summary="Request a removal", status_code=202, responses=RECORDED
)
@requires_scope(Scope.REMOVE)
def remove(
    caller: CallerDep,
    service: ServiceDep,
    request: RemovalRequest,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Removal:
    """Remove every image that meets a filter. Once it is recorded it is carried out, even after a crash.

    The removal, with its receipt once it is done, is at the route that `Location` names.
    """
    removal_id = caller.create_once(
        ACTION,
        KIND,
        idempotency_key,
        request.model_dump_json(),
        partial(_record, caller, request),
        outcome=RUNNING,
    )
    return _wait_for_receipt(service, caller, removal_id, response)


@router.delete(
    "/images/{image_id}",
    operation_id="remove_image",
    summary="Remove an image",
    status_code=202,
    responses=RECORDED,
)
@requires_scope(Scope.REMOVE)
def remove_image(
    caller: CallerDep,
    service: ServiceDep,
    image_id: ImageIdParameter,
    etags: EtagsDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Removal:
    """Remove one image, with a receipt as for any removal. With `If-Match` only if the image is unchanged."""

    def record(within: Within) -> str:
        load_image(service, caller, image_id).check_etag(etags)
        # not validated: the reason is ours, and an image id may be "one" or "image"
        request = RemovalRequest.model_construct(filter=Filter({"image_id": image_id}), reason="DELETE of one image")
        return _record(caller, request, within)

    removal_id = caller.create_once(ACTION, KIND, idempotency_key, f"image {image_id}", record, outcome=RUNNING)
    return _wait_for_receipt(service, caller, removal_id, response)


@router.get("/removals", operation_id="list_removals")
@requires_scope(Scope.REMOVE)
def removals(caller: CallerDep, service: ServiceDep, asked: PageDep) -> Page[Removal]:
    """List the removals, the latest first."""
    return service.removals.latest(caller.tenant, asked)


@router.get("/removals/{removal_id}", operation_id="get_removal", summary="Show a removal")
@requires_scope(Scope.REMOVE)
def removal(caller: CallerDep, service: ServiceDep, removal_id: RemovalIdParameter) -> Removal:
    """Return the record of a removal with its progress; once it is done, with its receipt."""
    return service.removals.load(caller.tenant, removal_id).removal


def _record(caller: Caller, request: RemovalRequest, within: Within) -> str:
    """Record a removal and return its id; from then on it is carried out, even after a crash."""
    requester = Requester(name=caller.key.name, key=caller.key.id)
    return caller.service.removal_steps.request(caller.tenant, request, requester, within).id


def _wait_for_receipt(service: ApiProcess, caller: Caller, removal_id: str, response: Response) -> Removal:
    """Wait for the receipt of a removal, at most `RECEIPT_WAIT_SECONDS`."""
    resume = partial(service.removal_steps.resume, caller.tenant, removal_id)
    try:
        found = service.background.submit(caller.tenant, resume).result(RECEIPT_WAIT_SECONDS)
    except (StillRunning, Unavailable):
        found = service.removals.load(caller.tenant, removal_id).removal
    is_running = found.status is not RemovalStatus.DONE
    set_location(response, f"/v1/removals/{removal_id}", is_running=is_running)
    return found
