"""A judgement counts from the end of its pass until a removal, whatever happens at the same moment."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from schemas.decision import ClassifyOptions, Prune
from schemas.errors import Conflict, InvalidRequest
from schemas.filter import Filter
from schemas.image import ImagePatch, now
from schemas.job import Job, JobKind, JobState
from schemas.judgement import Judgement
from schemas.removal import RemovalRequest
from services.curation.fingerprint import is_stale
from services.curation.judge import PASSES, Judge
from services.curation.judgements import FOUND, RECORDS, Judgements
from services.curation.judging import SERVICE, Judging
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.runtime.jobs import Jobs, Progress, RunJob
from tests.contract.support import image, put, units

from .support import NEVER, Hooked, Killed, Once, Parts


def remember(parts: Parts, labels: Sequence[str], seed: int = 0, prefix: str = "image") -> list[str]:
    """Images with random vectors; their ids."""
    images = [
        image(parts.tenant, f"{prefix}-{number:03}", labels=[label], subject=prefix, accepted_at=now())
        for number, label in enumerate(labels)
    ]
    put(parts.memory, images)
    assert parts.memory.remember(images, units(len(labels), seed, parts.memory.dimension)) == len(images)
    return [image.image_id for image in images]


def remove(parts: Parts, **condition: object) -> None:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
    parts.forget().carry_on(parts.tenant, parts.forget().request(parts.tenant, request, "a test").id)


def judged(parts: Parts, k: int = 10) -> Judgement:
    found = parts.judge(k=k)
    assert found is not None
    return found


def records(parts: Parts) -> list[str]:
    return parts.ledger.list(RECORDS)


def test_votes_are_those_of_a_plain_count(parts: Parts) -> None:
    labels = [("cat", "dog", "owl")[number % 3] for number in range(60)]
    ids, vectors = remember(parts, labels), units(60, 0, parts.memory.dimension).astype(np.float64)
    by_hand = {image_id: [0, 0] for image_id in ids}
    for row in range(60):
        order = sorted(
            (other for other in range(60) if other != row), key=lambda other: -(vectors[row] @ vectors[other])
        )
        for other in order[:7]:
            by_hand[ids[other]][labels[other] == labels[row]] += 1
    found = judged(parts, k=7)
    assert found.votes == {image_id: tuple(votes) for image_id, votes in by_hand.items() if any(votes)}
    assert (found.images, found.k, found.encoder) == (60, 7, "pixels")
    assert sum(each.images for each in found.classes) == 60


def test_the_sample_has_the_neighbours_of_each_with_their_labels_and_wrong_votes(parts: Parts) -> None:
    remember(parts, ["cat", "dog"] * 60)
    found = judged(parts)
    sample = found.sample
    assert sample.labels == [["cat"], ["dog"]] * 60
    for lists in (sample.similarities, sample.neighbour_labels, sample.neighbour_wrong):
        assert [len(each) for each in lists] == [100] * 120
    assert all(each == sorted(each, reverse=True) for each in sample.similarities)
    assert max(max(each) for each in sample.neighbour_wrong) == max(wrong for wrong, _ in found.votes.values())


def test_soft_pruning_weighs_by_wrong_votes_and_hard_pruning_takes_the_next(parts: Parts) -> None:
    remember(parts, ["cat", "dog"] * 20)
    query = units(1, 9, parts.memory.dimension)

    def voters(**asked: object) -> tuple[list[str], list[float], Prune | None]:
        options = ClassifyOptions.model_validate({"k": 30, "search": "exact", **asked})
        [hits], applied, _ = parts.classify().search(parts.tenant, query, options, options.k)
        return [hit.image_id for hit in hits], [hit.reliability for hit in hits], applied.prune

    everybody = voters()[0]
    assert voters(prune="soft") == (everybody, [1.0] * 30, Prune.NONE), "the memory is not judged yet"
    wrong = {image_id: votes[0] for image_id, votes in judged(parts).votes.items()}
    assert voters() == (everybody, [1.0] * 30, Prune.NONE)
    expected = [1.75 / (1 + wrong[each]) if wrong[each] else 1.0 for each in everybody]
    assert voters(prune="soft") == (everybody, expected, Prune.SOFT)
    inside = [each for each in voters(k=40)[0] if wrong[each] < 5]
    assert 0 < len(inside) < 30
    assert voters(prune="hard", prune_above=5) == (inside, [1.0] * len(inside), Prune.HARD)
    assert voters(prune="hard", prune_above=5, k=4)[0] == inside[:4], "the next nearest take their places"
    assert parts.classify(Prune.SOFT).search(parts.tenant, query, ClassifyOptions(), 5)[1].prune is Prune.SOFT


def test_a_removal_voids_it_and_deletes_what_it_says(parts: Parts) -> None:
    remember(parts, ["cat"] * 5)
    remember(parts, ["dog"] * 2, seed=1, prefix="goes")
    judged(parts)
    other = Parts(parts.folder, parts.memory, parts.pool)
    remember(other, ["cat"])
    kept = judged(other)
    remove(parts, subject="goes")
    assert parts.judgements.current(parts.tenant) is None
    assert {key.split("/")[1] for key in records(parts)} == {other.tenant}
    assert other.judgements.current(other.tenant) == kept
    remove(other, subject="nobody")
    assert other.judgements.current(other.tenant) == kept, "nothing was removed"


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", ["read", "compared", "counted", "sampled", "put"])
def test_one_that_runs_while_a_removal_completes_never_counts(parts: Parts, step: str, side: str) -> None:
    """Wherever the removal comes, what counts afterwards was read after it: the pass began anew."""
    remember(parts, ["cat"] * 5)
    remember(parts, ["dog"] * 2, seed=1, prefix="goes")
    race = Once(step, lambda: remove(parts, subject="goes"))

    def progress(stage: str, _done: int, _total: int) -> None:
        race(stage)

    hooks = {"before": race} if side == "before" else {"after": race}
    parts.judgements = Judgements(cast(Ledger, Hooked(parts.ledger, **hooks)))
    found = parts.judge(progress=progress)
    assert race.called
    assert found is not None
    assert (found.images, [each.label for each in found.classes]) == (5, ["cat"])
    assert not any(image_id.startswith("goes") for image_id in found.votes)
    assert sorted(records(parts)) == [f"{RECORDS}{parts.tenant}/{found.id}{end}" for end in ("", FOUND)]


def test_one_that_is_killed_between_its_writing_and_its_look_does_not_count_and_is_tidied(parts: Parts) -> None:
    remember(parts, ["cat"] * 5)

    def die() -> None:
        raise Killed

    removed = Once("put", lambda: remove(parts, image_id="image-000"))
    parts.judgements = Judgements(cast(Ledger, Hooked(parts.ledger, removed, Once("put", die))))
    with pytest.raises(Killed):
        parts.judge()
    assert parts.judgements.current(parts.tenant) is None
    [left] = records(parts)
    assert left.endswith(FOUND)
    assert parts.judgements.tidy() == 1
    assert records(parts) == []
    kept = judged(parts)
    assert parts.judgements.tidy() == 0
    assert parts.judgements.current(parts.tenant) == kept


def test_removals_without_end_fail_it(parts: Parts) -> None:
    remember(parts, ["cat"] * 9)
    going = iter(range(9))

    def progress(stage: str, _done: int, _total: int) -> None:
        if stage == "sampled":
            remove(parts, image_id=f"image-{next(going):03}")

    with pytest.raises(Conflict, match=f"each of {PASSES} passes"):
        parts.judge(progress=progress)
    assert records(parts) == []


class Enqueued:
    """A task queue that only says what was enqueued."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str]] = []

    def enqueue_job(self, tenant: str, job_id: str) -> bool:
        self.jobs.append((tenant, job_id))
        return True


class Own:
    """Only the tenants of a test: the engine is that of others too."""

    def __init__(self, memory: Memory, *tenants: str) -> None:
        self._memory, self._tenants = memory, tenants

    def tenants(self) -> list[str]:
        return [tenant for tenant in self._memory.tenants() if tenant in self._tenants]

    def __getattr__(self, name: str) -> object:
        return getattr(self._memory, name)


def test_a_memory_is_judged_when_it_was_changed_and_only_then(parts: Parts) -> None:
    jobs, queue = Jobs(parts.ledger), Enqueued()
    memory = cast(Memory, Own(parts.memory, parts.tenant))
    judging = Judging(memory, parts.judgements, jobs, cast(TaskQueue, queue), 8)

    def judge(_tenant: str, _job: Job, _progress: Progress) -> None:
        parts.judge()

    def due() -> bool:
        """Whether one is started; then it is carried out."""
        before = len(queue.jobs)
        started = judging.start_due()
        judging.start_due()
        assert len(queue.jobs) == before + started, "one that waits is not asked for again"
        for tenant, job_id in queue.jobs[before:]:
            assert tenant == parts.tenant
            assert jobs.load(tenant, job_id).requested_by == SERVICE
            RunJob(jobs, NEVER, {JobKind.JUDGEMENT: judge})(tenant, job_id)
            assert jobs.load(tenant, job_id).state is JobState.DONE
        return started == 1

    assert not due(), "nobody is there"
    ids = remember(parts, ["cat"] * 4)
    assert due()
    assert not due()
    remember(parts, ["cat"], seed=3, prefix="more")
    assert due(), "one came"
    parts.accept().amend(parts.tenant, ids[0], ImagePatch(labels=["dog"]))
    assert due(), "one has another label"
    parts.memory.mute(parts.tenant, Filter({"image_id": ids[1]}).clauses({}))
    assert due(), "one is muted"
    remember(parts, ["dog", "cat", "cat", "cat"])
    assert due(), "the same ids and labels with other pictures"
    remove(parts, subject="more")
    assert due(), "one was removed, and the judgement with it"
    assert not due()
    remember(parts, ["cat"] * 9, prefix="many")
    assert not due(), "they are too many"
    assert len(jobs.all(parts.tenant, JobKind.JUDGEMENT)) == 1, "jobs that are done do not pile up"


def test_a_stale_one_counts_until_the_next(parts: Parts) -> None:
    remember(parts, ["cat"] * 4)
    first = judged(parts)
    assert not is_stale(parts.memory, parts.tenant, first)
    remember(parts, ["cat"], seed=3, prefix="more")
    assert is_stale(parts.memory, parts.tenant, first)
    assert parts.judgements.current(parts.tenant) == first
    second = judged(parts)
    assert (second.images, parts.judgements.current(parts.tenant)) == (5, second)
    assert len(records(parts)) == 2, "the one before is deleted"


def test_too_large_a_memory_is_refused(parts: Parts) -> None:
    remember(parts, ["cat"] * 3)
    judge = Judge(parts.memory, parts.judgements, "pixels", 10, 2)
    job = Jobs(parts.ledger).create(parts.tenant, JobKind.JUDGEMENT, "a test")
    with pytest.raises(InvalidRequest, match="at most 2 are judged"):
        judge(parts.tenant, job, lambda *_: None)
