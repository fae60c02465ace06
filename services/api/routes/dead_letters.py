"""List stream entries that could not be accepted."""

from fastapi import APIRouter

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.dead_letter import ShownDeadLetter
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.intake.streams.dead_letters import subjects_of

router = APIRouter(prefix="/v1/intake", tags=["intake"], route_class=AuthorizedRoute)


@router.get("/dead", operation_id="list_dead_letters")
@requires_scope(Scope.READ)
def dead(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
) -> Page[ShownDeadLetter]:
    """List dead letters with reason and original, the latest first; removal requests only with the scope `remove`.

    A page has at most 4 MiB of originals, so it may be shorter than `limit`.
    """
    page = service.dead_letters.page(caller.tenant, asked, removals=caller.key.may(Scope.REMOVE))
    caller.log_read(len(page.data), subjects_of(page.data))
    return page
