"""A worker does a job once, begins anew what another left behind, and stops when nobody wants it any more."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from tests.support.running_service import until
from visual_memory.schemas.background_job import Job, JobKind, JobState
from visual_memory.schemas.errors import Conflict, InvalidRequest, NotFound, Unavailable
from visual_memory.schemas.moments import now
from visual_memory.services.infrastructure.records import tables
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.task_queue.job_records import KEPT, Jobs, OwnedJob, Stopped
from visual_memory.services.infrastructure.task_queue.job_runner import Progress, RunJobs, SweepJobs

LEASE = timedelta(hours=1)
KIND = JobKind.EVALUATION


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


def run(jobs: Jobs, work: Callable[[Progress], object], lease: timedelta = LEASE) -> RunJobs:
    def do(_owned: OwnedJob, progress: Progress) -> None:
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
    monkeypatch.setattr("visual_memory.services.infrastructure.task_queue.job_runner.HEARTBEAT_SECONDS", 0.01)
    job = jobs.create("a", KIND, "ann")

    def work(progress: Progress) -> None:
        progress("a long step", 1, 2)
        progress("a long step", 2, 2)
        begun = jobs.load("a", job.id).touched_at
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

    def do(owned: OwnedJob, _progress: Progress) -> None:
        order.append(owned.tenant)

    runner = RunJobs(jobs, LEASE, {KIND: do}, queue.append)
    while queue:
        runner(queue.popleft())
    assert "".join(order) == "abcabcabc"


def test_while_one_of_a_tenant_is_done_its_others_wait(jobs: Jobs) -> None:
    first, second = (jobs.create("a", KIND, "ann").id for _ in range(2))
    begun: list[str] = []
    enqueued: list[str] = []

    def do(owned: OwnedJob, _progress: Progress) -> None:
        begun.append(owned.id)
        if owned.id == first:
            runner(owned.tenant)  # the message of the second, in another thread or process

    runner = RunJobs(jobs, LEASE, {KIND: do}, enqueued.append)
    runner("a")
    assert (begun, enqueued) == ([first], ["a"])
    runner("a")
    assert (begun, enqueued) == ([first, second], ["a"])


def test_what_a_newer_version_wrote_is_passed_over_logged_and_counted(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    mine, newer = jobs.create("a", KIND, "ann"), jobs.create("a", JobKind.INFLUENCE, "ann")
    change(jobs, newer, kind="migration")
    before = _passed_over("unknown kind")
    for _ in range(2):
        enqueued: list[str] = []
        SweepJobs(jobs, timedelta(0), enqueued.extend)()
        assert enqueued == ["a"]
    assert _passed_over("unknown kind") == before + 2
    run(jobs, lambda _progress: None)("a")
    assert jobs.load("a", mine.id).state is JobState.DONE
    assert not jobs.has_open("a")
    told = [record.message for record in caplog.records if "is passed over" in record.message]
    assert len(told) == 1, "it is told of once, however often it is met"
    with pytest.raises(NotFound):
        jobs.load("a", newer.id)


def test_nothing_of_a_worker_that_stood_still_is_kept(jobs: Jobs) -> None:
    jobs.create("a", KIND, "ann")
    late, other = jobs.begin_next("a", LEASE), jobs.begin_next("a", timedelta(0))
    assert late
    assert other
    for write in (jobs.write_progress, jobs.undo_attempt, lambda owned: jobs.end(owned, JobState.DONE)):
        with pytest.raises(Stopped):
            write(late)

    def keep_what_was_found() -> None:
        with jobs.database.write() as connection:
            jobs.create_within(connection, "b", KIND, "what it found")
            jobs.check(connection, late)

    with pytest.raises(Stopped):
        keep_what_was_found()
    assert jobs.all("b", KIND) == []
    jobs.end(other, JobState.DONE)
    with pytest.raises(Stopped):
        jobs.write_progress(other)


def test_of_many_workers_one_does_it(jobs: Jobs) -> None:
    jobs.create("a", KIND, "ann")
    jobs.create("a", KIND, "ann")
    with ThreadPoolExecutor(8) as threads:
        taken = [*threads.map(lambda _worker: jobs.begin_next("a", LEASE), range(8))]
    assert len([each for each in taken if each]) == 1, "and of its tenant's others none is done meanwhile"


def test_of_many_who_ask_for_the_same_one_is_made(jobs: Jobs) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda _caller: jobs.find_or_create("a", KIND, "ann"), range(8))]
    assert len({job.id for job, _ in found}) == 1
    assert sum(new for _, new in found) == 1


def test_of_those_that_ended_the_oldest_go(jobs: Jobs) -> None:
    kind, made = JobKind.JUDGEMENT, []
    collecting = jobs.create("a", kind, "ann", JobState.COLLECTING)
    for _ in range(KEPT + 2):
        made.append(jobs.create("a", kind, "ann").id)
        RunJobs(jobs, LEASE, {kind: lambda *_: None}, lambda _tenant: None)("a")
    assert [job.id for job in jobs.all("a", kind)] == [*made[:1:-1], collecting.id]


@pytest.mark.parametrize("state", [JobState.WAITING, JobState.RUNNING])
def test_a_time_in_the_future_delays_nothing(jobs: Jobs, state: JobState) -> None:
    """As where a clock was ahead, and was set right."""
    job = jobs.create("a", KIND, "ann")
    later = now() + timedelta(days=365)
    change(jobs, job, state=state, requested_at=later, touched_at=later)
    assert jobs.overdue(LEASE) == {"a"}
    run(jobs, lambda _progress: None)("a")
    assert jobs.load("a", job.id).state is JobState.DONE


def change(jobs: Jobs, job: Job, **values: object) -> None:
    """Write what no worker of this version does."""
    with jobs.database.write() as connection:
        connection.execute(tables.jobs.update().where(tables.jobs.c.id == job.id).values(**values))


def _passed_over(reason: str) -> float:
    return REGISTRY.get_sample_value("visual_memory_passed_over_total", {"reason": reason}) or 0.0


def test_a_waiting_one_that_is_cancelled_never_begins(jobs: Jobs) -> None:
    job, begun = jobs.create("a", KIND, "ann"), []
    cancelled = jobs.cancel("a", job.id, "bob")
    assert (cancelled.state, cancelled.cancelled_by) == (JobState.CANCELLED, "bob")
    assert jobs.cancel("a", job.id, "tom") == cancelled, "it is as it was"
    run(jobs, lambda _progress: begun.append(1))("a")
    assert (begun, jobs.has_open("a"), jobs.overdue(timedelta(0))) == ([], False, set())


def test_a_running_one_that_is_cancelled_stops_at_its_next_progress(jobs: Jobs) -> None:
    job, later, reached = jobs.create("a", KIND, "ann"), jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        jobs.cancel("a", job.id, "bob")
        progress("more", 1, 2)
        reached.append(1)

    runner = run(jobs, work)
    runner("a")
    stopped = jobs.load("a", job.id)
    assert (reached, stopped.state, stopped.stage) == ([], JobState.CANCELLED, "")
    run(jobs, lambda _progress: None)("a")
    assert jobs.load("a", later.id).state is JobState.DONE, "the next one is not held up"


@pytest.mark.parametrize("error", [None, InvalidRequest("no pictures")], ids=str)
def test_one_that_has_ended_is_not_cancelled(jobs: Jobs, error: Exception | None) -> None:
    job, written = jobs.create("a", KIND, "ann"), []

    def work(_progress: Progress) -> None:
        if error:
            raise error

    run(jobs, work)("a")
    with pytest.raises(Conflict, match="only a job that has not ended"):
        jobs.cancel("a", job.id, "bob", lambda _connection, job_id: written.append(job_id))
    with pytest.raises(NotFound):
        jobs.cancel("b", job.id, "bob")
    assert written == []


def test_old_ones_that_were_cancelled_are_deleted(jobs: Jobs) -> None:
    made = [jobs.create("a", JobKind.INFLUENCE, "ann").id for _ in range(KEPT + 2)]
    for job_id in made:
        jobs.cancel("a", job_id, "bob")
    assert [job.id for job in reversed(jobs.all("a", JobKind.INFLUENCE))] == made[2:]
