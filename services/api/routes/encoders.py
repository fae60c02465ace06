"""List the encoders of the memory."""

from fastapi import APIRouter

from visual_memory.schemas.encoder import EncoderSummary
from visual_memory.services.api.authenticate import ServiceDep
from visual_memory.services.api.authorize import ANY_SCOPE, AuthorizedRoute, requires_scope

router = APIRouter(prefix="/v1", tags=["classify"], route_class=AuthorizedRoute)


@router.get("/encoders")
@requires_scope(ANY_SCOPE)
def encoders(service: ServiceDep) -> list[EncoderSummary]:
    """List the encoders; the active one classifies, and vectors of all of them are accepted."""
    active, known, dropping = service.encoders.active(), service.encoders.known(), service.encoders.dropping()
    return [
        EncoderSummary(name=spec.name, dimension=spec.dimension, active=active is not None and active.name == spec.name)
        for spec in known.values()
        if spec.name not in dropping
    ]
