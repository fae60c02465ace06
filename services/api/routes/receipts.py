"""Receipts, byte for byte as they were given, the key that they are checked with, and whose filter one is of."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import FilterCheck, PublicKey
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import ANY, GuardedRoute, needs
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.receipts.receipt_signature import NotValid

router = APIRouter(prefix="/v1", tags=["receipts"], route_class=GuardedRoute)

JOSE = "application/jose+json"
_FLATTENED = {
    "type": "object",
    "description": "a flattened JWS (RFC 7515); of a removal by an earlier version what that gave",
    "properties": {
        part: {"type": "string", "description": "in base64url"} for part in ("payload", "protected", "signature")
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {JOSE: {"schema": _FLATTENED}}, "description": "The receipt."}
}


class FilterToCheck(BaseModel):
    """The filter that a receipt is said to be of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: Filter


@router.get("/receipts/key")
@needs(ANY)
def receipt_key(service: ServiceDep) -> PublicKey:
    """The public key that receipts are checked with, as a JSON Web Key; `base64` is the same in plain base64."""
    return service.receipts.log.signer.key


@router.get("/removals/{removal_id}/receipt", response_class=Response, responses=ANSWERS)
@needs(Scope.REMOVE)
def receipt(caller: CallerDep, service: ServiceDep, removal_id: str) -> Response:
    """The receipt of a removal that is done."""
    return Response(_given(caller, service, removal_id), media_type=JOSE)


@router.get("/removals/{removal_id}/erasure-receipt", response_class=Response, responses=ANSWERS)
@needs(Scope.REMOVE)
def erasure_receipt(caller: CallerDep, service: ServiceDep, removal_id: str) -> Response:
    """The receipt of a removal's erasure, which names the first one by its digest."""
    return Response(_given(caller, service, removal_id, erasure=True), media_type=JOSE)


@router.post("/removals/{removal_id}/check")
@needs(Scope.REMOVE)
def check(caller: CallerDep, service: ServiceDep, removal_id: str, request: FilterToCheck) -> FilterCheck:
    """Whether the receipt of a removal, which names its filter by a digest alone, is of this filter."""
    text = _given(caller, service, removal_id)
    try:
        return FilterCheck(matches=service.receipts.check().is_of(text, request.filter))
    except NotValid as error:
        raise Unavailable(f"the receipt cannot be checked, for {error}") from error


def _given(caller: Caller, service: ApiProcess, removal_id: str, *, erasure: bool = False) -> str:
    text = service.receipts.rows.given(caller.tenant, removal_id, erasure=erasure)
    if text is None:
        raise NotFound(f"removal {removal_id} has no such receipt yet: it is given once that is done")
    return text
