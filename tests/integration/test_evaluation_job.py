"""An evaluation as a job: done again where its worker died, and gone with what was removed, however late it ends."""

import copy
import dataclasses
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.shape_pictures import picture
from tests.support.wired_service import AT_ONCE, NEVER, Hooked, Killed, Once, Parts, back_up
from visual_memory.schemas.background_job import JobKind, JobState
from visual_memory.schemas.errors import (
    Blocked,
    Conflict,
    EncoderMismatch,
    InvalidFilter,
    InvalidPicture,
    InvalidRequest,
    NotFound,
)
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.backup.archive_reader import ArchiveReader
from visual_memory.services.evaluation import evaluation_job, evaluation_records, request_evaluation
from visual_memory.services.evaluation.evaluation_job import RunEvaluation
from visual_memory.services.evaluation.evaluation_queries import EvaluationQueries
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.evaluation.request_evaluation import RequestEvaluation
from visual_memory.services.infrastructure.storage.blob_store import BlobStore
from visual_memory.services.infrastructure.task_queue.job_records import Jobs, Stopped
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs
from visual_memory.services.infrastructure.task_queue.periodic_task_last_runs import PeriodicTaskRuns
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import CoveredImages
from visual_memory.services.removal.erasure.remove_orphan_files import RemoveOrphanFiles

ITSELF = EvaluationRequest(itself=True, k=5)
PICTURES = EvaluationRequest(k=5)


@dataclass
class Place:
    """An installation that evaluates; what it reads the memory through may be exchanged."""

    parts: Parts
    memory: Any = None
    enqueued: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = self.memory or self.parts.memory
        self.jobs = Jobs(self.parts.database)
        self.evaluations = Evaluations(self.jobs, self.folder)
        memory, decoder, encoder = cast(Memory, self.memory), self.parts.decoder, self.parts.encoder.name
        self.request = RequestEvaluation(
            self.evaluations,
            memory,
            decoder,
            self.parts.classify().embed,
            encoder,
            self.enqueued.append,
            self.parts.accept().put.blocks,
        )
        self.evaluate = RunEvaluation(self.evaluations, memory, self.parts.pictures, decoder, encoder)

    @property
    def folder(self) -> Path:
        return self.parts.folder / "evaluations"

    @property
    def tenant(self) -> str:
        return self.parts.tenant

    def ask(self, request: EvaluationRequest = PICTURES) -> str:
        return self.request.request(self.tenant, request, "a test").id

    def add(self, evaluation_id: str, *pictures: bytes, label: str) -> EvaluationJob:
        fields = ImageFields(labels=[label])
        return self.request.add(self.tenant, evaluation_id, [Upload(data, fields) for data in pictures])

    def run(self, lease: timedelta = NEVER, tenant: str | None = None) -> None:
        RunJobs(self.jobs, lease, {JobKind.EVALUATION: self.evaluate}, lambda _tenant: None)(tenant or self.tenant)

    def load(self, evaluation_id: str) -> EvaluationJob:
        return self.evaluations.load(self.tenant, evaluation_id)

    def remove(self, where: dict[str, Any], *, block: bool = False) -> int:
        """Forget what meets a filter; how many images that were."""
        forget = dataclasses.replace(self.parts.forget(), hooks=[self.evaluations.remove_covered])
        request = RemovalRequest(filter=Filter.model_validate(where), reason="asked to", block=block)
        return self.parts.remove(request, forget).images

    def left(self) -> list[Path]:
        """Every file and job that speaks of an evaluation."""
        return [*self.files(), *(Path(job.id) for job in self.jobs.all(self.tenant, JobKind.EVALUATION))]

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take seconds; tests/end_to_end has some drawn."""
    monkeypatch.setattr("visual_memory.services.evaluation.report.report_plots.draw", lambda _evaluation: {})


@pytest.fixture
def place(parts: Parts) -> Place:
    """Of two kinds of pictures, those of Ann and those of Bob are remembered."""
    parts.teach(*(picture("disc") for _ in range(5)), labels=["disc"], subject="ann")
    parts.teach(*(picture("bars") for _ in range(5)), labels=["bars"], subject="bob")
    return Place(parts)


def unpacked(report: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(report)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_labelled_pictures_are_asked_about_and_not_kept(place: Place) -> None:
    asked = place.ask()
    assert place.load(asked).state is JobState.COLLECTING
    disc = picture("disc")
    [remembered] = place.parts.teach(picture("disc"), labels=["disc"])
    place.add(asked, disc, picture("disc"), label="disc")
    place.add(asked, disc, place.parts.pictures.read(place.parts.held(remembered)[0].picture), label="disc")
    assert place.add(asked, picture("bars"), picture("cross"), label="bars").pictures == 6
    assert place.enqueued == []
    started = place.request.start(place.tenant, asked)
    assert (started.state, place.enqueued) == (JobState.WAITING, [place.tenant])
    place.run()
    done = place.load(asked)
    assert (done.state, done.error, done.pictures) == (JobState.DONE, None, 0)
    assert done.summary is not None
    assert (done.summary.queries, done.summary.known) == (5, 1), "one came twice, and one is remembered"
    assert (done.summary.images, done.summary.k) == (11, 5)
    assert done.summary.accuracy >= 0.75
    assert place.parts.memory.images.count(place.tenant) == 11
    report = unpacked(place.evaluations.report(place.tenant, asked))
    assert "report.html" in report
    assert json.loads(report["report.json"])["accuracy"] == done.summary.accuracy
    [file] = place.files()
    assert file.name.startswith("report-")


def test_the_memory_against_itself_is_narrowed_by_a_filter(place: Place) -> None:
    place.parts.teach(*(picture("cross") for _ in range(3)), labels=["cross"], subject="eve")
    asked = place.ask(ITSELF.model_copy(update={"filter": Filter.model_validate({"subject": {"not": "eve"}})}))
    assert place.enqueued == [place.tenant]
    place.run()
    summary = place.load(asked).summary
    assert summary is not None
    assert (summary.queries, summary.images, summary.accuracy) == (10, 10, 1.0)
    assert b"cross" not in unpacked(place.evaluations.report(place.tenant, asked))["report.json"]


def test_a_worker_that_dies_is_followed_by_another(place: Place) -> None:
    asked = place.ask()
    place.add(asked, picture("disc"), picture("bars"), label="disc")
    place.request.start(place.tenant, asked)

    def die() -> None:
        raise Killed

    for name in ("pages_with_vectors", "get"):  # while it reads, and while it draws
        mortal = Place(place.parts, Hooked(place.parts.memory, before=Once(name, die)))
        with pytest.raises(Killed):
            mortal.run(AT_ONCE)
        assert place.load(asked).state is JobState.RUNNING
    place.run()
    assert place.load(asked).state is JobState.RUNNING, "it is left to whoever touched it just now"
    place.run(AT_ONCE)
    assert place.load(asked).state is JobState.DONE


def test_a_worker_that_dies_after_the_report_has_nothing_left_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = place.ask()
    place.add(asked, picture("disc"), label="disc")
    place.request.start(place.tenant, asked)

    delete = place.evaluations.queries.delete

    def delete_then_die(*which: str) -> None:
        delete(*which)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(place.evaluations.queries, "delete", delete_then_die)
        with pytest.raises(Killed):
            place.run(AT_ONCE)
    [report] = place.files()
    written = report.read_bytes()
    place.run(AT_ONCE)
    done = place.load(asked)
    assert (done.state, done.pictures) == (JobState.DONE, 0)
    assert report.read_bytes() == written


def test_a_removal_takes_every_evaluation_with_it(place: Place) -> None:
    done, collecting = place.ask(ITSELF), place.ask()
    place.run()
    place.add(collecting, picture("disc"), label="disc")
    waiting = place.ask(ITSELF)
    assert place.remove({"subject": "nobody"}) == 0
    assert {each.id for each in place.evaluations.latest(place.tenant).data} == {done, collecting, waiting}
    other = Place(dataclasses.replace(place.parts, tenant="other"))
    spared = other.ask()
    assert place.remove({"subject": "ann"}) == 5
    assert place.evaluations.latest(place.tenant).data == []
    assert place.left() == []
    assert other.load(spared).state is JobState.COLLECTING
    place.run()
    with pytest.raises(NotFound):
        place.request.add(place.tenant, collecting, [])
    again = place.ask(ITSELF)
    place.run()
    summary = place.load(again).summary
    assert summary is not None
    assert summary.images == 5


def test_what_a_removal_blocked_is_not_evaluated(place: Place) -> None:
    """Promise 2: with a block nothing of it returns, in an evaluation neither."""
    data, other, kept = picture("disc"), picture("bars"), picture("disc")
    place.parts.teach(data, subject="ann")
    assert place.remove({"subject": "ann"}, block=True) == 6
    asked = place.ask()
    place.add(asked, kept, label="disc")
    of_subject = Upload(other, ImageFields(labels=["disc"], subject="ann"))
    with pytest.raises(Blocked):
        place.add(asked, other, data, label="disc")
    with pytest.raises(Blocked):
        place.request.add(place.tenant, asked, [of_subject])
    with pytest.raises(Blocked):
        place.ask(PICTURES.model_copy(update={"filter": Filter.model_validate({"subject": {"not": "ann"}})}))
    race = Once("put", lambda: place.remove({"subject": "carl"}, block=True))
    evaluations = copy.copy(place.evaluations)
    evaluations.queries = cast(EvaluationQueries, Hooked(place.evaluations.queries, race))
    request = dataclasses.replace(place.request, evaluations=evaluations)
    with pytest.raises(Blocked):
        request.add(place.tenant, asked, [Upload(other, ImageFields(labels=["bars"], subject="carl"))])
    assert race.called
    assert place.load(asked).pictures == 1


def test_one_whose_filter_names_what_a_removal_s_does_goes_though_nothing_is_covered(place: Place) -> None:
    named = place.ask(PICTURES.model_copy(update={"filter": Filter.model_validate({"subject": {"not": "carl"}})}))
    spared = place.ask()
    place.evaluations.remove_covered(place.tenant, CoveredImages(list, Filter({"subject": ["carl"]})))
    assert [each.id for each in place.evaluations.latest(place.tenant).data] == [spared]
    assert named != spared


@pytest.mark.parametrize("step", ["pages_with_vectors", "nearest", "get"])
def test_an_evaluation_that_read_what_is_removed_meanwhile_leaves_nothing(place: Place, step: str) -> None:
    """Promise 2: it may not come to its end, whatever it had read before."""
    place.parts.teach(picture("disc"), labels=["bars"], subject="bob")  # a mistake, which is shown
    place.memory = Hooked(place.parts.memory, after=Once(step, lambda: place.remove({"subject": "ann"})))
    place.__post_init__()
    place.ask(ITSELF)
    place.run()
    assert place.memory._after.called
    assert place.left() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_removal_while_the_report_is_stored_takes_it_too(place: Place, when: str) -> None:
    once = Once("write", lambda: place.remove({"subject": "ann"}))
    files = place.evaluations._files
    files._blobs = cast(BlobStore, Hooked(files._blobs, **{when: once}))
    place.ask(ITSELF)
    place.run()
    assert once.called
    assert place.left() == []


def test_nothing_of_a_worker_that_stood_still_is_kept(place: Place) -> None:
    asked = place.ask(ITSELF)
    late, other = place.jobs.begin_next(place.tenant, NEVER), place.jobs.begin_next(place.tenant, AT_ONCE)
    assert late
    assert other
    with pytest.raises(Stopped):
        place.evaluate(late, lambda *_: None)
    assert place.files() == []
    place.evaluate(other, lambda *_: None)
    assert place.evaluations.has_report(place.tenant, asked)
    assert len(place.files()) == 1


def test_the_report_of_a_worker_that_died_too_late_is_tidied(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 3: a compaction begins with it."""
    asked = place.ask(ITSELF)

    def remove_then_die(*_: object) -> bool:
        place.remove({"subject": "ann"})
        monkeypatch.undo()
        files = place.folder / place.tenant / asked
        files.mkdir(parents=True, exist_ok=True)
        (files / "report-of-another.zip").write_bytes(b"written a moment after")
        raise Killed

    monkeypatch.setattr(place.evaluations, "put_report", remove_then_die)
    with pytest.raises(Killed):
        place.run()
    assert len(place.left()) == 1
    assert place.evaluations.latest(place.tenant).data == []
    tidy = RemoveOrphanFiles(
        place.parts.memory,
        place.parts.pictures,
        PeriodicTaskRuns(place.parts.database),
        timedelta(hours=1),
        others=[place.evaluations.delete_orphans],
    )
    assert tidy().deleted == 0, "somebody may be about to name it in a row"
    assert place.evaluations.delete_orphans(now() + timedelta(seconds=1)) == 1
    assert place.left() == []


def test_what_was_half_written_goes_with_the_rest_and_no_other(place: Place) -> None:
    """Promise 3: a draft of a report holds thumbnails."""
    gone, spared = place.ask(), place.ask()
    drafts = [place.folder / place.tenant / each / f".{'0' * 32}" for each in (gone, spared)]
    for draft in drafts:
        draft.parent.mkdir(parents=True)
        draft.write_bytes(b"half of a report")
    assert place.evaluations.delete(place.tenant, gone) == 1
    assert [draft.exists() for draft in drafts] == [False, True]


def test_pictures_that_nobody_starts_to_evaluate_are_tidied_after_a_day(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    forsaken, done = place.ask(), place.ask(ITSELF)
    place.add(forsaken, picture("disc"), label="disc")
    assert place.evaluations.delete_orphans(now()) == 0
    monkeypatch.setattr(evaluation_records, "ABANDONED", timedelta(0))
    place.run()
    assert place.evaluations.delete_orphans(now()) == 1
    assert [each.id for each in place.evaluations.latest(place.tenant).data] == [done]


def test_no_backup_holds_one(place: Place, tmp_path: Path) -> None:
    place.ask(ITSELF)
    place.run()
    place.ask()
    back_up(place.parts, tmp_path / "backup")
    names = {each.table for each in ArchiveReader(tmp_path / "backup", place.parts.receipts.log.signer).rows()}
    assert not names & {"jobs", "evaluations", "questions", "judgements"}


def test_bad_input_is_refused_and_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidFilter):
        place.ask(EvaluationRequest(filter=Filter({"colour": "red"})))
    asked = place.ask()
    with pytest.raises(InvalidRequest, match="no pictures"):
        place.request.start(place.tenant, asked)
    with pytest.raises(InvalidPicture, match="picture 2 of 2"):
        place.add(asked, picture("disc"), picture("disc")[:500], label="disc")
    assert place.load(asked).pictures == 0
    monkeypatch.setattr(request_evaluation, "MAX_QUERIES", 1)
    with pytest.raises(InvalidRequest, match="at most 1"):
        place.add(asked, picture("disc"), picture("disc"), label="disc")
    place.add(asked, picture("disc"), label="disc")
    place.request.start(place.tenant, asked)
    with pytest.raises(InvalidRequest, match="started already"):
        place.add(asked, picture("disc"), label="disc")
    with pytest.raises(InvalidRequest, match="own images"):
        place.add(place.ask(ITSELF), picture("disc"), label="disc")
    for wrong in ("no uuid", "../x", "00000000-0000-4000-8000-000000000000"):
        with pytest.raises(NotFound):
            place.load(wrong)
    with pytest.raises(NotFound, match="it is waiting"):
        place.evaluations.report(place.tenant, asked)


def test_pictures_that_come_too_late_are_refused_and_deleted(place: Place) -> None:
    asked = place.ask()
    place.add(asked, picture("disc"), label="disc")
    embed = place.request.embed

    def slow(tenant: str, pictures: Sequence[bytes]) -> Any:
        place.request.start(place.tenant, asked)
        return embed(tenant, pictures)

    late = dataclasses.replace(place.request, embed=slow)
    with pytest.raises(InvalidRequest, match="started already"):
        late.add(place.tenant, asked, [Upload(picture("bars"), ImageFields(labels=["bars"]))])
    assert place.load(asked).pictures == 1


def test_what_cannot_be_evaluated_fails_with_a_reason(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = place.ask(ITSELF.model_copy(update={"filter": Filter({"subject": "nobody"})}))
    place.run()
    monkeypatch.setattr(evaluation_job, "MAX_IMAGES", 9)
    large = place.ask(ITSELF)
    place.run()
    for failed, reason in ((empty, ""), (large, "10 images are too many")):
        found = place.load(failed)
        assert (found.state, found.summary) == (JobState.FAILED, None)
        assert (found.error or "").startswith(reason)
        assert "see the worker's log" not in (found.error or "")


def test_vectors_of_another_encoder_are_not_compared(place: Place) -> None:
    asked = place.ask()
    place.add(asked, picture("disc"), label="disc")
    place.request.start(place.tenant, asked)
    place.evaluate = dataclasses.replace(place.evaluate, encoder="another")
    place.run()
    assert "encoder pixels" in (place.load(asked).error or "")
    asked, place.request = place.ask(), dataclasses.replace(place.request, encoder="another")
    with pytest.raises(EncoderMismatch, match="begin another"):
        place.add(asked, picture("disc"), label="disc")


def test_few_are_at_work_and_few_are_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_records, "KEPT", 3)
    at_work = [place.ask(ITSELF) for _ in range(2)]
    with pytest.raises(Conflict, match="2 evaluations wait or run"):
        place.ask(ITSELF)
    dropped, *collecting = [place.ask() for _ in range(2)]
    place.request.request(place.tenant, PICTURES, "who may not delete", may_delete=False)
    kept = {each.id for each in place.evaluations.latest(place.tenant).data}
    assert kept > {*at_work, *collecting}, "nobody else's had to go"
    with pytest.raises(NotFound):
        place.load(dropped)


@pytest.mark.parametrize("when", ["collecting", "waiting", "running"])
def test_a_cancelled_one_leaves_no_picture_and_no_report(
    place: Place, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    asked = place.ask()
    place.add(asked, picture("disc"), label="disc")
    assert place.files()
    if when != "collecting":
        place.request.start(place.tenant, asked)
    if when == "running":
        put_report = place.evaluations.put_report

        def put_then_cancel(*arguments: Any) -> None:
            put_report(*arguments)
            place.evaluations.cancel(place.tenant, asked, "bob")

        monkeypatch.setattr(place.evaluations, "put_report", put_then_cancel)
        place.run()
    else:
        place.evaluations.cancel(place.tenant, asked, "bob")
        place.run()
    left = place.load(asked)
    assert (left.state, left.cancelled_by, left.pictures, left.summary) == (JobState.CANCELLED, "bob", 0, None)
    assert place.files() == []
    with pytest.raises(NotFound):
        place.evaluations.report(place.tenant, asked)
    with pytest.raises(InvalidRequest, match="was cancelled"):
        place.add(asked, picture("bars"), label="bars")
    with pytest.raises(InvalidRequest, match="was cancelled"):
        place.request.start(place.tenant, asked)
