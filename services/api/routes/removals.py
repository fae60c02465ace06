"""Request removals, and show their receipts."""

from concurrent.futures import TimeoutError as StillRunning
from functools import partial

from fastapi import APIRouter, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.page import Page
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
from visual_memory.services.access.audit_log import RUNNING
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.if_match import EtagsDep
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.routes.images import load_image
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["removals"], route_class=AuthorizedRoute)

RECEIPT_WAIT_SECONDS = 10.0
"""How long an answer waits for the receipt; a removal that takes longer continues in the background."""
ACTION, KIND = "remove", "removal"
"""The action, and the field for the id, in the audit log."""


@router.post("/removals", responses={202: {"description": "Recorded; still running."}})
@requires_scope(Scope.REMOVE)
def remove(
    caller: CallerDep,
    service: ServiceDep,
    request: RemovalRequest,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Removal | RemovalPreview:
    """Remove every image that meets a filter. Answers 200 with the receipt, or 202 if it still runs."""
    if request.dry_run:
        preview = service.removal_steps.request.preview(caller.tenant, request)
        caller.log_read(preview.images, request.filter.named("subject"))
        return preview
    text = request.model_dump_json()
    removal_id = caller.create_once(
        ACTION, KIND, idempotency_key, text, partial(_record, caller, request), outcome=RUNNING
    )
    return _wait_for_receipt(service, caller, removal_id, response)


@router.delete("/images/{image_id}", responses={202: {"description": "Recorded; still running."}})
@requires_scope(Scope.REMOVE)
def remove_image(
    caller: CallerDep,
    service: ServiceDep,
    image_id: str,
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


@router.get("/removals")
@requires_scope(Scope.REMOVE)
def removals(caller: CallerDep, service: ServiceDep, asked: PageDep) -> Page[Removal]:
    """List the removals, the latest first."""
    return service.removals.latest(caller.tenant, asked)


@router.get("/removals/{removal_id}")
@requires_scope(Scope.REMOVE)
def removal(caller: CallerDep, service: ServiceDep, removal_id: str) -> Removal:
    """Return the record of a removal; once it is done, this is its receipt."""
    return service.removals.load(caller.tenant, removal_id).removal


def _record(caller: Caller, request: RemovalRequest, within: Within) -> str:
    """Record a removal and return its id; from then on it is carried out, even after a crash."""
    requester = Requester(name=caller.key.name, key=caller.key.id)
    return caller.service.removal_steps.request(caller.tenant, request, requester, within).id


def _wait_for_receipt(service: ApiProcess, caller: Caller, removal_id: str, response: Response) -> Removal:
    """Wait for the receipt of a removal, at most `RECEIPT_WAIT_SECONDS`."""
    resume = partial(service.removal_steps.resume, caller.tenant, removal_id)
    try:
        return service.background.submit(caller.tenant, resume).result(RECEIPT_WAIT_SECONDS)
    except (StillRunning, Unavailable):
        response.status_code = 202
        return service.removals.load(caller.tenant, removal_id).removal
