"""The audit log of a tenant."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas.audit import AuditLine
from schemas.key import Scope
from schemas.text_rules import Text
from services.api.caller import CallerDep, ServiceDep
from services.api.guard import GuardedRoute, needs

router = APIRouter(prefix="/v1", tags=["audit"], route_class=GuardedRoute)


@router.get("/audit", response_model_exclude_none=True)
@needs(Scope.ADMIN)
def audit(
    caller: CallerDep,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: Text | None = None,
) -> list[AuditLine]:
    """Who did what, the latest first; with `subject`, who looked at this one."""
    return service.audit.latest(caller.tenant, limit, subject)
