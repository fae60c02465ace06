"""A judgement counts from the end of its pass until a removal, whatever happens at the same moment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import cast

import numpy as np
import pytest
from sqlalchemy import select

from tests.support.memory_images import image, mute, put, units
from tests.support.shape_pictures import picture
from tests.support.wired_service import NEVER, TESTER, Hooked, Killed, Once, Parts
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.classify_options import ClassifyOptions, Prune
from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.filter import Clause, Filter
from visual_memory.schemas.image import ImagePatch, State
from visual_memory.schemas.judgement import Judgement, Suspect
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import PageRequest
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.curation import schedule_judgements
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory, make_judgement
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.curation.report_judgement import ReportJudgement
from visual_memory.services.curation.schedule_judgements import SERVICE, ScheduleJudgements
from visual_memory.services.infrastructure.records.tables import judgements
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, OwnedJob, Stopped
from visual_memory.services.infrastructure.task_queue.job_runner import Progress, RunJobs
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImages
from visual_memory.services.vector_engines.engine_contract import Vectors


def remember(parts: Parts, labels: Sequence[str], seed: int = 0, prefix: str = "image") -> list[str]:
    """Images with random vectors; their ids."""
    images = [
        image(parts.tenant, f"{prefix}-{number:03}", labels=[label], subject=prefix)
        for number, label in enumerate(labels)
    ]
    put(parts.memory, images)
    assert parts.memory.embeddings.store(images, units(len(labels), seed, parts.memory.dimension)) == len(images)
    return [image.image_id for image in images]


def remove(parts: Parts, **condition: object) -> None:
    request = RemovalRequest(filter=Filter.model_validate(condition), reason="asked to")
    parts.remove(request)


def judged(parts: Parts, k: int = 10) -> Judgement:
    found = parts.judge(k=k)
    assert found is not None
    return found


def records(parts: Parts) -> list[tuple[str, bool]]:
    """The ids of all registrations, and whether something was found."""
    with parts.database.read() as connection:
        found = connection.execute(select(judgements).order_by(judgements.c.id))
        return [(row.id, row.body is not None) for row in found]


def change(parts: Parts, judgement_id: str, **values: object) -> None:
    with parts.database.write() as connection:
        connection.execute(judgements.update().where(judgements.c.id == judgement_id).values(**values))


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
        options = ClassifyOptions.model_validate({"k": 30, "effort": "exact", **asked})
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


def same(one: Judgement | None, other: Judgement | None) -> bool:
    """Whether two judgements say the same of the same images."""
    assert one is not None
    assert other is not None
    return one == other.model_copy(update={"id": one.id, "made_at": one.made_at})


def test_a_removal_leaves_the_judgement_of_a_memory_that_never_saw_what_it_covered(parts: Parts) -> None:
    remember(parts, ["cat", "dog"] * 80)
    remember(parts, ["dog", "owl"] * 60, seed=1, prefix="goes")
    first = judged(parts)
    other = Parts(parts.folder, parts.memory, parts.pool)
    remember(other, ["cat", "dog"] * 80)
    kept = judged(other)
    remove(parts, subject="goes")
    found = parts.judgements.current(parts.tenant)
    assert same(found, kept)
    assert found is not None
    assert (found.made_at, found.images) == (first.made_at, 160)
    assert other.judgements.current(other.tenant) == kept
    assert same(judged(parts), kept), "and so is the next"
    remove(other, subject="nobody")
    assert other.judgements.current(other.tenant) == kept, "nothing was removed"


def test_a_removal_takes_what_was_judged_and_then_replaced(parts: Parts) -> None:
    """Promise 2: until the next pass the judgement told of the image with the labels it had before."""
    gone, replaced, other = parts.teach(*(picture("disc") for _ in range(3)), labels=["cat"])
    old = parts.held(gone)
    judged(parts)
    for image_id in (gone, replaced):
        parts.send(picture("bars"), image_id=image_id, labels=["dog"])
    remove(parts, image_id=[gone])
    assert judged_ids(parts) == sorted([replaced, other])
    parts.teach(picture("bars"), image_id=gone, labels=["owl"])
    judged(parts)
    parts.undo_after_removal()(parts.tenant, CoveredImages.of(old))
    assert judged_ids(parts) == sorted([gone, replaced, other]), "it came under the id after that was removed"


def judged_ids(parts: Parts) -> list[str]:
    """The images that the judgement which counts was made of."""
    found = parts.judgements.current(parts.tenant)
    images = None if found is None else parts.judgements.input_of(parts.tenant, found)
    assert images is not None
    return [*images.image_ids]


def test_nothing_on_the_disk_names_what_was_removed(parts: Parts) -> None:
    remember(parts, ["cat"] * 120)
    remember(parts, ["secret"] * 9, seed=1, prefix="goes")
    judged(parts)
    written = parts.folder / "judgements"

    def names() -> bool:
        data = [file.read_bytes() for file in written.rglob("*") if file.is_file()]
        parts.database.erase_deleted()
        data.append((parts.folder / "records.db").read_bytes())
        return any(word in each for each in data for word in (b"goes-", b"secret"))

    assert names()
    vector = units(1, 1, parts.memory.dimension).tobytes()
    assert not any(vector in file.read_bytes() for file in written.rglob("*") if file.is_file()), "nor any vector"
    remove(parts, subject="goes")
    found = parts.judgements.current(parts.tenant)
    assert found is not None
    assert found.images == 120
    assert not names()


def test_one_whose_neighbours_are_nearly_all_gone_gets_the_next_ones(parts: Parts) -> None:
    """A removal of a whole cluster: the few of it that stay have hardly any left in their lists."""
    never_saw = Parts(parts.folder, parts.memory, parts.pool)
    near = units(1, 5, parts.memory.dimension) + 0.01 * units(140, 6, parts.memory.dimension)
    cluster = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"near-{row:03}" for row in range(140)]
    for some, rows in ((parts, slice(None)), (never_saw, slice(0, 4))):
        remember(some, ["cat"] * 150)
        put_rows(some, cluster[rows], ids[rows])
    assert judged(parts).images == 290
    remove(parts, image_id=ids[4:])
    assert same(parts.judgements.current(parts.tenant), judged(never_saw))
    assert same(judged(parts), judged(never_saw))


def test_each_encoder_has_a_judgement_until_a_removal_which_leaves_that_of_the_one_that_classifies(
    parts: Parts,
) -> None:
    remember(parts, ["cat"] * 20)
    remember(parts, ["dog"] * 5, seed=1, prefix="goes")
    first = judged(parts)
    another = parts.judged_by_another(parts.tenant)
    second, begun = another.current(parts.tenant), another.register(parts.tenant)
    assert second is not None
    assert (second.encoder, parts.judgements.current(parts.tenant)) == ("another", first), "each has its own"
    again = judged(parts)
    assert again.id > second.id
    assert another.current(parts.tenant) == second, "it stands beside a later one of another encoder"
    assert another.is_valid(parts.tenant, begun), "so does a pass"
    remove(parts, subject="goes")
    assert another.current(parts.tenant) is None
    assert not another.is_valid(parts.tenant, begun)
    repaired = parts.judgements.current(parts.tenant)
    assert repaired is not None
    assert repaired.images == 20
    assert records(parts) == [(repaired.id, True)]
    assert [file.name for file in (parts.folder / "judgements").rglob("*-*")] == [repaired.id]


def test_another_encoder_s_pass_lets_those_stay_muted_that_were_pruned(parts: Parts) -> None:
    remember(parts, ["cat"] * 20)
    judged(parts)
    assert mute(parts.memory, parts.tenant, Filter({"image_id": "image-000"}).clauses({}), 1) == 1
    active, parts.judgements = (
        parts.judgements,
        StoredJudgements(parts.database, BlobStore(parts.folder / "judgements"), "another"),
    )
    assert judged(parts).images == 19
    assert active.current(parts.tenant) is not None
    assert parts.memory.images.count_by_state(parts.tenant)[State.MUTED] == 1


def test_an_encoder_that_is_dropped_takes_its_judgements_and_notes_with_it(parts: Parts) -> None:
    remember(parts, ["cat"] * 5)
    kept = judged(parts)
    another = parts.judged_by_another(parts.tenant)
    assert parts.judgements.used(parts.tenant)
    assert another.used(parts.tenant)
    another.delete_all()
    assert (another.uses.all(), list(parts.judgements.uses.all())) == ({}, [parts.tenant]), "each has notes of its own"
    assert another.current(parts.tenant) is None
    assert parts.judgements.current(parts.tenant) == kept
    assert list(parts.judgements.uses.all()) == [parts.tenant]


def put_rows(parts: Parts, vectors: Vectors, ids: Sequence[str]) -> None:
    images = [image(parts.tenant, image_id, labels=["dog"]) for image_id in ids]
    parts.memory.writes.put(images)
    assert parts.memory.embeddings.store(images, vectors) == len(images)


def hooked(parts: Parts, **hooks: Callable[[str], object]) -> StoredJudgements:
    """With something done before or after its methods, and before or after it writes a file."""
    blobs = cast(BlobStore, Hooked(BlobStore(parts.folder / "judgements"), **hooks))
    return cast(StoredJudgements, Hooked(StoredJudgements(parts.database, blobs, parts.encoder.name), **hooks))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("step", ["read", "compared", "counted", "register", "write", "store"])
@pytest.mark.parametrize("anew", [True, False])
def test_one_that_runs_while_a_removal_completes_tells_of_nothing_that_is_gone(
    parts: Parts, step: str, side: str, anew: bool
) -> None:
    """Wherever the removal comes, what counts afterwards never saw it."""
    remember(parts, ["cat"] * 5)
    if not anew:
        judged(parts)
    remember(parts, ["dog"] * 2, seed=1, prefix="goes")
    race = Once(step, lambda: remove(parts, subject="goes"))

    def progress(stage: str, _done: int, _total: int) -> None:
        race(stage)

    parts.judgements = hooked(parts, **{side: race})
    found = parts.judge(progress=progress)
    assert race.called
    assert found is not None
    assert (found.images, [each.label for each in found.classes]) == (5, ["cat"])
    assert not any(image_id.startswith("goes") for image_id in found.votes)
    assert records(parts) == [(found.id, True)]


def die() -> None:
    raise Killed


def test_one_that_is_killed_between_its_writing_and_its_look_does_not_count_and_is_tidied(parts: Parts) -> None:
    remember(parts, ["cat"] * 5)
    whole = parts.judgements

    class Mortal(BlobStore):
        def write(self, key: str, data: bytes) -> None:
            super().write(key, data)
            remove(parts, image_id="image-000")
            super().write(key, data)  # a removal deletes what it finds
            raise Killed

        def delete(self, keys: Iterable[str]) -> int:
            return 0 * len([*keys])

    parts.judgements = StoredJudgements(parts.database, Mortal(parts.folder / "judgements"), parts.encoder.name)
    with pytest.raises(Killed):
        parts.judge()
    parts.judgements = whole
    assert parts.judgements.current(parts.tenant) is None
    assert records(parts) == []
    assert parts.judgements.delete_orphans(now()) == 1
    kept = judged(parts)
    assert parts.judgements.delete_orphans(now()) == 0
    assert parts.judgements.current(parts.tenant) == kept


@pytest.mark.parametrize("step", ["register", "write", "replace"])
def test_a_removal_that_is_killed_while_it_repairs_is_carried_on(parts: Parts, step: str) -> None:
    remember(parts, ["cat"] * 5)
    remember(parts, ["dog"] * 2, seed=1, prefix="goes")
    whole, _ = parts.judgements, judged(parts)
    request = RemovalRequest(filter=Filter({"subject": "goes"}), reason="asked to")
    recorded = parts.forget().request(parts.tenant, request, TESTER)
    parts.judgements = hooked(parts, after=Once(step, die))
    with pytest.raises(Killed):
        parts.forget().resume(parts.tenant, recorded.id)
    parts.judgements = whole
    parts.forget().resume(parts.tenant, recorded.id)
    found = parts.judgements.current(parts.tenant)
    assert found is not None
    assert (found.images, [each.label for each in found.classes]) == (5, ["cat"])


def test_a_disk_without_room_for_the_repaired_judgement_holds_up_no_removal(parts: Parts) -> None:
    remember(parts, ["cat"] * 5)
    remember(parts, ["dog"] * 2, seed=1, prefix="goes")
    judged(parts)
    parts.judgements = StoredJudgements(
        parts.database, BlobStore(parts.folder / "judgements", 2**60), parts.encoder.name
    )
    remove(parts, subject="goes")
    assert parts.memory.images.count(parts.tenant) == 5
    assert parts.judgements.current(parts.tenant) is None, "it is voided instead"
    assert not list((parts.folder / "judgements").rglob("*-*"))


@pytest.mark.parametrize("step", ["register", "current", "write", "replace"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_of_two_removals_at_once_each_takes_out_what_it_covers(parts: Parts, step: str, side: str) -> None:
    remember(parts, ["cat"] * 20)
    judged(parts)
    race = Once(step, lambda: remove(parts, image_id="image-001"))
    parts.judgements, whole = hooked(parts, **{side: race}), parts.judgements
    removing = parts.forget()
    parts.judgements = whole
    request = RemovalRequest(filter=Filter({"image_id": "image-000"}), reason="asked to")
    parts.remove(request, removing)
    assert race.called
    found = parts.judgements.current(parts.tenant)
    if found is not None:  # where each meets the other's traces only, none counts until the next pass
        assert found.images == 18
        assert not found.votes.keys() & {"image-000", "image-001"}
    assert judged(parts).images == 18


class Own:
    """Only the tenants of a test: the engine is that of others too."""

    def __init__(self, memory: Memory, *tenants: str) -> None:
        self._memory, self._tenants, self.images = memory, tenants, self

    def tenants(self) -> list[str]:
        return [tenant for tenant in self._memory.images.tenants() if tenant in self._tenants]

    def __getattr__(self, name: str) -> object:
        images = self._memory.images
        return getattr(images if hasattr(images, name) else self._memory, name)


def suspects(parts: Parts, limit: int) -> list[Suspect]:
    memory = cast(Memory, Own(parts.memory, parts.tenant))
    return ListSuspects(memory, parts.judgements)(parts.tenant, PageRequest(limit)).data


def is_stale(parts: Parts) -> bool:
    current = ReportJudgement(parts.memory, parts.judgements, Jobs(parts.database))
    return current.status(parts.tenant).stale


def test_a_memory_is_judged_when_it_was_changed_and_somebody_uses_what_that_says(parts: Parts) -> None:
    jobs, enqueued = Jobs(parts.database), list[str]()
    memory = cast(Memory, Own(parts.memory, parts.tenant))
    schedule = ScheduleJudgements(memory, parts.judgements, jobs, enqueued.append, 8)

    def judge(_owned: OwnedJob, _progress: Progress) -> None:
        parts.judge()

    def due(*, used: bool = True) -> bool:
        """Whether one is started; then it is carried out."""
        if used:
            suspects(parts, 1)
        enqueued.clear()
        started = schedule.start_due()
        schedule.start_due()
        assert enqueued == [parts.tenant] * started, "one that waits is not asked for again"
        for job in (each for each in jobs.all(parts.tenant, JobKind.JUDGEMENT) if each.state is JobState.WAITING):
            assert job.requested_by == SERVICE
            RunJobs(jobs, NEVER, {JobKind.JUDGEMENT: judge}, pytest.fail)(parts.tenant)
            assert jobs.load(parts.tenant, job.id).state is JobState.DONE
        return started == 1

    assert not due(), "nobody is there"
    ids = remember(parts, ["cat"] * 4)
    assert due(), "somebody asked before there was anything"
    assert not due()
    remember(parts, ["cat"], seed=3, prefix="more")
    assert due(), "one came"
    suspects(parts, 1)
    parts.amend_image()(parts.tenant, ids[0], ImagePatch(labels=["dog"]))
    assert due(used=False), "one has another label, and it was asked for since the last"
    parts.amend_image()(parts.tenant, ids[0], ImagePatch(labels=["cat"]))
    assert not due(used=False), "nobody asked for it since"
    assert due()
    mute(parts.memory, parts.tenant, Filter({"image_id": ids[1]}).clauses({}))
    assert due(), "one is muted"
    remember(parts, ["dog", "cat", "cat", "cat"])
    assert due(), "the same ids and labels with other pictures"
    remove(parts, subject="more")
    assert not due(), "what is removed is out of it at once"
    parts.memory.writes.put([image(parts.tenant, "waits")])
    assert not due(), "more images are on their way"
    assert not due()
    remove(parts, image_id="waits")
    remember(parts, ["cat"] * 9, prefix="many")
    assert not due(), "they are too many"


def test_a_memory_that_fills_for_ever_is_judged_all_the_same(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(parts, ["cat"] * 4)
    parts.memory.writes.put([image(parts.tenant, "waits", accepted_at=now())])
    memory = cast(Memory, Own(parts.memory, parts.tenant))
    schedule = ScheduleJudgements(memory, parts.judgements, Jobs(parts.database), lambda _tenant: None, 8)
    suspects(parts, 1)
    assert schedule.start_due() == 0
    monkeypatch.setattr(schedule_judgements, "LONGEST_DELAY", timedelta(0))
    assert schedule.start_due() == 1


def test_after_one_was_cancelled_none_is_started_for_a_while(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(parts, ["cat"] * 4)
    memory, jobs = cast(Memory, Own(parts.memory, parts.tenant)), Jobs(parts.database)
    schedule = ScheduleJudgements(memory, parts.judgements, jobs, lambda _tenant: None, 8)
    suspects(parts, 1)
    assert schedule.start_due() == 1
    [job] = jobs.all(parts.tenant, JobKind.JUDGEMENT)
    jobs.cancel(parts.tenant, job.id, "ann")
    assert schedule.start_due() == 0
    monkeypatch.setattr(schedule_judgements, "LONGEST_DELAY", timedelta(0))
    assert schedule.start_due() == 1


def test_what_prunes_every_classification_needs_a_judgement_of_each_memory(parts: Parts) -> None:
    remember(parts, ["cat"] * 4)
    memory, queue = cast(Memory, Own(parts.memory, parts.tenant)), lambda _tenant: None
    assert ScheduleJudgements(memory, parts.judgements, Jobs(parts.database), queue, 8).start_due() == 0
    assert ScheduleJudgements(memory, parts.judgements, Jobs(parts.database), queue, 8, always=True).start_due() == 1


def test_one_tenant_s_records_that_cannot_be_read_delay_no_other(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    """They count as no judgement."""
    remember(parts, ["cat"] * 4)
    before = judged(parts)
    for tenant in (parts.tenant, "0-another"):
        parts.judgements.used(tenant)
    change(parts, before.id, body='{"id": ')
    parts.judgements = afresh = StoredJudgements(
        parts.database, BlobStore(parts.folder / "judgements"), parts.encoder.name
    )
    assert afresh.current(parts.tenant) is None
    assert "is judged anew" in caplog.text

    class Failing(Own):
        def count_with_vectors(self, tenant: str, clauses: Sequence[Clause]) -> int:
            if tenant == "0-another":
                raise ValueError("its images cannot be counted")
            return self._memory.images.count_with_vectors(tenant, clauses)

    jobs, memory = Jobs(parts.database), cast(Memory, Failing(parts.memory, parts.tenant))
    assert ScheduleJudgements(memory, afresh, jobs, lambda _tenant: None, 8).start_due() == 1
    assert judged(parts).classes == before.classes


def test_a_clock_that_was_set_back_hides_no_change_and_delays_no_judgement(parts: Parts) -> None:
    ids = remember(parts, ["cat"] * 4)
    before = judged(parts)
    images = parts.judgements.input_of(parts.tenant, before)
    assert images is not None
    ahead = replace(images, read_at=now() + timedelta(days=300))
    registration = parts.judgements.register(parts.tenant)
    parts.judgements.store(parts.tenant, make_judgement(ahead, registration, before.encoder, before.k), ahead)
    parts.amend_image()(parts.tenant, ids[0], ImagePatch(labels=["dog"]))
    parts.memory.writes.put(
        [image(parts.tenant, "ahead", state=State.REJECTED, accepted_at=now() + timedelta(days=300))]
    )
    schedule = ScheduleJudgements(
        cast(Memory, Own(parts.memory, parts.tenant)), parts.judgements, Jobs(parts.database), print, 8
    )
    suspects(parts, 1)
    assert schedule.start_due() == 1
    assert {each.label for each in judged(parts).classes} == {"cat", "dog"}
    assert not is_stale(parts)


def test_no_suspect_is_told_of_that_has_expired(parts: Parts) -> None:
    [odd, *_] = remember(parts, ["dog", *["cat"] * 12])
    judged(parts)
    assert odd in {each.image_id for each in suspects(parts, 20)}
    [held] = parts.held(odd)
    assert parts.memory.writes.amend(held, held.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))
    assert odd not in {each.image_id for each in suspects(parts, 20)}


def test_a_stale_one_counts_until_the_next(parts: Parts) -> None:
    remember(parts, ["cat"] * 4)
    first = judged(parts)
    assert not is_stale(parts)
    remember(parts, ["cat"], seed=3, prefix="more")
    assert is_stale(parts)
    assert parts.judgements.current(parts.tenant) == first
    second = judged(parts)
    assert (second.images, parts.judgements.current(parts.tenant)) == (5, second)
    assert records(parts) == [(second.id, True)], "the one before is deleted"


def test_too_large_a_memory_is_refused(parts: Parts) -> None:
    remember(parts, ["cat"] * 3)
    judge = JudgeMemory(parts.memory, parts.judgements, UpdateJudgementInput(parts.memory, parts.vectors, 2), 10)
    with pytest.raises(InvalidRequest, match="at most 2 are judged"):
        judge.judge(parts.tenant, lambda *_: None)


def test_nothing_of_a_worker_that_stood_still_counts(parts: Parts) -> None:
    remember(parts, ["cat"] * 3)
    jobs, judge = Jobs(parts.database), JudgeMemory(parts.memory, parts.judgements, fold_of(parts), 10)
    jobs.create(parts.tenant, JobKind.JUDGEMENT, "a test")
    late, other = jobs.begin_next(parts.tenant, NEVER), jobs.begin_next(parts.tenant, timedelta(0))
    assert late
    assert other
    with pytest.raises(Stopped):
        judge(late, lambda *_: None)
    assert parts.judgements.current(parts.tenant) is None
    assert not list((parts.folder / "judgements").rglob("*-*"))
    judge(other, lambda *_: None)
    assert parts.judgements.current(parts.tenant) is not None


def fold_of(parts: Parts) -> UpdateJudgementInput:
    return UpdateJudgementInput(parts.memory, parts.vectors, 1000)
