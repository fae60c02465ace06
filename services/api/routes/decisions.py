"""Show, replay, explain and delete stored decisions."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.explanation import (
    MAX_LAST,
    Counterfactual,
    DecisionPreview,
    DecisionPreviewRequest,
    Influence,
    Replay,
    ReplayRequest,
)
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.schemas.page import Page
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision
from visual_memory.schemas.text_rules import Label
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import DecisionIdParameter
from visual_memory.services.api.response_headers import describe_headers, set_job_location
from visual_memory.services.decisions.explanations.explanation_budget import AT_ONCE, OverBudget
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationRequest
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["decisions"], route_class=AuthorizedRoute)

ACCEPTED_AS_JOB = describe_headers(
    202, "It takes too long for one request: the job that computes it", retry_after=True, model=JobWithResult
)
Last = Annotated[
    int, Query(ge=1, le=MAX_LAST, description="how many of the latest stored decisions are read", examples=[1000])
]


@router.get("/decisions", operation_id="list_decisions")
@requires_scope(Scope.READ)
def decisions(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    label: Annotated[Label | None, Query(description="only decisions for this label", examples=["cat"])] = None,
) -> Page[DecisionSummary]:
    """List the stored decisions, the latest first; optionally of one label."""
    return service.decisions.summaries(caller.tenant, asked, label)


@router.post("/decisions/preview", operation_id="preview_decisions")
@requires_scope(Scope.READ)
def preview(caller: CallerDep, service: ServiceDep, request: DecisionPreviewRequest) -> DecisionPreview:
    """Return which of the latest decisions would change if images were muted, relabelled or removed."""
    if request.filter is not None:
        caller.log_subjects(request.filter)
    return service.explain.preview(caller.tenant, request)


@router.get("/decisions/{decision_id}", operation_id="get_decision")
@requires_scope(Scope.READ)
def decision(caller: CallerDep, service: ServiceDep, decision_id: DecisionIdParameter) -> StoredDecision:
    """Return a decision with its options and neighbours."""
    found = service.decisions.load(caller.tenant, decision_id)
    caller.log_subjects(found.options.filter)
    return found


@router.delete("/decisions/{decision_id}", operation_id="delete_decision", status_code=204)
@requires_scope(Scope.REMOVE)
def delete(caller: CallerDep, service: ServiceDep, decision_id: DecisionIdParameter) -> None:
    """Delete a decision for good."""
    service.decisions.load(caller.tenant, decision_id)
    service.decisions.delete(caller.tenant, decision_id, caller.audit_entry("decisions.delete", "decision"))


@router.post("/decisions/{decision_id}/replay", operation_id="replay_decision")
@requires_scope(Scope.READ)
def replay(caller: CallerDep, service: ServiceDep, decision_id: DecisionIdParameter, request: ReplayRequest) -> Replay:
    """Repeat a decision on the current memory, without some images or with other options, and compare."""
    replayed = service.explain.replay(caller.tenant, decision_id, request)
    caller.log_subjects(replayed.options.filter)
    return replayed


@router.post("/decisions/{decision_id}/counterfactual", operation_id="find_counterfactual", responses=ACCEPTED_AS_JOB)
@requires_scope(Scope.READ)
def counterfactual(
    caller: CallerDep,
    service: ServiceDep,
    decision_id: DecisionIdParameter,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Counterfactual | JobWithResult:
    """Return the fewest images whose removal would change the label of a decision today; a job if that takes long."""
    try:
        return service.explain.counterfactual(caller.tenant, decision_id, AT_ONCE)
    except OverBudget:
        request = ExplanationRequest(decision=decision_id)
        return _start_job(caller, JobKind.COUNTERFACTUAL, request, idempotency_key, response)


@router.post("/influence", operation_id="compute_influence", responses=ACCEPTED_AS_JOB)
@requires_scope(Scope.READ)
def influence(
    caller: CallerDep,
    service: ServiceDep,
    response: Response,
    last: Last = MAX_LAST,
    idempotency_key: IdempotencyKey = None,
) -> Influence | JobWithResult:
    """Return the images with the most influence on the latest stored decisions; a job if that takes long."""
    try:
        return service.explain.influence(caller.tenant, last, AT_ONCE)
    except OverBudget:
        return _start_job(caller, JobKind.INFLUENCE, ExplanationRequest(last=last), idempotency_key, response)


def _start_job(
    caller: Caller, kind: JobKind, request: ExplanationRequest, idempotency_key: str | None, response: Response
) -> JobWithResult:
    service = caller.service

    def create(within: Within) -> str:
        return service.enqueue_explanation(caller.tenant, kind, request, caller.name, within).id

    job_id = caller.create_once(kind.value, "job", idempotency_key, request.model_dump_json(), create)
    job = service.explanation_jobs.load(caller.tenant, job_id)
    response.status_code = 202
    set_job_location(response, job)
    return job
