"""Evaluations: ask for one, send labelled pictures, follow it, fetch its report."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.services.api.authenticate import NAMING, Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import SEES_CLASSES, GuardedRoute, needs
from visual_memory.services.api.error_responses import content
from visual_memory.services.api.picture_uploads import SentImages, body_of, read_uploads
from visual_memory.services.api.routes.images import PRIVATE
from visual_memory.services.infrastructure.records.database import Within
from visual_memory.services.intake.accept_pictures import Upload

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], route_class=GuardedRoute)

KIND = "evaluation"
"""As the audit log names the id of one."""


@router.post("", status_code=202)
@needs(Scope.CLASSIFY)
def request(
    caller: CallerDep, service: ServiceDep, asked: EvaluationRequest, idempotency_key: IdempotencyKey = None
) -> EvaluationJob:
    """Begin an evaluation: of the memory against itself at once; else it waits for pictures, and to be started.

    A filter by subject or file name needs `read` too.
    """
    caller.check_filter(asked.filter)

    def make(within: Within) -> str:
        may_delete = caller.key.may(Scope.REMOVE)
        return service.request_evaluation.request(caller.tenant, asked, caller.name, within, may_delete=may_delete).id

    made = caller.make("evaluations.request", KIND, idempotency_key, asked.model_dump_json(), make)
    return _shown(caller, service.evaluations.load(caller.tenant, made))


@router.post("/{evaluation_id}/pictures", status_code=202, openapi_extra=body_of(SentImages, "fields", ImageFields))
@needs(Scope.CLASSIFY)
def add(
    caller: CallerDep, service: ServiceDep, evaluation_id: str, uploads: Annotated[list[Upload], Depends(read_uploads)]
) -> EvaluationJob:
    """Send pictures to ask about, all or none; they are not remembered. Of their fields, labels and id count."""
    with caller.recorded_action("evaluations.add", images=len(uploads), evaluation=evaluation_id):
        return _shown(caller, service.request_evaluation.add(caller.tenant, evaluation_id, uploads))


@router.post("/{evaluation_id}/start", status_code=202)
@needs(Scope.CLASSIFY)
def start(
    caller: CallerDep, service: ServiceDep, evaluation_id: str, idempotency_key: IdempotencyKey = None
) -> EvaluationJob:
    """Let a worker do it, now that all pictures are there."""

    def make(within: Within) -> str:
        return service.request_evaluation.start(caller.tenant, evaluation_id, within).id

    made = caller.make("evaluations.start", KIND, idempotency_key, evaluation_id, make)
    return _shown(caller, service.evaluations.load(caller.tenant, made))


@router.get("")
@needs(SEES_CLASSES)
def evaluations(caller: CallerDep, service: ServiceDep) -> list[EvaluationJob]:
    """The latest evaluations, the latest first; a removal deletes them all."""
    return [_shown(caller, each) for each in service.evaluations.all(caller.tenant)]


@router.get("/{evaluation_id}")
@needs(SEES_CLASSES)
def evaluation(caller: CallerDep, service: ServiceDep, evaluation_id: str) -> EvaluationJob:
    """How far an evaluation is; its main figures, once it is done."""
    return _shown(caller, service.evaluations.load(caller.tenant, evaluation_id))


@router.get("/{evaluation_id}/report", response_class=Response, responses=content("application/zip"))
@needs(SEES_CLASSES)
def report(caller: CallerDep, service: ServiceDep, evaluation_id: str) -> Response:
    """The folder of the report as a zip file; ``report.html`` in it is what to look at."""
    data = service.evaluations.report(caller.tenant, evaluation_id)
    return Response(data, media_type="application/zip", headers=PRIVATE)


@router.delete("/{evaluation_id}")
@needs(Scope.REMOVE)
def delete(caller: CallerDep, service: ServiceDep, evaluation_id: str) -> EvaluationJob:
    """Delete an evaluation with its report; a worker that is at it stops. Answers with what it was."""
    found = service.evaluations.load(caller.tenant, evaluation_id)
    service.evaluations.delete(caller.tenant, evaluation_id, caller.logged("evaluations.delete", KIND))
    return _shown(caller, found)


def _shown(caller: Caller, found: EvaluationJob) -> EvaluationJob:
    """An evaluation; to whom may not `read`, without what its filter says of subjects and file names."""
    asked = found.request
    if caller.key.may(Scope.READ) or NAMING.isdisjoint(asked.filter.root):
        return found
    shown = {field: condition for field, condition in asked.filter.root.items() if field not in NAMING}
    return found.model_copy(update={"request": asked.model_copy(update={"filter": Filter(shown)})})
