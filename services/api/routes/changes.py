"""Change many images at once, preview that, list changes, and undo them."""

from collections.abc import Callable

from fastapi import APIRouter

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.bulk_request import BulkRequest
from visual_memory.schemas.change import Change, ChangePreview
from visual_memory.schemas.curation_request import CurationRequest
from visual_memory.schemas.errors import AlreadyUndone, Blocked, InvalidFilter, NotJudged
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import READ_OR_REMEMBER, AuthorizedRoute, requires_scope
from visual_memory.services.api.listed_errors import may_raise
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import ChangeIdParameter
from visual_memory.services.changes.change_images import WantedChange

router = APIRouter(prefix="/v1", tags=["changes"], route_class=AuthorizedRoute)


@router.post("/curations", operation_id="curate_images", summary="Mute, unmute or relabel images")
@may_raise(InvalidFilter, NotJudged)
@requires_scope(Scope.REMEMBER)
def curate(
    caller: CallerDep, service: ServiceDep, request: CurationRequest, idempotency_key: IdempotencyKey = None
) -> Change:
    """Mute, unmute or relabel every image that meets a filter; votes change at once.

    The answer is the change, which `POST /v1/changes/{id}/undo` takes back. A filter by subject or file name needs the
    scope `read` too.
    """
    caller.check_filter(request.filter)

    def wanted() -> WantedChange:
        return service.changes.change.of_curation(caller.tenant, request)

    return _change_once(caller, "curate", request, wanted, idempotency_key)


@router.post("/curations/preview", operation_id="preview_curation", summary="Preview a curation")
@may_raise(InvalidFilter, NotJudged)
@requires_scope(Scope.REMEMBER)
def preview_curation(caller: CallerDep, service: ServiceDep, request: CurationRequest) -> ChangePreview:
    """Return what a curation would change; changes nothing.

    A filter by subject or file name needs the scope `read` too; so do counts by label, and samples, which are left out.
    """
    caller.check_filter(request.filter)
    return _preview(caller, service.changes.change.of_curation(caller.tenant, request))


@router.post("/images/bulk", operation_id="change_images", summary="Change many images at once")
@may_raise(Blocked, InvalidFilter)
@requires_scope(Scope.REMEMBER)
def change_images(
    caller: CallerDep, service: ServiceDep, request: BulkRequest, idempotency_key: IdempotencyKey = None
) -> Change:
    """Relabel, mute, unmute or amend the images that meet a filter, or have one of up to 10,000 ids.

    The answer is the change, which `POST /v1/changes/{id}/undo` takes back. A filter by subject or file name needs the
    scope `read` too; an earlier expiry than before needs the scope `remove` too.
    """
    caller.check_filter(request.filter or Filter({}))

    def wanted() -> WantedChange:
        return service.changes.change.of_bulk(request, may_expire=caller.key.may(Scope.REMOVE))

    return _change_once(caller, "bulk", request, wanted, idempotency_key)


@router.post("/images/bulk/preview", operation_id="preview_change_of_images", summary="Preview a change of many images")
@may_raise(InvalidFilter)
@requires_scope(Scope.REMEMBER)
def preview_change_of_images(caller: CallerDep, service: ServiceDep, request: BulkRequest) -> ChangePreview:
    """Return what such a change would change; changes nothing.

    A filter by subject or file name needs the scope `read` too; so do counts by label, and samples, which are left out.
    """
    caller.check_filter(request.filter or Filter({}))
    may_expire = caller.key.may(Scope.REMOVE)
    return _preview(caller, service.changes.change.of_bulk(request, may_expire=may_expire))


@router.get("/changes", operation_id="list_changes", summary="List changes")
@requires_scope(READ_OR_REMEMBER)
def changes(caller: CallerDep, service: ServiceDep, asked: PageDep) -> Page[Change]:
    """List the changes of images, the latest first. Those older than the service keeps them are left out."""
    service.changes.settle(caller.tenant)
    return service.changes.records.page(caller.tenant, asked)


@router.get("/changes/{change_id}", operation_id="get_change", summary="Show a change")
@requires_scope(READ_OR_REMEMBER)
def change(caller: CallerDep, service: ServiceDep, change_id: ChangeIdParameter) -> Change:
    """Return a change: what was done, by whom, to how many images, and whether it was undone."""
    service.changes.settle(caller.tenant)
    return service.changes.records.load(caller.tenant, change_id)


@router.post("/changes/{change_id}/undo", operation_id="undo_change", summary="Undo a change")
@may_raise(AlreadyUndone, Blocked)
@requires_scope(Scope.REMEMBER)
def undo(
    caller: CallerDep, service: ServiceDep, change_id: ChangeIdParameter, idempotency_key: IdempotencyKey = None
) -> Change:
    """Give the images of a change back what they had before; votes change at once.

    An image that was changed again since, was replaced by another picture, or is gone, is left as it is and counted in
    `skipped`. The answer is the undo, a change itself: undoing it brings back what it took back. A change that was
    undone already is refused (409 `already_undone`). An earlier expiry than now needs the scope `remove` too.
    """

    def act() -> str:
        with caller.recorded_action("undo") as fields:
            may_expire = caller.key.may(Scope.REMOVE)
            made = service.changes.undo(caller.tenant, change_id, caller.name, may_expire=may_expire)
            fields |= {"images": made.images, "change": made.id}
            return made.id

    made = caller.run_once("undo", idempotency_key, change_id, act)
    return service.changes.records.load(caller.tenant, made)


def _change_once(
    caller: Caller,
    kind: str,
    request: CurationRequest | BulkRequest,
    wanted: Callable[[], WantedChange],
    idempotency_key: str | None,
) -> Change:
    """Make a change, once for all requests with an idempotency key, with its audit log entry."""
    use_cases = caller.service.changes

    def act() -> str:
        with caller.recorded_action(request.action.value) as fields:
            made = use_cases.change(caller.tenant, wanted(), caller.name)
            fields |= {"images": made.images, "change": made.id}
            return made.id

    made = caller.run_once(kind, idempotency_key, request.model_dump_json(exclude_unset=True), act)
    return use_cases.records.load(caller.tenant, made)


def _preview(caller: Caller, wanted: WantedChange) -> ChangePreview:
    may_read = caller.key.may(Scope.READ)
    preview = caller.service.changes.preview(caller.tenant, wanted, may_read=may_read)
    if preview.samples:
        caller.log_read(len(preview.samples), ())
    return preview
