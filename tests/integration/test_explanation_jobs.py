"""Counterfactuals and influences that take too long for an answer are jobs; a removal takes what they find away."""

from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import select

from tests.support.shape_pictures import picture
from tests.support.wired_service import NEVER, Parts
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import Conflict, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.job_with_result import JobWithResult
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.decisions.explanations.explanation_budget import AS_A_JOB, AT_ONCE, OverBudget
from visual_memory.services.decisions.explanations.explanation_jobs import (
    KEPT,
    EnqueueExplanation,
    ExplanationJobs,
    ExplanationRequest,
    RunExplanation,
)
from visual_memory.services.infrastructure.records.tables import questions
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs


class Workers:
    """Does jobs as they are enqueued, or when it is told to."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.jobs = parts, Jobs(parts.database)
        self.explanations = ExplanationJobs(self.jobs)
        self.waiting: list[str] = []
        self.later = EnqueueExplanation(self.explanations, self.waiting.append)

    def ask(self, kind: JobKind, **asked: Any) -> JobWithResult:
        return self.later(self.parts.tenant, kind, ExplanationRequest(**asked), "a test")

    def do(self, explain: object = None) -> None:
        answer = RunExplanation(self.explanations, cast(Explain, explain or self.parts.explain()))
        kinds = {JobKind.COUNTERFACTUAL: answer, JobKind.INFLUENCE: answer}
        RunJobs(self.jobs, NEVER, kinds, lambda _tenant: None)(self.waiting.pop(0))

    def load(self, job_id: str) -> JobWithResult:
        return self.explanations.load(self.parts.tenant, job_id)

    def remove(self, **condition: object) -> None:
        request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
        forget = replace(self.parts.forget(), hooks=(self.explanations.remove_covered,))
        self.parts.remove(request, forget)

    def results(self) -> list[str | None]:
        """The stored results of all jobs."""
        with self.parts.database.read() as connection:
            return [*connection.execute(select(questions.c.result)).scalars()]


@pytest.fixture
def workers(parts: Parts) -> Workers:
    parts.teach(*(picture("disc") for _ in range(3)), labels=["a"], subject="ann")
    parts.teach(*(picture("disc") for _ in range(2)), labels=["b"])
    return Workers(parts)


def test_what_takes_more_than_its_budget_is_refused_at_once_and_done_by_a_job(workers: Workers) -> None:
    parts, explain = workers.parts, workers.parts.explain()
    [decision] = parts.keep(picture("disc"), k=5, vote="plurality")
    decision_id = str(decision.id)
    plain = explain.counterfactual(parts.tenant, decision_id, AT_ONCE)
    assert plain.images
    for little in (replace(AT_ONCE, images=4), replace(AT_ONCE, cells=10)):
        with pytest.raises(OverBudget):
            explain.counterfactual(parts.tenant, decision_id, little)
    with pytest.raises(OverBudget):
        explain.influence(parts.tenant, 10, replace(AT_ONCE, bytes=100))

    job = workers.ask(JobKind.COUNTERFACTUAL, decision=decision_id)
    assert (job.state, job.decision, job.result) == (JobState.WAITING, decision_id, None)
    workers.do()
    done = workers.load(job.id)
    assert (done.state, done.result) == (JobState.DONE, plain)
    job = workers.ask(JobKind.INFLUENCE, last=10)
    workers.do()
    assert workers.load(job.id).result == explain.influence(parts.tenant, 10, AT_ONCE)


def test_a_job_that_would_take_too_long_says_how_far_it_looked(workers: Workers) -> None:
    parts = workers.parts
    parts.teach(*(picture("disc") for _ in range(40)), labels=["a"])
    [decision] = parts.keep(picture("disc"), k=45, vote="plurality")
    few = replace(AS_A_JOB, cells=10)
    found = parts.explain().counterfactual(parts.tenant, str(decision.id), few)
    assert found.reason == "no 16 images or fewer decide it: it keeps its label"
    assert parts.explain().counterfactual(parts.tenant, str(decision.id)).images


def test_a_removal_takes_away_what_was_found_and_what_is_being_found(workers: Workers) -> None:
    parts = workers.parts
    [decision] = parts.keep(picture("disc"), k=5)
    done = workers.ask(JobKind.INFLUENCE, last=10)
    workers.do()
    assert None not in workers.results()
    running = workers.ask(JobKind.COUNTERFACTUAL, decision=str(decision.id))

    class Interrupted:
        """Finds something, and then a removal comes before it is kept."""

        def counterfactual(self, tenant: str, decision_id: str, **told: Any) -> object:
            found = parts.explain().counterfactual(tenant, decision_id, **told)
            workers.remove(subject="ann")
            return found

    workers.do(Interrupted())
    assert workers.results() == []
    for job in (done, running):
        with pytest.raises(NotFound):
            workers.load(job.id)


def test_few_wait_at_once_and_the_oldest_results_go(workers: Workers) -> None:
    first = workers.ask(JobKind.INFLUENCE, last=1)
    workers.ask(JobKind.INFLUENCE, last=1)
    with pytest.raises(Conflict, match="2 explanations wait"):
        workers.ask(JobKind.COUNTERFACTUAL, decision="x")
    workers.do()
    workers.do()
    for _ in range(20):
        workers.ask(JobKind.INFLUENCE, last=1)
        workers.do()
    with pytest.raises(NotFound):
        workers.load(first.id)
    assert len(workers.results()) == KEPT


def test_a_decision_that_is_gone_fails_the_job_with_a_sentence(workers: Workers) -> None:
    job = workers.ask(JobKind.COUNTERFACTUAL, decision="20260101T000000000000-00000000")
    workers.do()
    failed = workers.load(job.id)
    assert (failed.state, failed.error) == (
        JobState.FAILED,
        "there is no stored decision '20260101T000000000000-00000000'",
    )


def test_what_is_no_explanation_is_not_found(workers: Workers) -> None:
    other = workers.jobs.create(workers.parts.tenant, JobKind.JUDGEMENT, "a test")
    for job_id in (other.id, "../../keys", "x"):
        with pytest.raises(NotFound):
            workers.load(job_id)
