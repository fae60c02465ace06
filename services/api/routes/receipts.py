"""Serve receipts, byte for byte as issued, and the key that verifies them; check the filter of a receipt."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import NotFound, Unavailable
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.receipt import FilterCheck, PublicKey
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import ANY_SCOPE, AuthorizedRoute, requires_scope
from visual_memory.services.api.path_parameters import RemovalIdParameter
from visual_memory.services.bootstrap.api_process import ApiProcess
from visual_memory.services.receipts.receipt_signature import NotValid

router = APIRouter(prefix="/v1", tags=["receipts"], route_class=AuthorizedRoute)

JOSE = "application/jose+json"
_FLATTENED = {
    "type": "object",
    "description": "a flattened JWS (RFC 7515); for a removal by an earlier version, what that version issued",
    "properties": {
        part: {"type": "string", "description": "in base64url"} for part in ("payload", "protected", "signature")
    },
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {JOSE: {"schema": _FLATTENED}}, "description": "The receipt."}
}


class FilterToCheck(BaseModel):
    """The filter to compare with that of a receipt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filter: Filter = Field(description="the filter to compare", examples=[{"source": "camera-1"}])


@router.get("/receipts/key", operation_id="get_receipt_key")
@requires_scope(ANY_SCOPE)
def receipt_key(service: ServiceDep) -> PublicKey:
    """Return the public key that verifies receipts, as a JSON Web Key; `base64` is the same key in plain base64."""
    return service.receipts.log.signer.key


@router.get("/removals/{removal_id}/receipt", operation_id="get_receipt", response_class=Response, responses=ANSWERS)
@requires_scope(Scope.REMOVE)
def receipt(caller: CallerDep, service: ServiceDep, removal_id: RemovalIdParameter) -> Response:
    """Return the receipt of a removal that is done."""
    return Response(_issued(caller, service, removal_id), media_type=JOSE)


@router.get(
    "/removals/{removal_id}/erasure-receipt",
    operation_id="get_erasure_receipt",
    response_class=Response,
    responses=ANSWERS,
)
@requires_scope(Scope.REMOVE)
def erasure_receipt(caller: CallerDep, service: ServiceDep, removal_id: RemovalIdParameter) -> Response:
    """Return the receipt of a removal's erasure, which contains the digest of the first receipt."""
    return Response(_issued(caller, service, removal_id, erasure=True), media_type=JOSE)


@router.post("/removals/{removal_id}/check", operation_id="check_receipt")
@requires_scope(Scope.REMOVE)
def check(
    caller: CallerDep, service: ServiceDep, removal_id: RemovalIdParameter, request: FilterToCheck
) -> FilterCheck:
    """Check whether the receipt of a removal, which contains only a digest of its filter, is of this filter."""
    text = _issued(caller, service, removal_id)
    try:
        return FilterCheck(matches=service.receipts.check().has_filter(text, request.filter))
    except NotValid as error:
        raise Unavailable(f"the receipt cannot be checked, for {error}") from error


def _issued(caller: Caller, service: ApiProcess, removal_id: str, *, erasure: bool = False) -> str:
    text = service.receipts.issued.text(caller.tenant, removal_id, erasure=erasure)
    if text is None:
        raise NotFound(f"removal {removal_id} has no such receipt yet: it is issued once that is done")
    return text
