"""Create evaluations, add labelled pictures, follow them, and fetch their reports."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import IDENTIFYING_FIELDS, Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import CLASSIFY_OR_READ, AuthorizedRoute, requires_scope
from visual_memory.services.api.error_responses import binary_content
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import EvaluationIdParameter
from visual_memory.services.api.picture_uploads import SentImages, body_schema, read_uploads
from visual_memory.services.api.response_headers import describe_headers, set_job_location, set_location
from visual_memory.services.api.routes.images import NO_STORE_HEADERS
from visual_memory.services.infrastructure.records.database import Within
from visual_memory.services.intake.accept_pictures import Upload

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], route_class=AuthorizedRoute)

KIND = "evaluation"
"""Field of the audit log for the id."""


@router.post(
    "",
    operation_id="create_evaluation",
    summary="Create an evaluation",
    status_code=201,
    responses=describe_headers(201, "The evaluation; it has started if it is of the memory against itself"),
)
@requires_scope(Scope.CLASSIFY)
def request(
    caller: CallerDep,
    service: ServiceDep,
    request: EvaluationRequest,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> EvaluationJob:
    """Create an evaluation. One of the memory against itself starts at once; others wait for pictures and a start.

    A filter by subject or file name needs `read` too.
    """
    caller.check_filter(request.filter)

    def create(within: Within) -> str:
        may_delete = caller.key.may(Scope.REMOVE)
        return service.request_evaluation.request(caller.tenant, request, caller.name, within, may_delete=may_delete).id

    created = caller.create_once("evaluations.request", KIND, idempotency_key, request.model_dump_json(), create)
    set_location(response, f"/v1/evaluations/{created}")
    return _redacted(caller, service.evaluations.load(caller.tenant, created))


@router.post(
    "/{evaluation_id}/pictures",
    operation_id="add_evaluation_pictures",
    status_code=202,
    openapi_extra=body_schema(SentImages, "fields", ImageFields),
)
@requires_scope(Scope.CLASSIFY)
def add(
    caller: CallerDep,
    service: ServiceDep,
    evaluation_id: EvaluationIdParameter,
    uploads: Annotated[list[Upload], Depends(read_uploads)],
) -> EvaluationJob:
    """Add pictures as queries, all or none; they are not remembered. Only their labels and ids are used."""
    with caller.recorded_action("evaluations.add", images=len(uploads), evaluation=evaluation_id):
        return _redacted(caller, service.request_evaluation.add(caller.tenant, evaluation_id, uploads))


@router.post(
    "/{evaluation_id}/start",
    operation_id="start_evaluation",
    summary="Start an evaluation",
    status_code=202,
    responses=describe_headers(202, "The evaluation; `Location` names its job", retry_after=True),
)
@requires_scope(Scope.CLASSIFY)
def start(
    caller: CallerDep,
    service: ServiceDep,
    evaluation_id: EvaluationIdParameter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> EvaluationJob:
    """Start the evaluation, once all pictures are sent."""

    def create(within: Within) -> str:
        return service.request_evaluation.start(caller.tenant, evaluation_id, within).id

    created = caller.create_once("evaluations.start", KIND, idempotency_key, evaluation_id, create)
    evaluation = service.evaluations.load(caller.tenant, created)
    set_job_location(response, evaluation)
    return _redacted(caller, evaluation)


@router.get("", operation_id="list_evaluations")
@requires_scope(CLASSIFY_OR_READ)
def evaluations(caller: CallerDep, service: ServiceDep, asked: PageDep) -> Page[EvaluationJob]:
    """List the evaluations, the latest first; a removal deletes them all."""
    page = service.evaluations.latest(caller.tenant, asked)
    return page.model_copy(update={"data": [_redacted(caller, each) for each in page.data]})


@router.get("/{evaluation_id}", operation_id="get_evaluation")
@requires_scope(CLASSIFY_OR_READ)
def evaluation(caller: CallerDep, service: ServiceDep, evaluation_id: EvaluationIdParameter) -> EvaluationJob:
    """Return the progress of an evaluation, and its main figures once it is done."""
    return _redacted(caller, service.evaluations.load(caller.tenant, evaluation_id))


@router.get(
    "/{evaluation_id}/report",
    operation_id="get_evaluation_report",
    response_class=Response,
    responses=binary_content("application/zip"),
)
@requires_scope(CLASSIFY_OR_READ)
def report(caller: CallerDep, service: ServiceDep, evaluation_id: EvaluationIdParameter) -> Response:
    """Return the report as a zip file; open ``report.html`` in it."""
    data = service.evaluations.report(caller.tenant, evaluation_id)
    return Response(data, media_type="application/zip", headers=NO_STORE_HEADERS)


@router.delete("/{evaluation_id}", operation_id="delete_evaluation")
@requires_scope(Scope.REMOVE)
def delete(caller: CallerDep, service: ServiceDep, evaluation_id: EvaluationIdParameter) -> EvaluationJob:
    """Delete an evaluation with its report, and return it; a worker that runs it stops.

    `POST /v1/jobs/{id}/cancel` stops it too, and keeps its record.
    """
    found = service.evaluations.load(caller.tenant, evaluation_id)
    service.evaluations.delete(caller.tenant, evaluation_id, caller.audit_entry("evaluations.delete", KIND))
    return _redacted(caller, found)


def _redacted(caller: Caller, found: EvaluationJob) -> EvaluationJob:
    """Return an evaluation; without the scope `read`, its filter hides subjects and file names."""
    request = found.request
    if caller.key.may(Scope.READ) or IDENTIFYING_FIELDS.isdisjoint(request.filter.root):
        return found
    visible = {field: condition for field, condition in request.filter.root.items() if field not in IDENTIFYING_FIELDS}
    return found.model_copy(update={"request": request.model_copy(update={"filter": Filter(visible)})})
