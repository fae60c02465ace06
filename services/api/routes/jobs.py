"""List, follow and cancel background jobs of every kind."""

from typing import Annotated

from fastapi import APIRouter, Query

from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.schemas.page import Page
from visual_memory.services.api.authenticate import Caller, CallerDep, ServiceDep
from visual_memory.services.api.authorize import AuthorizedRoute, requires_scope
from visual_memory.services.api.job_access import ANY_FOLLOWER, check_may_cancel, check_visible, visible_kinds
from visual_memory.services.api.page_parameters import PageDep
from visual_memory.services.api.path_parameters import JobIdParameter
from visual_memory.services.bootstrap.api_process import ApiProcess

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=AuthorizedRoute)


@router.get("", operation_id="list_jobs", summary="List jobs")
@requires_scope(ANY_FOLLOWER)
def jobs(
    caller: CallerDep,
    service: ServiceDep,
    asked: PageDep,
    kind: Annotated[JobKind | None, Query(description="only jobs of this kind", examples=["evaluation"])] = None,
    state: Annotated[JobState | None, Query(description="only jobs in this state", examples=["running"])] = None,
) -> Page[Job]:
    """List the jobs that the key sees, the latest first; of each kind the latest 20 that have ended are kept.

    Judgements are shown to keys with the scope `remember`, `classify` or `read`, evaluations with `classify` or `read`,
    counterfactuals and influences with `read`.
    """
    kinds = [each for each in visible_kinds(caller.key) if kind in (None, each)]
    states = [*JobState] if state is None else [state]
    return service.jobs.page(caller.tenant, kinds, states, asked)


@router.get("/{job_id}", operation_id="get_job", summary="Show a job")
@requires_scope(ANY_FOLLOWER)
def job(caller: CallerDep, service: ServiceDep, job_id: JobIdParameter) -> JobWithResult:
    """Return the progress of a job and, once it is done, its result or the route of it."""
    found = service.jobs.load(caller.tenant, job_id)
    check_visible(caller.key, found)
    return _with_result(service, caller, found)


@router.post("/{job_id}/cancel", operation_id="cancel_job", summary="Cancel a job")
@requires_scope(ANY_FOLLOWER)
def cancel(caller: CallerDep, service: ServiceDep, job_id: JobIdParameter) -> JobWithResult:
    """Cancel a job: a waiting one never begins, a running one stops at its next progress report.

    What a cancelled evaluation collected is deleted. A job that has ended is refused; one that was cancelled already is
    returned as it is. It needs the scope that starts such a job; for an evaluation of another key, `remove`.
    """
    found = service.jobs.load(caller.tenant, job_id)
    check_visible(caller.key, found)
    check_may_cancel(caller.key, caller.name, found)
    service.cancel_job(caller.tenant, found, caller.name, caller.audit_entry("jobs.cancel", "job"))
    return _with_result(service, caller, service.jobs.load(caller.tenant, job_id))


def _with_result(service: ApiProcess, caller: Caller, found: Job) -> JobWithResult:
    """Add the request and the result to a job."""
    match found.kind:
        case JobKind.COUNTERFACTUAL | JobKind.INFLUENCE:
            return service.explanation_jobs.load(caller.tenant, found.id)
        case JobKind.EVALUATION:
            summary = service.evaluations.load(caller.tenant, found.id).summary
            url = f"/v1/evaluations/{found.id}/report" if summary else None
            return JobWithResult(**dict(found), result=summary, result_url=url)
        case JobKind.JUDGEMENT:
            url = "/v1/judgement" if found.state is JobState.DONE else None
            return JobWithResult(**dict(found), result_url=url)
