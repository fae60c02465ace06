"""Make, list, rotate and revoke the API keys of the caller's tenant."""

from fastapi import APIRouter, Response

from visual_memory.schemas.api_key import Key, KeyRequest, NewKey, Scope, TenantKeyRequest
from visual_memory.schemas.errors import Conflict
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import Page
from visual_memory.services.access.api_keys import Within as WithinKey
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import KeyIdParameter
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["keys"], route_class=AuthorizedRoute)

CURSORS = ListCursors("keys", tuple[Moment, CursorText])
MAKE, KIND = "keys.make", "about_key"
"""The action, and the field for the id, in the audit log."""


@router.get("/keys", operation_id="list_keys")
@requires_scope(Scope.ADMIN)
def list_keys(caller: CallerDep, service: ServiceDep, asked: PageDep) -> Page[Key]:
    """List the keys of the tenant, revoked ones too, the oldest first; without their secrets."""
    return CURSORS.page(service.keys.all(caller.tenant), lambda key: (key.created_at, key.id), asked, list)


@router.post("/keys", operation_id="create_key", status_code=201)
@requires_scope(Scope.ADMIN)
def create_key(
    caller: CallerDep,
    service: ServiceDep,
    request: TenantKeyRequest,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> NewKey:
    """Make a key for the tenant.

    Its text is answered only here, and again to the same request with the same `Idempotency-Key`.
    """
    wanted = KeyRequest(tenant=caller.tenant, **request.model_dump())
    body = request.model_dump_json()
    secret = service.derive_key_secret(f"{caller.key.id} {idempotency_key} {body}" if idempotency_key else None)

    def create(within: Within) -> str:
        return service.keys.make(wanted, lambda connection, key: within(connection, key.id), secret).key.id

    key_id = caller.create_once(MAKE, KIND, idempotency_key, body, create)
    response.headers["Location"] = f"/v1/keys/{key_id}"
    new = service.keys.with_secret(key_id, secret)
    if new is None:
        raise Conflict(f"the same request has made key {key_id}, which was revoked or rotated since: make another one")
    return new


@router.get("/keys/{key_id}", operation_id="get_key")
@requires_scope(Scope.ADMIN)
def get_key(caller: CallerDep, service: ServiceDep, key_id: KeyIdParameter) -> Key:
    """Return a key of the tenant, without its secret."""
    return service.keys.load(key_id, caller.tenant)


@router.post("/keys/{key_id}/rotate", operation_id="rotate_key")
@requires_scope(Scope.ADMIN)
def rotate_key(caller: CallerDep, service: ServiceDep, key_id: KeyIdParameter) -> NewKey:
    """Give a key another secret, and end its sessions; the former secret is refused within a second."""
    return service.keys.rotate(key_id, _audited(caller, "keys.rotate"), caller.tenant)


@router.delete("/keys/{key_id}", operation_id="revoke_key")
@requires_scope(Scope.ADMIN)
def revoke_key(caller: CallerDep, service: ServiceDep, key_id: KeyIdParameter) -> Key:
    """Revoke a key for good, and end its sessions; it is refused within a second."""
    return service.keys.revoke(key_id, _audited(caller, "keys.revoke"), caller.tenant)


def _audited(caller: Caller, action: str) -> WithinKey:
    entry = caller.audit_entry(action, KIND)
    return lambda connection, key: entry(connection, key.id)
