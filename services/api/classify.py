"""Classify: pictures or vectors in, decisions out."""

from typing import Annotated

from fastapi import APIRouter, Depends

from schemas.decision import ClassifyOptions, Decisions
from schemas.key import Scope
from services.api.caller import CallerDep, ServiceDep
from services.api.guard import GuardedRoute, needs
from services.api.uploads import ClassifyRequest, body_of, read_queries
from services.decision.votes import shown

router = APIRouter(prefix="/v1", tags=["classify"], route_class=GuardedRoute)


@router.post("/classify", openapi_extra=body_of(ClassifyRequest, "options", ClassifyOptions))
@needs(Scope.CLASSIFY)
def classify(
    caller: CallerDep, service: ServiceDep, asked: Annotated[ClassifyRequest, Depends(read_queries)]
) -> Decisions:
    """Let the nearest neighbours vote on each picture or vector, and show who voted."""
    options = ClassifyOptions(**asked.model_dump(exclude={"pictures", "urls", "vectors"}))
    whole = options.model_copy(update={"show": None}) if options.rerank else options  # a model sees more than is shown
    if asked.pictures:
        decisions = service.classify.pictures(caller.tenant, asked.pictures, whole)
    else:
        decisions = service.classify.vectors(caller.tenant, asked.vectors, whole)
    reranked = service.rerank(caller.tenant, caller.key.id, asked.pictures, decisions)
    return Decisions(decisions=[shown(each, options) for each in reranked])
