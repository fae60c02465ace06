"""A worker does a job once, begins anew what another left behind, and stops when nobody wants it any more."""

from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from schemas.errors import InvalidRequest, NotFound, Unavailable
from schemas.image import now
from schemas.job import Job, JobKind, JobState
from services.memory.ledger import Ledger
from services.runtime.jobs import Jobs, Progress, RunJobs, SweepJobs
from tests.contract.support import quick_folder
from tests.stack import until

LEASE = timedelta(hours=1)
KIND = JobKind.EVALUATION


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        yield made


@pytest.fixture
def jobs(folder: Path) -> Jobs:
    return Jobs(Ledger(folder))


def run(jobs: Jobs, work: Callable[[Progress], object], lease: timedelta = LEASE) -> RunJobs:
    def do(_tenant: str, _job: Job, progress: Progress) -> None:
        work(progress)

    return RunJobs(jobs, lease, {KIND: do}, lambda _tenant: None)


def test_it_is_done_once_and_says_how_far_it_is(jobs: Jobs) -> None:
    job, seen = jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        progress("counted", 3, 7)
        seen.append(jobs.load("a", job.id))

    runner = run(jobs, work)
    runner("a")
    runner("a")
    assert [(each.state, each.stage, each.done, each.total) for each in seen] == [(JobState.RUNNING, "counted", 3, 7)]
    assert jobs.load("a", job.id).state is JobState.DONE


def test_one_in_other_hands_is_left_alone_until_they_are_gone(jobs: Jobs) -> None:
    jobs.create("a", KIND, "ann")
    begun: list[int] = []

    def work(_progress: Progress) -> None:
        begun.append(1)
        raise Unavailable("the store is silent")

    for _ in range(2):
        with pytest.raises(Unavailable):
            run(jobs, work, timedelta(0))("a")
    run(jobs, work)("a")
    assert len(begun) == 2
    assert jobs.overdue(LEASE) == set()
    assert jobs.overdue(timedelta(0)) == {"a"}


class Killed(BaseException):
    """Ends a worker in the middle of a job."""


def test_one_that_ends_its_worker_is_given_up_after_three_attempts(jobs: Jobs) -> None:
    job, begun = jobs.create("a", KIND, "ann"), []

    def work(_progress: Progress) -> None:
        begun.append(1)
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            run(jobs, work, timedelta(0))("a")
    run(jobs, work, timedelta(0))("a")
    given_up = jobs.load("a", job.id)
    assert (len(begun), given_up.state, given_up.attempts) == (3, JobState.FAILED, 3)
    assert "3 attempts" in (given_up.error or "")
    assert jobs.overdue(timedelta(0)) == set()


def test_a_worker_that_stood_still_leaves_a_job_to_the_one_that_has_begun_it_since(jobs: Jobs) -> None:
    job, reached = jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        run(jobs, lambda _progress: None, timedelta(0))("a")  # what another worker does while this one stands still
        progress("more", 1, 2)
        reached.append(1)

    run(jobs, work, timedelta(0))("a")
    done = jobs.load("a", job.id)
    assert (reached, done.state, done.attempts) == ([], JobState.DONE, 2)


def test_a_silent_store_costs_a_job_no_attempt(jobs: Jobs) -> None:
    job = jobs.create("a", KIND, "ann")

    def work(_progress: Progress) -> None:
        raise Unavailable("the store is silent")

    for _ in range(5):
        with pytest.raises(Unavailable):
            run(jobs, work, timedelta(0))("a")
    run(jobs, lambda _progress: None, timedelta(0))("a")
    assert jobs.load("a", job.id).state is JobState.DONE


@pytest.mark.parametrize(
    ("error", "said"), [(InvalidRequest("no pictures"), "no pictures"), (KeyError("x"), "KeyError: see")], ids=repr
)
def test_one_that_fails_says_why(jobs: Jobs, error: Exception, said: str) -> None:
    job = jobs.create("a", KIND, "ann")

    def work(_progress: Progress) -> None:
        raise error

    run(jobs, work)("a")
    failed = jobs.load("a", job.id)
    assert failed.state is JobState.FAILED
    assert (failed.error or "").startswith(said)
    assert jobs.overdue(timedelta(0)) == set()


def test_one_that_is_deleted_stops(jobs: Jobs) -> None:
    job, reached = jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        jobs.delete("a", job.id)
        progress("more", 1, 2)
        reached.append(1)

    run(jobs, work)("a")
    assert reached == []
    with pytest.raises(NotFound):
        jobs.load("a", job.id)


@pytest.mark.parametrize("error", [InvalidRequest("no pictures"), KeyError("x")], ids=repr)
def test_one_that_fails_after_it_was_deleted_stays_deleted(jobs: Jobs, error: Exception) -> None:
    job = jobs.create("a", KIND, "ann")

    def work(_progress: Progress) -> None:
        jobs.delete("a", job.id)
        raise error

    run(jobs, work)("a")
    with pytest.raises(NotFound):
        jobs.load("a", job.id)


def test_one_with_a_long_step_is_left_to_its_worker(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.runtime.jobs.TOUCH_SECONDS", 0.01)
    job = jobs.create("a", KIND, "ann")

    def work(progress: Progress) -> None:
        progress("a long step", 1, 2)
        begun = jobs.load("a", job.id).touched_at
        progress("a long step", 2, 2)
        until(lambda: jobs.load("a", job.id).touched_at != begun, "it to be touched")
        touched = jobs.load("a", job.id)
        assert (touched.state, touched.done) == (JobState.RUNNING, 2)

    run(jobs, work, timedelta(0))("a")
    assert jobs.load("a", job.id).state is JobState.DONE


def test_one_that_still_collects_or_is_anothers_is_not_begun(jobs: Jobs) -> None:
    job = jobs.create("a", KIND, "ann", JobState.COLLECTING)
    for tenant in ("a", "b"):
        run(jobs, lambda _progress: pytest.fail("begun"))(tenant)
    assert jobs.load("a", job.id).state is JobState.COLLECTING
    with pytest.raises(NotFound):
        jobs.load("a", job.id, JobKind.JUDGEMENT)
    with pytest.raises(NotFound):
        jobs.load("a", "../x")


def test_jobs_of_many_tenants_take_turns(jobs: Jobs) -> None:
    queue, order = deque("abc"), list[str]()
    for tenant in "aaabbbccc":
        jobs.create(tenant, KIND, "ann")

    def do(tenant: str, _job: Job, _progress: Progress) -> None:
        order.append(tenant)

    runner = RunJobs(jobs, LEASE, {KIND: do}, queue.append)
    while queue:
        runner(queue.popleft())
    assert "".join(order) == "abcabcabc"


def test_while_one_of_a_tenant_is_done_its_others_wait(jobs: Jobs) -> None:
    first, second = (jobs.create("a", KIND, "ann").id for _ in range(2))
    begun: list[str] = []
    enqueued: list[str] = []

    def do(tenant: str, job: Job, _progress: Progress) -> None:
        begun.append(job.id)
        if job.id == first:
            runner(tenant)  # the message of the second, in another thread or process

    runner = RunJobs(jobs, LEASE, {KIND: do}, enqueued.append)
    runner("a")
    assert (begun, enqueued) == ([first], ["a"])
    runner("a")
    assert (begun, enqueued) == ([first, second], ["a"])


def test_what_cannot_be_read_is_passed_over_logged_and_counted(
    jobs: Jobs, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = jobs.create("a", KIND, "ann")
    for name, text in {
        "of-a-newer-version": job.model_copy(update={"id": "x"}).model_dump_json().replace("evaluation", "migration"),
        "no-json": '{"id": ',
        "no-job": "[]",
        "no-text": "\udcff",
        "too-deep": "[" * 100_000,
        "without-a-time-zone": job.model_copy(update={"id": "y"}).model_dump_json().replace('Z"', '"'),
        "without-a-time": job.model_dump_json().replace("requested_at", "asked_at"),
    }.items():
        (folder / "jobs" / "a" / name).write_text(text, errors="surrogateescape")
    other = jobs.create("b", KIND, "bob")
    before = [_passed_over(reason) for reason in ("unknown kind", "unreadable")]
    enqueued: list[str] = []
    SweepJobs(jobs, timedelta(0), enqueued.extend)()
    assert enqueued == ["a", "b"]
    assert [_passed_over(reason) for reason in ("unknown kind", "unreadable")] == [before[0] + 1, before[1] + 6]
    for tenant, mine in (("a", job), ("b", other)):
        run(jobs, lambda _progress: None)(tenant)
        assert jobs.load(tenant, mine.id).state is JobState.DONE
    told = [record.message for record in caplog.records if "is passed over" in record.message]
    assert len(told) == 7, "each is told of once, however often it is met"
    with pytest.raises(NotFound):
        jobs.load("a", "no-json")


def test_the_sweep_reads_no_job_again_that_has_ended(folder: Path) -> None:
    read: list[str] = []

    class Watched(Ledger):
        def get(self, key: str) -> Any:
            read.append(key)
            return super().get(key)

    jobs = Jobs(Watched(folder))
    for state in JobState:
        jobs.create(state.value, KIND, "ann", state)
    sweep = SweepJobs(jobs, timedelta(0), lambda _tenants: None)
    sweep()
    assert len(read) == len(JobState)
    read.clear()
    sweep()
    assert sorted(key.split("/")[1] for key in read) == ["collecting", "running", "waiting"]


def test_a_store_that_is_silent_is_no_record_that_cannot_be_read(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs.create("a", KIND, "ann")

    def silent(_key: str) -> None:
        raise Unavailable("the store is silent")

    monkeypatch.setattr(jobs._ledger, "get", silent)
    monkeypatch.setattr(jobs._ledger, "exists", silent)
    with pytest.raises(Unavailable):
        jobs.overdue(LEASE)


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING])
def test_a_time_in_the_future_delays_nothing(jobs: Jobs, state: JobState) -> None:
    """As where a clock was ahead, and was set right."""
    job = jobs.create("a", KIND, "ann")
    later = now() + timedelta(days=365)
    jobs.save("a", job.model_copy(update={"state": state, "requested_at": later, "touched_at": later}))
    assert jobs.overdue(LEASE) == {"a"}
    run(jobs, lambda _progress: None)("a")
    assert jobs.load("a", job.id).state is JobState.DONE


def _passed_over(reason: str) -> float:
    return REGISTRY.get_sample_value("visual_memory_passed_over_total", {"reason": reason}) or 0.0
