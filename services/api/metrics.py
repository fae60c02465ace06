"""Metrics: a tenant's own, in Prometheus' text format."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from schemas.key import Scope
from services.api.caller import CallerDep, ServiceDep
from services.api.errors import content
from services.api.guard import GuardedRoute, needs
from services.runtime import metrics

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/metrics", response_class=Response, responses=content("text/plain"))
@needs(Scope.ADMIN)
def prometheus(caller: CallerDep, service: ServiceDep) -> Response:
    """What the tenant has done, and its images by state; what all tenants share is shown to the operator alone."""
    by_state = service.memory.counts_by_state(caller.tenant)
    return Response(
        metrics.exposition(caller.tenant, by_state, service.intake_metrics.of(caller.tenant)),
        media_type=CONTENT_TYPE_LATEST,
    )
