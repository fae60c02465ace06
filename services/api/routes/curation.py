"""Judge the memory by itself, and list suspects."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from visual_memory.schemas.api_key import Scope
from visual_memory.schemas.background_job import Job
from visual_memory.schemas.judgement import JudgementStatus, Suspect, Suspicion
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import CallerDep, IdempotencyKey, ServiceDep
from visual_memory.services.api.authorize import CLASSIFY_OR_READ, AuthorizedRoute, requires_scope
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.response_headers import describe_headers, set_job_location
from visual_memory.services.infrastructure.records.database import Within

router = APIRouter(prefix="/v1", tags=["curation"], route_class=AuthorizedRoute)


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


@router.get("/judgement", operation_id="get_judgement")
@requires_scope(CLASSIFY_OR_READ)
def judgement(caller: CallerDep, service: ServiceDep) -> JudgementStatus:
    """Return the current judgement, by class, and the progress of the next one."""
    return service.report_judgement.status(caller.tenant)


@router.get("/suspects", operation_id="list_suspects")
@requires_scope(Scope.READ)
def suspects(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    kind: Annotated[Suspicion | None, Query(description="only suspects of this kind", examples=["label"])] = None,
) -> Page[Suspect]:
    """List suspects by kind, the strongest first; empty if there is no current judgement."""
    return service.list_suspects(caller.tenant, asked, kind)
