"""Classify: pictures or vectors in, decisions out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.errors import EncoderMismatch
from visual_memory.services.api.authenticate import CallerDep
from visual_memory.services.api.authorize import GuardedRoute, needs
from visual_memory.services.api.picture_uploads import ClassifyRequest, body_of, read_queries

router = APIRouter(prefix="/v1", tags=["classify"], route_class=GuardedRoute)


@router.post("/classify", response_model=Decisions, openapi_extra=body_of(ClassifyRequest, "options", ClassifyOptions))
@needs(Scope.CLASSIFY)
def classify(caller: CallerDep, asked: Annotated[ClassifyRequest, Depends(read_queries)]) -> Response:
    """Let the nearest neighbours vote on each picture or vector, and show who voted.

    A filter by subject or file name needs `read` too.
    """
    service = caller.service
    caller.check_filter(asked.filter)
    options = ClassifyOptions(**asked.model_dump(exclude={"pictures", "urls", "vectors", "encoder"}))
    if asked.encoder not in (None, service.classify.encoder.name):
        raise EncoderMismatch(
            f"the encoder {asked.encoder} was asked for, and {service.classify.encoder.name} classifies: ask that one"
        )
    service.classify.check(options, len(asked.pictures or asked.vectors))
    begun = service.decisions.begin(caller.tenant) if options.store else None
    vectors = (
        service.classify.embed(caller.tenant, asked.pictures)
        if asked.pictures
        else service.classify.unit(asked.vectors)
    )
    whole = options.model_copy(update={"show": None}) if options.store or options.rerank else options
    made = service.classify.decide(caller.tenant, vectors, whole)
    applied, decisions = made.options.model_copy(update={"show": options.show}), made.decisions
    if options.rerank:
        decisions = service.rerank(caller.tenant, caller.key.id, asked.pictures, decisions)
    if begun is not None:
        decisions = service.decisions.store(
            caller.tenant, caller.name, begun, asked.pictures, vectors, made.options, decisions
        )
    shown = [each.model_copy(update={"neighbours": each.neighbours[: options.show]}) for each in decisions]
    # made here, as bytes: FastAPI would check it in another thread, and write it out on the event loop
    return Response(Decisions(options=applied, decisions=shown).model_dump_json(), media_type="application/json")
