"""Stored decisions: look at them, run them again, ask what they hang on."""

from typing import Annotated

from fastapi import APIRouter, Query

from schemas.image import Label
from schemas.key import Scope
from schemas.question import (
    MAX_LAST,
    Counterfactual,
    DecisionSummary,
    Influence,
    Preview,
    PreviewRequest,
    Replay,
    ReplayRequest,
    StoredDecision,
)
from services.api.caller import CallerDep, ServiceDep
from services.api.guard import GuardedRoute, needs

router = APIRouter(prefix="/v1", tags=["decisions"], route_class=GuardedRoute)

Last = Annotated[int, Query(ge=1, le=MAX_LAST)]


@router.get("/decisions")
@needs(Scope.CLASSIFY)
def decisions(
    caller: CallerDep, service: ServiceDep, limit: Last = 100, label: Label | None = None
) -> list[DecisionSummary]:
    """The stored decisions, the latest first; of one label, if it is named."""
    return [_summary(each) for each in service.decisions.latest(caller.tenant, limit, label)]


@router.post("/decisions/preview")
@needs(Scope.CLASSIFY)
def preview(caller: CallerDep, service: ServiceDep, request: PreviewRequest) -> Preview:
    """Which of the latest decisions would have another label if images were muted, relabelled or removed."""
    return service.question.preview(caller.tenant, request)


@router.get("/decisions/{decision_id}")
@needs(Scope.CLASSIFY)
def decision(caller: CallerDep, service: ServiceDep, decision_id: str) -> StoredDecision:
    """A decision with all that it was made of."""
    return service.decisions.load(caller.tenant, decision_id)


@router.delete("/decisions/{decision_id}", status_code=204)
@needs(Scope.REMOVE)
def delete(caller: CallerDep, service: ServiceDep, decision_id: str) -> None:
    """Delete a decision for good."""
    service.decisions.load(caller.tenant, decision_id)
    with caller.deed("decisions.delete", decision=decision_id):
        service.decisions.delete(caller.tenant, decision_id)


@router.post("/decisions/{decision_id}/replay")
@needs(Scope.CLASSIFY)
def replay(caller: CallerDep, service: ServiceDep, decision_id: str, request: ReplayRequest) -> Replay:
    """Run a decision against today's memory, without some images or with other options, and compare."""
    return service.question.replay(caller.tenant, decision_id, request)


@router.get("/decisions/{decision_id}/counterfactual")
@needs(Scope.CLASSIFY)
def counterfactual(caller: CallerDep, service: ServiceDep, decision_id: str) -> Counterfactual:
    """The fewest images without which a decision, made again today, would have another label."""
    return service.question.counterfactual(caller.tenant, decision_id)


@router.get("/influence")
@needs(Scope.CLASSIFY)
def influence(caller: CallerDep, service: ServiceDep, last: Last = MAX_LAST) -> Influence:
    """Which images decide most of the latest stored decisions."""
    return service.question.influence(caller.tenant, last)


def _summary(stored: StoredDecision) -> DecisionSummary:
    decision = stored.decision
    return DecisionSummary(
        id=stored.id,
        asked_at=stored.asked_at,
        asked_by=stored.asked_by,
        label=decision.label,
        margin=decision.margin,
        voters=decision.voters,
        scrubbed=stored.scrubbed,
    )
