"""Curate: judge the memory by itself, see what deserves a look, act on it."""

from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import Job
from visual_memory.schemas.curation_request import Curated, CurationRequest
from visual_memory.schemas.judgement import JudgementStatus, Suspect, Suspicion
from visual_memory.services.api.authenticate import CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import SEES_CLASSES, GuardedRoute, needs
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["curate"], route_class=GuardedRoute)


@router.post("/judgements", status_code=202)
@needs(Scope.REMEMBER)
def judge(caller: CallerDep, service: ServiceDep, idempotency_key: IdempotencyKey = None) -> Job:
    """Let the workers judge the memory by itself; the job, or the one that runs already."""

    def make(within: Within) -> str:
        return service.judging.start(caller.tenant, caller.name, within).id

    return service.judging.jobs.load(caller.tenant, caller.make("judge", "job", idempotency_key, "", make))


@router.get("/judgement")
@needs(SEES_CLASSES)
def judgement(caller: CallerDep, service: ServiceDep) -> JudgementStatus:
    """The judgement that counts, class by class, and how far the next one is."""
    return service.judging.status(caller.tenant)


@router.get("/suspects")
@needs(Scope.READ)
def suspects(
    caller: CallerDep,
    service: ServiceDep,
    kind: Suspicion | None = None,
    limit: Annotated[int, Query(ge=1, le=3000)] = 100,
) -> list[Suspect]:
    """Images that deserve a look, by kind, the strongest suspicion first; empty where no judgement counts."""
    return service.judging.suspects(caller.tenant, kind, limit)


@router.post("/curations")
@needs(Scope.REMEMBER)
def curate(
    caller: CallerDep, service: ServiceDep, request: CurationRequest, idempotency_key: IdempotencyKey = None
) -> Curated:
    """Mute, unmute or relabel every image that meets a filter; votes follow at once.

    A filter by subject or file name needs `read` too.
    """
    caller.check_filter(request.filter)
    if request.dry_run:
        return service.curate(caller.tenant, request)

    def act() -> str:
        with caller.recorded_action(request.action.value) as said:
            done = service.curate(caller.tenant, request)
            said["images"] = done.images
            return done.model_dump_json()

    return Curated.model_validate_json(caller.once("curate", idempotency_key, request.model_dump_json(), act))
