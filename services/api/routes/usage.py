"""Show how much a tenant uses the service."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.image import State
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.usage import Usage
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope

DEFAULT_DAYS, MAX_DAYS = 30, 400

router = APIRouter(prefix="/v1", tags=["session"], route_class=AuthorizedRoute)


@router.get("/usage", operation_id="get_usage")
@requires_scope(Scope.ADMIN)
def get_usage(
    caller: CallerDep,
    service: ServiceDep,
    first: Annotated[
        date | None,
        Query(alias="from", description="the first day, in UTC; default: 29 days before `to`", examples=["2026-01-02"]),
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", description="the last day, in UTC; default: today", examples=["2026-01-31"])
    ] = None,
) -> Usage:
    """Return what the tenant holds now and what was counted on each day; up to 400 days, without the last seconds."""
    first, last = _days(first, last)
    by_state = service.memory.images.count_by_state(caller.tenant)
    return Usage(
        images={state: by_state.get(state, 0) for state in State},
        decisions=service.decisions.summaries(caller.tenant, PageRequest(limit=1, total=True)).total or 0,
        days=service.usage.days(caller.tenant, first, last),
    )


def _days(first: date | None, last: date | None) -> tuple[date, date]:
    """The first and the last day of a request.

    Raises:
        InvalidRequest: the first day is after the last, or they are too many.
    """
    last = last or now().date()
    first = first or date.fromordinal(max(1, last.toordinal() - DEFAULT_DAYS + 1))
    number = last.toordinal() - first.toordinal() + 1
    if not 1 <= number <= MAX_DAYS:
        raise InvalidRequest(f"`from` must not be after `to`, and there may be at most {MAX_DAYS} days between them")
    return first, last
