"""Classify pictures or vectors."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.decision import Decisions
from visual_memory.schemas.errors import EncoderMismatch, InvalidFilter, InvalidVector, NotJudged
from visual_memory.services.api.authenticate import CallerDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.listed_errors import may_raise
from visual_memory.services.api.picture_uploads import ClassifyRequest, body_schema, read_queries
from visual_memory.services.decisions.classify_and_store import classify_and_store

router = APIRouter(prefix="/v1", tags=["classify"], route_class=AuthorizedRoute)


@router.post(
    "/classify",
    operation_id="classify",
    response_model=Decisions,
    openapi_extra=body_schema(ClassifyRequest, "options", ClassifyOptions),
)
@may_raise(EncoderMismatch, InvalidFilter, InvalidVector, NotJudged)
@requires_scope(Scope.CLASSIFY)
def classify(caller: CallerDep, request: Annotated[ClassifyRequest, Depends(read_queries)]) -> Response:
    """Classify each picture or vector by a vote of its nearest neighbours, and return both.

    A filter by subject or file name needs `read` too.
    """
    service = caller.service
    caller.check_filter(request.filter)
    options = ClassifyOptions(**request.model_dump(exclude={"pictures", "urls", "vectors", "encoder"}))
    if request.encoder not in (None, service.classify.encoder.name):
        raise EncoderMismatch(
            f"the request names the encoder {request.encoder}, but {service.classify.encoder.name} is active"
        )
    rerank = partial(service.rerank, caller.tenant, caller.key.id, request.pictures) if options.rerank else None
    decisions = classify_and_store(
        service.classify,
        service.decisions,
        caller.tenant,
        caller.name,
        options,
        pictures=request.pictures,
        vectors=request.vectors,
        rerank=rerank,
    )
    # rendered here: FastAPI would validate it in another thread, and render it on the event loop
    return Response(decisions.model_dump_json(), media_type="application/json")
