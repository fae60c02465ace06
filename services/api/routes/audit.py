"""Show the audit log of a tenant."""

from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.audit_entry import AuditEntry
from visual_memory.schemas.page import Page
from visual_memory.schemas.text_rules import Text
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep

router = APIRouter(prefix="/v1", tags=["audit"], route_class=AuthorizedRoute)


@router.get("/audit", operation_id="list_audit_entries")
@requires_scope(Scope.ADMIN)
def audit(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    subject: Annotated[
        Text | None, Query(description="only entries of who viewed data of this subject", examples=["customer-4711"])
    ] = None,
) -> Page[AuditEntry]:
    """Return who did what, the latest first; with `subject`, only who viewed data of this subject."""
    return service.audit.latest(caller.tenant, asked, subject)
