"""What came through the intake's streams and could not be accepted."""

from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.dead_letter import DeadLetterPage
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import GuardedRoute, needs
from visual_memory.services.intake.streams.dead_letters import subjects_of

router = APIRouter(prefix="/v1/intake", tags=["intake"], route_class=GuardedRoute)


@router.get("/dead")
@needs(Scope.READ)
def dead(
    caller: CallerDep,
    service: ServiceDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: str | None = None,
) -> DeadLetterPage:
    """Dead letters with the reason and the original, page by page; requests for removals only to whom may `remove`."""
    page = service.dead_letters.page(caller.tenant, cursor, limit, removals=caller.key.may(Scope.REMOVE))
    caller.saw(len(page.letters), subjects_of(page.letters))
    return page
