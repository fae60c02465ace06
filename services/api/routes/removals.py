"""Removals: ask for one, see its receipt."""

from concurrent.futures import TimeoutError as StillRunning
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import Requester
from visual_memory.schemas.removal import Removal, RemovalPreview, RemovalRequest
from visual_memory.schemas.text_rules import Moment
from visual_memory.services.access.audit_log import RUNNING
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import GuardedRoute, needs
from visual_memory.services.api.if_match import EtagsDep
from visual_memory.services.api.routes.images import held
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["removals"], route_class=GuardedRoute)

PATIENCE = 10.0
"""Seconds that an answer waits for the receipt; a removal that takes longer goes on by itself."""
ACTION, KIND = "remove", "removal"
"""As the audit log has them."""


@router.post("/removals", responses={202: {"description": "Recorded; still running."}})
@needs(Scope.REMOVE)
def remove(
    caller: CallerDep,
    service: ServiceDep,
    request: RemovalRequest,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Removal | RemovalPreview:
    """Remove every image that meets a filter. 200 with the receipt, or 202 while it still runs."""
    if request.dry_run:
        preview = service.forget.preview(caller.tenant, request)
        caller.saw(preview.images, request.filter.named("subject"))
        return preview
    asked = request.model_dump_json()
    removal_id = caller.make(ACTION, KIND, idempotency_key, asked, partial(_record, caller, request), outcome=RUNNING)
    return _carry_out(service, caller, removal_id, response)


@router.delete("/images/{image_id}", responses={202: {"description": "Recorded; still running."}})
@needs(Scope.REMOVE)
def remove_image(
    caller: CallerDep,
    service: ServiceDep,
    image_id: str,
    etags: EtagsDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Removal:
    """Remove one image; a removal like any other, with a receipt. With `If-Match` only while it is as it was seen."""

    def record(within: Within) -> str:
        held(service, caller, image_id).check_etag(etags)
        # not checked: the reason is ours, and an image may be called "one" or "image"
        request = RemovalRequest.model_construct(filter=Filter({"image_id": image_id}), reason="DELETE of one image")
        return _record(caller, request, within)

    removal_id = caller.make(ACTION, KIND, idempotency_key, f"image {image_id}", record, outcome=RUNNING)
    return _carry_out(service, caller, removal_id, response)


@router.get("/removals")
@needs(Scope.REMOVE)
def removals(
    caller: CallerDep,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Moment | None = None,
) -> list[Removal]:
    """The removals, the latest first; with `before`, those that were asked for before that moment."""
    return service.removals.latest(caller.tenant, limit, before)


@router.get("/removals/{removal_id}")
@needs(Scope.REMOVE)
def removal(caller: CallerDep, service: ServiceDep, removal_id: str) -> Removal:
    """The record of a removal; once done, its receipt."""
    return service.removals.load(caller.tenant, removal_id).removal


def _record(caller: Caller, request: RemovalRequest, within: Within) -> str:
    """Record a removal, which from then on will be done, whatever happens; its id."""
    requester = Requester(name=caller.key.name, key=caller.key.id)
    return caller.service.forget.request(caller.tenant, request, requester, within).id


def _carry_out(service: ApiProcess, caller: Caller, removal_id: str, response: Response) -> Removal:
    """Wait a while for a removal's receipt."""
    resume = partial(service.forget.resume, caller.tenant, removal_id)
    try:
        return service.background.submit(caller.tenant, resume).result(PATIENCE)
    except (StillRunning, Unavailable):
        response.status_code = 202
        return service.removals.load(caller.tenant, removal_id).removal
