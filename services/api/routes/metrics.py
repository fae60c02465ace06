"""Serve the metrics of a tenant in the Prometheus text format."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from visual_memory.schemas.api_key import Scope
from visual_memory.services.api.authenticate import CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.error_responses import binary_content
from visual_memory.services.infrastructure.observability import prometheus_metrics

router = APIRouter(tags=["health"], route_class=AuthorizedRoute)


@router.get("/metrics", operation_id="get_metrics", response_class=Response, responses=binary_content("text/plain"))
@requires_scope(Scope.ADMIN)
def prometheus(caller: CallerDep, service: ServiceDep) -> Response:
    """Return counters of the tenant and its images by state; metrics of the whole service are for operators only."""
    by_state = service.memory.images.count_by_state(caller.tenant)
    return Response(
        prometheus_metrics.exposition(caller.tenant, by_state, service.intake_metrics.of(caller.tenant)),
        media_type=CONTENT_TYPE_LATEST,
    )
