"""Evaluate: the memory against itself or against labelled pictures, as a job that ends with a report.

Labelled pictures come in pieces, are embedded as they come, and are kept as vectors with labels and thumbnails until
the evaluation is done: they ask, and are never remembered.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import numpy as np

from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.classify_options import Effort, GroupBy
from visual_memory.schemas.errors import Blocked, EncoderMismatch, InvalidPicture, InvalidRequest, NotFound
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest, EvaluationSummary
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State, StoredImage, now
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.evaluation.evaluation_records import Evaluations, Queries
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, Vectors
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.memory import Memory
from visual_memory.services.optional_packages import evaluation_fault
from visual_memory.services.removal.blocklist import SUBJECT, Blocklist
from visual_memory.services.removal.values_named_in_filters import field_values

MOST_QUERIES = 20_000
MOST_IMAGES = 200_000
"""A memory of so many is held in a worker's own memory: 1 GB with 1,280 numbers each."""
PAGE = 1000
SEARCHED_AT_ONCE = 100
THUMBNAIL = 96
"""Pixels of the longer side."""


@dataclass(frozen=True)
class RequestEvaluation:
    """The use case before a worker's: collects what is to be evaluated, and lets a worker do it.

    Attributes:
        embed: pictures to vectors; raises what decoding raises.
        encoder: whose vectors these are.
        enqueue: tells the workers that a tenant has jobs; may fail quietly.
        blocks: what a removal refuses.
    """

    evaluations: Evaluations
    memory: Memory
    decoder: Decoder
    embed: Callable[[str, Sequence[bytes]], Vectors]
    encoder: str
    enqueue: Callable[[str], object]
    blocks: Blocklist

    def request(
        self,
        tenant: str,
        request: EvaluationRequest,
        requested_by: str,
        within: Within = nothing_else,
        *,
        may_delete: bool = True,
    ) -> EvaluationJob:
        """Begin an evaluation: of the memory against itself at once, else it waits for pictures, and to be started.

        Args:
            tenant: whose.
            request: what is asked.
            requested_by: who asks.
            within: what else there is to write.
            may_delete: see `Evaluations.create`.

        Raises:
            InvalidRequest: the packages of an evaluation are not installed.
            InvalidFilter: the filter names an unknown field or a value of the wrong type.
            Blocked: a removal refuses a subject that it names.
            Conflict: too many are at work.
        """
        _check_packages()
        request.filter.clauses(self.memory.metadata)
        subjects = [(SUBJECT, value) for field, value in field_values(request.filter) if field == "subject"]
        if self.blocks.is_any_blocked(tenant, subjects):
            raise Blocked("a removal refuses a subject that the filter names from now on, so nothing of it is kept")
        made = self.evaluations.create(tenant, request, self.encoder, requested_by, within, may_delete=may_delete)
        if request.itself:
            self.enqueue(tenant)
        return made

    def add(self, tenant: str, evaluation_id: str, uploads: Sequence[Upload]) -> EvaluationJob:
        """Add labelled pictures, all or none; one that comes twice counts once, with the labels of both.

        Raises:
            NotFound: there is no such evaluation.
            EncoderMismatch: another encoder classifies than when it was begun.
            InvalidRequest: it takes no pictures, or not so many.
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded; none was added.
            Blocked: a removal refuses a content or subject; none was added.
        """
        begun_with = self.evaluations.registration(tenant, evaluation_id).encoder
        if begun_with != self.encoder:
            raise EncoderMismatch(
                f"this was begun with the encoder {begun_with}, and {self.encoder} classifies now: begin another"
            )
        number = self.evaluations.collecting(tenant, evaluation_id).pictures + len(uploads)
        if number > MOST_QUERIES:
            raise InvalidRequest(f"{number} pictures are too many for one evaluation: send at most {MOST_QUERIES}")
        sent = [_as_image(tenant, upload) for upload in uploads]
        self.blocks.check(sent)
        pictures = [upload.data for upload in uploads]
        queries = Queries(
            ids=[image.image_id for image in sent],
            labels=[upload.fields.labels for upload in uploads],
            vectors=self.embed(tenant, pictures).tobytes(),
            thumbnails=self.decoder.thumbnails(tenant, pictures, THUMBNAIL),
        )
        # once more afterwards: a removal may have looked for evaluations before these were written
        self.evaluations.put_queries(tenant, evaluation_id, queries, lambda: self.blocks.check(sent))
        return self.evaluations.load(tenant, evaluation_id)

    def start(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> EvaluationJob:
        """Let a worker do it; one that was started already stays as it is.

        Raises:
            NotFound: there is no such evaluation.
            InvalidRequest: it has no pictures to ask about.
            Conflict: too many are at work.
        """
        found = self.evaluations.load(tenant, evaluation_id)
        if found.state is not JobState.COLLECTING:
            return found
        if not (found.request.itself or found.pictures):
            raise InvalidRequest("this evaluation has nothing to ask: send labelled pictures before it is started")
        self.evaluations.start(tenant, evaluation_id, within)
        self.enqueue(tenant)
        return self.evaluations.load(tenant, evaluation_id)


@dataclass(frozen=True)
class RunEvaluation:
    """The use case of a worker; it embeds nothing, for pictures that ask came as vectors.

    Attributes:
        encoder: whose vectors the memory holds.
    """

    evaluations: Evaluations
    memory: Memory
    pictures: PictureStore
    decoder: Decoder
    encoder: str

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Do an evaluation that was started; done twice, it is as if it were done once.

        Raises:
            Stopped: it was deleted, or another worker has begun it since.
            Unavailable: a part does not answer.
            InvalidRequest: it cannot be done; the message says why.
        """
        try:
            self._do(owned, progress)
        except NotFound:
            progress("looking for what is gone", 0, 0)  # raises where that is the evaluation itself
            raise

    def _do(self, owned: OwnedJob, progress: Progress) -> None:
        tenant = owned.tenant
        registration = self.evaluations.registration(tenant, owned.id)
        if registration.encoder != self.encoder:
            raise InvalidRequest(f"this was begun with the encoder {registration.encoder}: begin another evaluation")
        if not self.evaluations.has_report(tenant, owned.id):
            summary, report = self._report(tenant, owned.id, registration.request, progress)
            self.evaluations.put_report(owned, summary, report)
        self.evaluations.delete_queries(tenant, owned.id)

    def _report(
        self, tenant: str, evaluation_id: str, request: EvaluationRequest, progress: Progress
    ) -> tuple[EvaluationSummary, bytes]:
        _check_packages()
        # What compares, fits and draws takes a second and much memory to load: only a worker that evaluates needs it.
        from visual_memory.services.evaluation.compute_evaluation import evaluate  # noqa: PLC0415
        from visual_memory.services.evaluation.report.report_files import report_files  # noqa: PLC0415

        clauses = request.filter.clauses(self.memory.metadata)
        places: dict[str, tuple[str, int]] = {}
        queries = None if request.itself else self._queries(tenant, evaluation_id, places)
        memory = self._memory(tenant, clauses, progress)
        found = evaluate(
            memory,
            queries,
            EvaluationOptions(**request.model_dump(exclude={"itself", "filter"})),
            progress,
            encoder=self.encoder,
            approximate=partial(self._search, tenant, clauses),
            thumbnail=lambda image_id, query: self._thumbnail_of(tenant, image_id, places if query else {}),
        )
        progress("writing the report", 0, 1)
        known = len({*memory.ids} & {*queries.ids}) if queries else 0
        return EvaluationSummary.of(found, known), _zipped(report_files(found))

    def _search(
        self, tenant: str, clauses: Sequence[Clause], vectors: Vectors, k: int, effort: Effort
    ) -> list[list[str]]:
        slices = np.split(vectors, range(SEARCHED_AT_ONCE, len(vectors), SEARCHED_AT_ONCE))
        each_alone = partial(self.memory.search.nearest, tenant, group_by=GroupBy.NONE)
        found = (hits for some in slices for hits in each_alone(some, k, clauses, effort))
        return [[hit.image_id for hit in hits] for hits in found]

    def _thumbnail_of(self, tenant: str, image_id: str, places: Mapping[str, tuple[str, int]]) -> bytes | None:
        """Of a query, which has a place, or else of a remembered image."""
        if image_id not in places:
            return self._remembered(tenant, image_id)
        key, place = places[image_id]
        return self.evaluations.read_queries(key).thumbnails[place]

    def _memory(self, tenant: str, clauses: Sequence[Clause], progress: Progress) -> LabelledVectors:
        """Every remembered image that meets the filter."""
        total = self.memory.images.count_by_state(tenant, clauses).get(State.REMEMBERED, 0)
        if total > MOST_IMAGES:
            raise InvalidRequest(f"{total} images are too many for one evaluation: narrow it to {MOST_IMAGES} or fewer")
        ids: list[str] = []
        labels: list[list[str]] = []
        contents: list[str] = []
        pages: list[Vectors] = []
        for images, vectors in self.memory.images.pages_with_vectors(tenant, clauses, PAGE):
            ids += [image.image_id for image in images]
            labels += [image.labels for image in images]
            contents += [image.content_hash for image in images]
            pages.append(vectors)
            progress("reading the memory", len(ids), total)
        return LabelledVectors(ids, labels, np.concatenate(pages), contents)

    def _queries(self, tenant: str, evaluation_id: str, places: dict[str, tuple[str, int]]) -> LabelledVectors:
        """The pictures that were sent, each once; fills `places` with where the thumbnail of each is."""
        labels: dict[str, list[str]] = {}
        rows: list[Vectors] = []
        for key, queries in self.evaluations.queries(tenant, evaluation_id):
            for place, (image_id, said, row) in enumerate(
                zip(queries.ids, queries.labels, queries.rows(), strict=True)
            ):
                if image_id not in places:
                    places[image_id] = key, place
                    rows.append(row)
                labels[image_id] = list(dict.fromkeys([*labels.get(image_id, []), *said]))
        vectors = np.array(rows, np.float32).reshape(len(rows), self.memory.dimension)
        return LabelledVectors(list(labels), list(labels.values()), vectors)

    def _remembered(self, tenant: str, image_id: str) -> bytes | None:
        """A remembered image's thumbnail, if it can be had."""
        try:
            held = self.memory.images.get(tenant, [image_id]).get(image_id)
            return None if held is None else self.decoder.thumbnail(tenant, self.pictures.read(held.picture), THUMBNAIL)
        except (NotFound, InvalidPicture):  # it was replaced at this moment, or decoding it takes too long now
            return None


def _check_packages() -> None:
    if fault := evaluation_fault():
        raise InvalidRequest(fault)


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """Files by their paths as one zip file; made in memory, for a worker that dies leaves its temporary files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def _as_image(tenant: str, upload: Upload) -> StoredImage:
    """What was sent as the image that it would be, so that the same is refused."""
    content_hash = sha256(upload.data).hexdigest()
    return StoredImage(
        tenant=tenant,
        image_id=upload.fields.image_id or content_hash,
        labels=upload.fields.labels,
        subject=upload.fields.subject,
        content_hash=content_hash,
        state=State.WAITING,
        accepted_at=now(),
        picture="",
    )
