"""Jobs have a queue and a process of their own: they hold up no picture, and one that cannot be read no job."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import pytest
from sqlalchemy import update

from tests.support.running_service import ENCODER, Stack, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import Conflict
from visual_memory.schemas.image import ImageFields
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.records.tables import jobs
from visual_memory.services.infrastructure.task_queue.job_records import Jobs

TENANTS = 30
NUMBERS = 1280


@contextmanager
def tenants(stack: Stack, number: int) -> Iterator[list[Client]]:
    """Tenants that have a few vectors each."""
    vectors = np.eye(4, NUMBERS, dtype=np.float32)
    fields = [ImageFields(labels=[label], image_id=f"{label}-{place}") for label in "xy" for place in range(2)]
    with ExitStack() as opened:
        clients = [opened.enter_context(Client(stack.url, stack.new_key(unique("judged")))) for _ in range(number)]
        for client in clients:
            client.add_vectors(ENCODER, vectors, fields)
        yield clients


def is_judged(client: Client) -> bool:
    status = client.judgement()
    assert status.job is not None
    assert status.job.error is None
    return status.job.state is JobState.DONE and status.current is not None


def test_jobs_of_many_tenants_hold_up_no_picture(stack: Stack) -> None:
    with tenants(stack, TENANTS) as clients:
        with suspended(stack.child("jobs")):
            for client in clients:
                client.judge()
            stack.remembered(stack.teach(picture("disc"), labels=["disc"], source=unique("beside")))
            assert {client.judgement().job.state for client in clients} == {JobState.WAITING}  # type: ignore[union-attr]
        until(lambda: all(map(is_judged, clients)), "each of them to be judged")


def test_a_job_of_a_newer_version_holds_up_no_job(stack: Stack) -> None:
    passed_over = partial(stack.metric, "visual_memory_passed_over_total", reason="unknown kind")
    before, newer = passed_over(), Jobs(stack.database).create(unique("newer"), JobKind.JUDGEMENT, "ann").id
    with stack.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == newer).values(kind="of a newer version"))
    with tenants(stack, 1) as [client]:
        client.judge()
        until(lambda: is_judged(client), "it to be judged")
    until(lambda: passed_over() > before, "the sweep to count what is of an unknown kind")
    log = (stack.data / "logs" / "worker.log").read_text()
    assert f"the job {newer} is passed over: unknown kind (a newer version wrote it)" in log


def test_a_job_whose_worker_or_message_was_lost_is_done_all_the_same(victim: Stack) -> None:
    with tenants(victim, 2) as [first, second]:
        process = victim.child("jobs")
        with suspended(process):
            first.judge()
            process.kill()
        second.judge()
        victim.child("redis").kill()
        until(lambda: is_judged(first) and is_judged(second), "both to be judged")
        assert victim.child("jobs").pid != process.pid


def test_a_job_from_the_future_is_done(stack: Stack) -> None:
    """A worker whose clock was ahead said that it works on it, and died; the clock was set right."""
    with tenants(stack, 1) as [client]:
        with suspended(stack.child("jobs")):
            job = client.judge()
            later = {"state": JobState.RUNNING, "touched_at": job.requested_at.replace(year=2099)}
            with stack.database.write() as connection:
                connection.execute(update(jobs).where(jobs.c.id == job.id).values(later))
        until(lambda: is_judged(client), "it to be judged")


def test_a_cancelled_job_is_not_begun_and_the_next_one_is(stack: Stack) -> None:
    with tenants(stack, 1) as [client]:
        with suspended(stack.child("jobs")):
            job = client.judge()
            assert [each.id for each in client.jobs(JobKind.JUDGEMENT, JobState.WAITING).data] == [job.id]
            assert client.cancel_job(job.id).state is JobState.CANCELLED
            following = client.judge()
            assert following.id != job.id
        until(lambda: is_judged(client), "the next one to be done")
        assert client.job(job.id).state is JobState.CANCELLED
        assert client.job(following.id).result_url == "/v1/judgement"
        with pytest.raises(Conflict):
            client.cancel_job(following.id)
