"""Serve the metrics of a tenant in the Prometheus text format."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.moments import now
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.error_responses import binary_content
from visual_memory.services.infrastructure.observability import prometheus_metrics

router = APIRouter(tags=["health"], route_class=AuthorizedRoute)


@router.get("/metrics", operation_id="get_metrics", response_class=Response, responses=binary_content("text/plain"))
@requires_scope(Scope.ADMIN)
def prometheus(caller: CallerDep, service: ServiceDep) -> Response:
    """Return the tenant's images, usage of today and intake; metrics of the processes are for operators only."""
    by_state, day = service.memory.images.count_by_state(caller.tenant), now().date()
    [today] = service.usage.days(caller.tenant, day, day)
    return Response(
        prometheus_metrics.exposition(by_state, today, service.intake_metrics.of(caller.tenant)),
        media_type=CONTENT_TYPE_LATEST,
    )
