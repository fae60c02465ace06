"""Metrics: a tenant's own, in Prometheus' text format."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from visual_memory.schemas.api_key import Scope
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import GuardedRoute, needs
from visual_memory.services.api.error_responses import content
from visual_memory.services.infrastructure.observability import prometheus_metrics

router = APIRouter(tags=["health"], route_class=GuardedRoute)


@router.get("/metrics", response_class=Response, responses=content("text/plain"))
@needs(Scope.ADMIN)
def prometheus(caller: CallerDep, service: ServiceDep) -> Response:
    """What the tenant has done, and its images by state; what all tenants share is shown to the operator alone."""
    by_state = service.memory.images.count_by_state(caller.tenant)
    return Response(
        prometheus_metrics.exposition(caller.tenant, by_state, service.intake_metrics.of(caller.tenant)),
        media_type=CONTENT_TYPE_LATEST,
    )
