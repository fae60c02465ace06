"""Request an evaluation and send its labelled pictures, which are embedded on arrival and never remembered.

The pictures arrive in several requests. Until the evaluation is done they are stored as vectors with labels and
thumbnails. `services.evaluation.evaluation_job` runs the evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.errors import Blocked, EncoderMismatch, InvalidRequest
from visual_memory.schemas.evaluation_request import EvaluationJob, EvaluationRequest
from visual_memory.schemas.image import State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.evaluation.evaluation_files import QueryBatch
from visual_memory.services.evaluation.evaluation_queries import not_collecting
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.evaluation.neighbour_matrix import Vectors
from visual_memory.services.infrastructure.records.database import Within, nothing_else
from visual_memory.services.intake.accept_pictures import Upload
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.optional_packages import evaluation_fault
from visual_memory.services.removal.blocklist import SUBJECT, Blocklist
from visual_memory.services.removal.values_named_in_filters import field_values

MAX_QUERIES = 20_000
THUMBNAIL_SIDE = 96
"""Pixels of the longer side."""


@dataclass(frozen=True)
class RequestEvaluation:
    """The use case of the API: create an evaluation, collect its pictures, and enqueue it for a worker.

    Attributes:
        embed: a tenant's pictures to vectors; raises what decoding raises.
        encoder: name of the encoder of these vectors.
        enqueue: tells the workers that a tenant has jobs; a failure is not reported.
        blocks: contents and subjects that are refused after a removal.
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
        """Create an evaluation: it starts at once if the memory is its own queries, otherwise it waits for pictures.

        Args:
            tenant: whose.
            request: what to evaluate.
            requested_by: the caller's name.
            within: what else to write in the same transaction.
            may_delete: see `Evaluations.create`.

        Raises:
            InvalidFilter: the filter contains an unknown field or a value of the wrong type.
            Blocked: the filter contains a subject that is refused after a removal.
            Conflict: too many evaluations wait or run.
        """
        check_packages()
        request.filter.clauses(self.memory.metadata)
        subjects = [(SUBJECT, value) for field, value in field_values(request.filter) if field == "subject"]
        if self.blocks.is_any_blocked(tenant, subjects):
            raise Blocked("a removal refuses a subject that the filter names from now on, so nothing of it is kept")
        made = self.evaluations.create(tenant, request, self.encoder, requested_by, within, may_delete=may_delete)
        if request.itself:
            self.enqueue(tenant)
        return made

    def add(self, tenant: str, evaluation_id: str, uploads: Sequence[Upload]) -> EvaluationJob:
        """Add labelled pictures, all or none; a picture that is sent twice counts once, with the labels of both.

        Raises:
            NotFound: there is no such evaluation.
            EncoderMismatch: the encoder was switched since the evaluation was created.
            InvalidRequest: it accepts no pictures, or not so many.
            InvalidPicture, UnsupportedFormat, TooLarge: a picture cannot be decoded; none was added.
            Blocked: a content or subject is refused after a removal; none was added.
        """
        encoder = self.evaluations.registration(tenant, evaluation_id).encoder
        if encoder != self.encoder:
            raise EncoderMismatch(
                f"this was begun with the encoder {encoder}, and {self.encoder} classifies now: begin another"
            )
        number = self.evaluations.collecting(tenant, evaluation_id).pictures + len(uploads)
        if number > MAX_QUERIES:
            raise InvalidRequest(f"{number} pictures are too many for one evaluation: send at most {MAX_QUERIES}")
        images = [_as_image(tenant, upload) for upload in uploads]
        self.blocks.check(images)
        pictures = [upload.data for upload in uploads]
        queries = QueryBatch(
            ids=[image.image_id for image in images],
            labels=[upload.fields.labels for upload in uploads],
            vectors=self.embed(tenant, pictures).tobytes(),
            thumbnails=self.decoder.thumbnails(tenant, pictures, THUMBNAIL_SIDE),
        )
        # Check again afterwards: a removal may have searched the evaluations before these were stored.
        self.evaluations.queries.put(tenant, evaluation_id, queries, lambda: self.blocks.check(images))
        return self.evaluations.load(tenant, evaluation_id)

    def start(self, tenant: str, evaluation_id: str, within: Within = nothing_else) -> EvaluationJob:
        """Enqueue an evaluation for a worker; one that was started already is not changed.

        Raises:
            NotFound: there is no such evaluation.
            InvalidRequest: it has no pictures, or was cancelled.
            Conflict: too many evaluations wait or run.
        """
        found = self.evaluations.load(tenant, evaluation_id)
        if found.state is JobState.CANCELLED:
            raise not_collecting(found.state)
        if found.state is not JobState.COLLECTING:
            return found
        if not (found.request.itself or found.pictures):
            raise InvalidRequest("this evaluation has no pictures: send labelled pictures before it is started")
        self.evaluations.start(tenant, evaluation_id, within)
        self.enqueue(tenant)
        return self.evaluations.load(tenant, evaluation_id)


def check_packages() -> None:
    """Check that the packages for evaluations are installed.

    Raises:
        InvalidRequest: one is missing; the message says what to install.
    """
    if fault := evaluation_fault():
        raise InvalidRequest(fault)


def _as_image(tenant: str, upload: Upload) -> StoredImage:
    """The image that the upload would become, for the blocklist."""
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
