"""Judge the memory by itself, list suspects, and mute, unmute or relabel images."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import Job
from visual_memory.schemas.curation_request import Curated, CurationRequest
from visual_memory.schemas.errors import NotJudged
from visual_memory.schemas.judgement import JudgementStatus, Suspect, Suspicion
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import CLASSIFY_OR_READ, AuthorizedRoute, requires_scope
from visual_memory.services.api.listed_errors import may_raise
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.response_headers import describe_headers, set_job_location
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["curate"], route_class=AuthorizedRoute)


@router.post(
    "/judgements",
    operation_id="start_judgement",
    summary="Judge the memory",
    status_code=202,
    responses=describe_headers(202, "The job that judges the memory", retry_after=True),
)
@requires_scope(Scope.REMEMBER)
def judge(caller: CallerDep, service: ServiceDep, response: Response, idempotency_key: IdempotencyKey = None) -> Job:
    """Start a job that judges the memory by itself; return it, or the one that is running already."""

    def create(within: Within) -> str:
        return service.schedule_judgements.start(caller.tenant, caller.name, within).id

    job = service.jobs.load(caller.tenant, caller.create_once("judge", "job", idempotency_key, "", create))
    set_job_location(response, job)
    return job


@router.get("/judgement")
@requires_scope(CLASSIFY_OR_READ)
def judgement(caller: CallerDep, service: ServiceDep) -> JudgementStatus:
    """Return the current judgement, by class, and the progress of the next one."""
    return service.report_judgement.status(caller.tenant)


@router.get("/suspects")
@requires_scope(Scope.READ)
def suspects(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    kind: Annotated[Suspicion | None, Query(description="only suspects of this kind", examples=["label"])] = None,
) -> Page[Suspect]:
    """List suspects by kind, the strongest first; empty if there is no current judgement."""
    return service.list_suspects(caller.tenant, asked, kind)


@router.post("/curations")
@may_raise(NotJudged)
@requires_scope(Scope.REMEMBER)
def curate(
    caller: CallerDep, service: ServiceDep, request: CurationRequest, idempotency_key: IdempotencyKey = None
) -> Curated:
    """Mute, unmute or relabel every image that meets a filter; votes change at once.

    A filter by subject or file name needs `read` too.
    """
    caller.check_filter(request.filter)
    if request.dry_run:
        return service.curate(caller.tenant, request)

    def act() -> str:
        with caller.recorded_action(request.action.value) as fields:
            curated = service.curate(caller.tenant, request)
            fields["images"] = curated.images
            return curated.model_dump_json()

    return Curated.model_validate_json(caller.run_once("curate", idempotency_key, request.model_dump_json(), act))
