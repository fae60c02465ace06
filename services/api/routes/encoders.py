"""List the encoders of the memory."""

from collections.abc import Sequence

from fastapi import APIRouter

from visual_memory.schemas.encoder import EncoderSpec, EncoderSummary
from visual_memory.schemas.list_cursor import CursorText, ListCursors
from visual_memory.schemas.moments import Moment
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import ServiceDep
from visual_memory.services.api.authorize import ANY_SCOPE, AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep

router = APIRouter(prefix="/v1", tags=["classify"], route_class=AuthorizedRoute)


CURSORS = ListCursors("encoders", tuple[Moment, CursorText])


@router.get("/encoders", operation_id="list_encoders")
@requires_scope(ANY_SCOPE)
def encoders(service: ServiceDep, asked: PageDep) -> Page[EncoderSummary]:
    """List the encoders by when they were added; the active one classifies, and vectors of all of them are accepted."""
    active, known, dropping = service.encoders.active(), service.encoders.known(), service.encoders.dropping()

    def shown(specs: Sequence[EncoderSpec]) -> list[EncoderSummary]:
        name = active and active.name
        return [EncoderSummary(name=each.name, dimension=each.dimension, active=each.name == name) for each in specs]

    usable = [spec for spec in known.values() if spec.name not in dropping]
    return CURSORS.page(usable, lambda spec: (spec.added_at, spec.name), asked, shown)
