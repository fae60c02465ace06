"""A worker finds what became a job, and the command line follows it."""

from tests.support.running_service import Stack
from tests.support.shape_pictures import picture
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.classify_options import ClassifyOptions
from visual_memory.schemas.explanation import Counterfactual, Influence
from visual_memory.services.cli.commands.decisions import _wait_for_job
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationJobs, ExplanationRequest
from visual_memory.services.infrastructure.task_queue.job_records import Jobs


def test_a_worker_finds_what_the_api_would_have_answered(stack: Stack) -> None:
    stack.remembered(stack.teach(picture("disc"), picture("disc"), labels=["disc"]))
    stack.remembered(stack.teach(picture("disc"), labels=["other"]))
    [decision] = stack.client.classify([picture("disc")], ClassifyOptions(k=3, store=True)).decisions
    explanations = ExplanationJobs(Jobs(stack.database))
    waiting = [  # as the API leaves them where the message to the workers is lost
        explanations.create(stack.tenant, JobKind.COUNTERFACTUAL, ExplanationRequest(decision=decision.id), "a test"),
        explanations.create(stack.tenant, JobKind.INFLUENCE, ExplanationRequest(last=1), "a test"),
    ]
    flip, influence = (_wait_for_job(stack.client, job, quiet=True) for job in waiting)
    assert (flip.state, influence.state) == (JobState.DONE, JobState.DONE)
    assert isinstance(at_once := stack.client.counterfactual(str(decision.id)), Counterfactual)
    assert flip.result == at_once
    assert isinstance(found := stack.client.influence(1), Influence)
    assert influence.result == found
