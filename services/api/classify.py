"""Classify: pictures or vectors in, decisions out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from schemas.decision import ClassifyOptions, Decisions
from schemas.image import now
from schemas.key import Scope
from services.api.answer import as_json
from services.api.caller import CallerDep
from services.api.guard import GuardedRoute, needs
from services.api.uploads import ClassifyRequest, body_of, read_queries
from services.decision.votes import shown

router = APIRouter(prefix="/v1", tags=["classify"], route_class=GuardedRoute)


@router.post("/classify", response_model=Decisions, openapi_extra=body_of(ClassifyRequest, "options", ClassifyOptions))
@needs(Scope.CLASSIFY)
def classify(caller: CallerDep, asked: Annotated[ClassifyRequest, Depends(read_queries)]) -> Response:
    """Let the nearest neighbours vote on each picture or vector, and show who voted."""
    service = caller.service
    options = ClassifyOptions(**asked.model_dump(exclude={"pictures", "urls", "vectors"}))
    whole = options.model_copy(update={"show": None}) if options.store or options.rerank else options
    service.classify.check(options)
    asked_at = now()
    vectors = (
        service.classify.embed(caller.tenant, asked.pictures)
        if asked.pictures
        else service.classify.unit(asked.vectors)
    )
    decisions = service.classify.decide(caller.tenant, vectors, whole)
    decisions = service.rerank(caller.tenant, caller.key.id, asked.pictures, decisions)
    if options.store:
        decisions = service.decisions.store(caller.tenant, caller.name, asked_at, asked.pictures, vectors, decisions)
    return as_json(Decisions(decisions=[shown(each, options.show) for each in decisions]))
