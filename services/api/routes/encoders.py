"""Encoders: by whose vectors this memory compares images."""

from fastapi import APIRouter

from visual_memory.schemas.encoder import EncoderSummary
from visual_memory.services.api.authenticate import ServiceDep
from visual_memory.services.api.authorize import ANY, GuardedRoute, needs

router = APIRouter(prefix="/v1", tags=["classify"], route_class=GuardedRoute)


@router.get("/encoders")
@needs(ANY)
def encoders(service: ServiceDep) -> list[EncoderSummary]:
    """The encoders that the memory knows; the active one classifies, and all may be named with vectors."""
    active, known, dropping = service.encoders.active(), service.encoders.known(), service.encoders.dropping()
    return [
        EncoderSummary(name=spec.name, dimension=spec.dimension, active=active is not None and active.name == spec.name)
        for spec in known.values()
        if spec.name not in dropping
    ]
