"""A worker does a job once, begins anew what another left behind, and stops when nobody wants it any more."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from schemas.errors import InvalidRequest, NotFound, Unavailable
from schemas.job import Job, JobKind, JobState
from services.memory.ledger import Ledger
from services.runtime.jobs import Jobs, Progress, RunJob
from tests.contract.support import quick_folder
from tests.stack import until

LEASE = timedelta(hours=1)
KIND = JobKind.EVALUATION


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with quick_folder() as folder:
        yield Jobs(Ledger(folder))


def run(jobs: Jobs, work: Callable[[Progress], object], lease: timedelta = LEASE) -> RunJob:
    def do(_tenant: str, _job: Job, progress: Progress) -> None:
        work(progress)

    return RunJob(jobs, lease, {KIND: do})


def test_it_is_done_once_and_says_how_far_it_is(jobs: Jobs) -> None:
    job, seen = jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        progress("counted", 3, 7)
        seen.append(jobs.load("a", job.id))

    runner = run(jobs, work)
    runner("a", job.id)
    runner("a", job.id)
    assert [(each.state, each.stage, each.done, each.total) for each in seen] == [(JobState.RUNNING, "counted", 3, 7)]
    assert jobs.load("a", job.id).state is JobState.DONE


def test_one_in_other_hands_is_left_alone_until_they_are_gone(jobs: Jobs) -> None:
    job, begun = jobs.create("a", KIND, "ann"), []

    def work(_progress: Progress) -> None:
        begun.append(1)
        raise Unavailable("the store is silent")

    for _ in range(2):
        with pytest.raises(Unavailable):
            run(jobs, work, timedelta(0))("a", job.id)
    run(jobs, work)("a", job.id)
    assert len(begun) == 2
    assert list(jobs.untouched(LEASE)) == []
    assert list(jobs.untouched(timedelta(0))) == [("a", job.id)]


@pytest.mark.parametrize(
    ("error", "said"), [(InvalidRequest("no pictures"), "no pictures"), (KeyError("x"), "KeyError: see")], ids=repr
)
def test_one_that_fails_says_why(jobs: Jobs, error: Exception, said: str) -> None:
    job = jobs.create("a", KIND, "ann")

    def work(_progress: Progress) -> None:
        raise error

    run(jobs, work)("a", job.id)
    failed = jobs.load("a", job.id)
    assert failed.state is JobState.FAILED
    assert (failed.error or "").startswith(said)
    assert list(jobs.untouched(timedelta(0))) == []


def test_one_that_is_deleted_stops(jobs: Jobs) -> None:
    job, reached = jobs.create("a", KIND, "ann"), []

    def work(progress: Progress) -> None:
        jobs.delete("a", job.id)
        progress("more", 1, 2)
        reached.append(1)

    run(jobs, work)("a", job.id)
    assert reached == []
    with pytest.raises(NotFound):
        jobs.load("a", job.id)


@pytest.mark.parametrize("error", [InvalidRequest("no pictures"), KeyError("x")], ids=repr)
def test_one_that_fails_after_it_was_deleted_stays_deleted(jobs: Jobs, error: Exception) -> None:
    job = jobs.create("a", KIND, "ann")

    def work(_progress: Progress) -> None:
        jobs.delete("a", job.id)
        raise error

    run(jobs, work)("a", job.id)
    assert not jobs.exists("a", job.id)


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

    run(jobs, work, timedelta(0))("a", job.id)
    assert jobs.load("a", job.id).state is JobState.DONE


def test_one_that_still_collects_or_is_anothers_is_not_begun(jobs: Jobs) -> None:
    job = jobs.create("a", KIND, "ann", JobState.COLLECTING)
    for tenant in ("a", "b"):
        run(jobs, lambda _progress: pytest.fail("begun"))(tenant, job.id)
    assert jobs.load("a", job.id).state is JobState.COLLECTING
    with pytest.raises(NotFound):
        jobs.load("a", job.id, JobKind.JUDGEMENT)
    with pytest.raises(NotFound):
        jobs.load("a", "../x")
