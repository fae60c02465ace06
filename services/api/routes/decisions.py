"""Stored decisions: look at them, run them again, ask what they hang on."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.explanation import (
    MAX_LAST,
    Counterfactual,
    ExplanationJob,
    Influence,
    Preview,
    PreviewRequest,
    Replay,
    ReplayRequest,
)
from visual_memory.schemas.stored_decision import DecisionSummary, StoredDecision
from visual_memory.schemas.text_rules import Label
from visual_memory.services.api.authenticate import Caller, CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import GuardedRoute, needs
from visual_memory.services.decisions.explanations.explanation_budget import AT_ONCE, OverBudget
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationRequest
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["decisions"], route_class=GuardedRoute)

LATER: dict[int | str, dict[str, Any]] = {
    202: {"model": ExplanationJob, "description": "It takes longer than an answer may: the job that finds it"}
}
Last = Annotated[int, Query(ge=1, le=MAX_LAST)]


@router.get("/decisions")
@needs(Scope.READ)
def decisions(
    caller: CallerDep, service: ServiceDep, limit: Last = 100, label: Label | None = None
) -> list[DecisionSummary]:
    """The stored decisions, the latest first; of one label, if it is named."""
    return service.decisions.summaries(caller.tenant, limit, label)


@router.post("/decisions/preview")
@needs(Scope.READ)
def preview(caller: CallerDep, service: ServiceDep, request: PreviewRequest) -> Preview:
    """Which of the latest decisions would have another label if images were muted, relabelled or removed."""
    if request.filter is not None:
        caller.log_named(request.filter)
    return service.explain.preview(caller.tenant, request)


@router.get("/decisions/{decision_id}")
@needs(Scope.READ)
def decision(caller: CallerDep, service: ServiceDep, decision_id: str) -> StoredDecision:
    """A decision with all that it was made of."""
    found = service.decisions.load(caller.tenant, decision_id)
    caller.log_named(found.options.filter)
    return found


@router.delete("/decisions/{decision_id}", status_code=204)
@needs(Scope.REMOVE)
def delete(caller: CallerDep, service: ServiceDep, decision_id: str) -> None:
    """Delete a decision for good."""
    service.decisions.load(caller.tenant, decision_id)
    service.decisions.delete(caller.tenant, decision_id, caller.logged("decisions.delete", "decision"))


@router.post("/decisions/{decision_id}/replay")
@needs(Scope.READ)
def replay(caller: CallerDep, service: ServiceDep, decision_id: str, request: ReplayRequest) -> Replay:
    """Run a decision against today's memory, without some images or with other options, and compare."""
    replayed = service.explain.replay(caller.tenant, decision_id, request)
    caller.log_named(replayed.options.filter)
    return replayed


@router.post("/decisions/{decision_id}/counterfactual", responses=LATER)
@needs(Scope.READ)
def counterfactual(
    caller: CallerDep,
    service: ServiceDep,
    decision_id: str,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Counterfactual | ExplanationJob:
    """The fewest images without which a decision, made again today, would have another label; maybe as a job."""
    try:
        return service.explain.counterfactual(caller.tenant, decision_id, AT_ONCE)
    except OverBudget:
        response.status_code = 202
        return _as_job(caller, JobKind.COUNTERFACTUAL, ExplanationRequest(decision=decision_id), idempotency_key)


@router.post("/influence", responses=LATER)
@needs(Scope.READ)
def influence(
    caller: CallerDep,
    service: ServiceDep,
    response: Response,
    last: Last = MAX_LAST,
    idempotency_key: IdempotencyKey = None,
) -> Influence | ExplanationJob:
    """Which images decide most of the latest stored decisions; a job where there is much to read."""
    try:
        return service.explain.influence(caller.tenant, last, AT_ONCE)
    except OverBudget:
        response.status_code = 202
        return _as_job(caller, JobKind.INFLUENCE, ExplanationRequest(last=last), idempotency_key)


@router.get("/jobs/{job_id}")
@needs(Scope.READ)
def job(caller: CallerDep, service: ServiceDep, job_id: str) -> ExplanationJob:
    """How far a job is; of a counterfactual or influence, with what was found once it is done."""
    return service.explanation_jobs.load(caller.tenant, job_id)


def _as_job(caller: Caller, kind: JobKind, request: ExplanationRequest, idempotency_key: str | None) -> ExplanationJob:
    service = caller.service

    def make(within: Within) -> str:
        return service.enqueue_explanation(caller.tenant, kind, request, caller.name, within).id

    made = caller.make(kind.value, "job", idempotency_key, request.model_dump_json(), make)
    return service.explanation_jobs.load(caller.tenant, made)
