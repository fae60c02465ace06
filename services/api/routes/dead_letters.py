"""List stream entries that could not be accepted."""

from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.dead_letter import DeadLetterPage
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.intake.streams.dead_letters import subjects_of

router = APIRouter(prefix="/v1/intake", tags=["intake"], route_class=AuthorizedRoute)


@router.get("/dead")
@requires_scope(Scope.READ)
def dead(
    caller: CallerDep,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> DeadLetterPage:
    """List dead letters with reason and original, page by page; removal requests only with the scope `remove`."""
    page = service.dead_letters.page(caller.tenant, cursor, limit, removals=caller.key.may(Scope.REMOVE))
    caller.log_read(len(page.letters), subjects_of(page.letters))
    return page
