"""Run an evaluation in a worker: read the memory and the queries, compute the measures, store the report."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from visual_memory.schemas.classify_options import Effort, GroupBy
from visual_memory.schemas.errors import InvalidPicture, InvalidRequest, NotFound
from visual_memory.schemas.evaluation_request import EvaluationRequest, EvaluationSummary
from visual_memory.schemas.evaluation_results import EvaluationOptions
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.evaluation.neighbour_matrix import LabelledVectors, Vectors
from visual_memory.services.evaluation.request_evaluation import THUMBNAIL_SIDE, check_packages
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.job_records import OwnedJob
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory_facade import Memory

MAX_IMAGES = 200_000
"""Their vectors are in a worker's memory at once: 1 GB with 1,280 dimensions."""
PAGE = 1000
SEARCH_BATCH = 100

Location = tuple[str, int]
"""Key of a batch of queries, and the position of a query in it."""


@dataclass(frozen=True)
class RunEvaluation:
    """The use case of a worker; it embeds nothing, because queries are stored as vectors.

    Attributes:
        encoder: name of the encoder of the memory's vectors.
    """

    evaluations: Evaluations
    memory: Memory
    pictures: PictureStore
    decoder: Decoder
    encoder: str

    def __call__(self, owned: OwnedJob, progress: Progress) -> None:
        """Run an evaluation that was started; running it twice has the effect of once.

        Raises:
            Stopped: it was deleted, or another worker took it over.
            Unavailable: a component does not answer.
            InvalidRequest: it cannot be done; the message says why.
        """
        try:
            self._run(owned, progress)
        except NotFound:
            progress("checking the evaluation", 0, 0)  # raises if the evaluation was deleted
            raise

    def _run(self, owned: OwnedJob, progress: Progress) -> None:
        tenant = owned.tenant
        registration = self.evaluations.registration(tenant, owned.id)
        if registration.encoder != self.encoder:
            raise InvalidRequest(f"this was begun with the encoder {registration.encoder}: begin another evaluation")
        if not self.evaluations.has_report(tenant, owned.id):
            summary, report = self._evaluate(tenant, owned.id, registration.request, progress)
            self.evaluations.put_report(owned, summary, report)
        self.evaluations.queries.delete(tenant, owned.id)

    def _evaluate(
        self, tenant: str, evaluation_id: str, request: EvaluationRequest, progress: Progress
    ) -> tuple[EvaluationSummary, bytes]:
        check_packages()
        # These imports take a second and much memory; only a worker that evaluates needs them.
        from visual_memory.services.evaluation.compute_evaluation import evaluate  # noqa: PLC0415
        from visual_memory.services.evaluation.report.report_files import report_files  # noqa: PLC0415

        clauses = request.filter.clauses(self.memory.metadata)
        locations: dict[str, Location] = {}
        queries = None if request.itself else self._read_queries(tenant, evaluation_id, locations)
        memory = self._read_memory(tenant, clauses, progress)
        evaluation = evaluate(
            memory,
            queries,
            EvaluationOptions(**request.model_dump(exclude={"itself", "filter"})),
            progress,
            encoder=self.encoder,
            approximate=partial(self._search, tenant, clauses),
            thumbnail=lambda image_id, query: self._thumbnail(tenant, image_id, locations if query else {}),
        )
        progress("writing the report", 0, 1)
        known = len({*memory.ids} & {*queries.ids}) if queries else 0
        return EvaluationSummary.of(evaluation, known), _zip(report_files(evaluation))

    def _search(
        self, tenant: str, clauses: Sequence[Clause], vectors: Vectors, k: int, effort: Effort
    ) -> list[list[str]]:
        batches = np.split(vectors, range(SEARCH_BATCH, len(vectors), SEARCH_BATCH))
        nearest = partial(self.memory.search.nearest, tenant, group_by=GroupBy.NONE)
        found = (hits for batch in batches for hits in nearest(batch, k, clauses, effort))
        return [[hit.image_id for hit in hits] for hits in found]

    def _read_memory(self, tenant: str, clauses: Sequence[Clause], progress: Progress) -> LabelledVectors:
        """Every remembered image that matches the filter."""
        total = self.memory.images.count_by_state(tenant, clauses).get(State.REMEMBERED, 0)
        if total > MAX_IMAGES:
            raise InvalidRequest(f"{total} images are too many for one evaluation: narrow it to {MAX_IMAGES} or fewer")
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

    def _read_queries(self, tenant: str, evaluation_id: str, locations: dict[str, Location]) -> LabelledVectors:
        """The labelled queries, each once; fills `locations`, where their thumbnails are."""
        labels: dict[str, list[str]] = {}
        rows: list[Vectors] = []
        for key, batch in self.evaluations.queries.all(tenant, evaluation_id):
            for position, (image_id, sent, row) in enumerate(zip(batch.ids, batch.labels, batch.rows(), strict=True)):
                if image_id not in locations:
                    locations[image_id] = key, position
                    rows.append(row)
                labels[image_id] = list(dict.fromkeys([*labels.get(image_id, []), *sent]))
        vectors = np.array(rows, np.float32).reshape(len(rows), self.memory.dimension)
        return LabelledVectors(list(labels), list(labels.values()), vectors)

    def _thumbnail(self, tenant: str, image_id: str, locations: Mapping[str, Location]) -> bytes | None:
        """The thumbnail of a query with a location, or of a remembered image, if one can be made."""
        if image_id in locations:
            key, position = locations[image_id]
            return self.evaluations.queries.read(key).thumbnails[position]
        try:
            image = self.memory.images.get(tenant, [image_id]).get(image_id)
            if image is None:
                return None
            return self.decoder.thumbnail(tenant, self.pictures.read(image.picture), THUMBNAIL_SIDE)
        except (NotFound, InvalidPicture):  # it was replaced meanwhile, or decoding it now takes too long
            return None


def _zip(files: Mapping[str, bytes]) -> bytes:
    """A zip file, made in memory, because a worker that is killed leaves its temporary files behind."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()
