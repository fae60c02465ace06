"""Wire the use cases that several processes share: accept, remember, classify and judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.schemas.errors import EncoderMismatch, NotFound
from visual_memory.services.bootstrap.wiring.wire_memory import memory_of, slice_size
from visual_memory.services.bootstrap.wiring.wire_removal import Stores, check_labels_of, judgements_of
from visual_memory.services.classification.classify import Classify
from visual_memory.services.curation.judgement.judge_memory import JudgeMemory
from visual_memory.services.curation.judgement.update_judgement_input import UpdateJudgementInput
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.decisions.explanations.explanation_jobs import RunExplanation
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.decoding.preprocessing_crop import NO_CROP, PreprocessingCrop
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.evaluation.evaluation_job import RunEvaluation
from visual_memory.services.infrastructure.records.database import Database
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs, Work
from visual_memory.services.intake.accept_pictures import AcceptPictures
from visual_memory.services.intake.execute_put_plan import PutImages
from visual_memory.services.intake.remember_pictures import EmbedWithOthers, RememberPictures, no_other_encoders
from visual_memory.services.intake.retention_limits import RetentionLimits
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.review.claim_items import ClaimItems
from visual_memory.services.review.existing_items import ExistingItems
from visual_memory.services.review.list_review import ListReview
from visual_memory.services.review.mark_reviewed import MarkReviewed
from visual_memory.services.review.review_queue import Review
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.engine_contract import Engine

CACHED_ENCODERS = 4
"""Encoders, other than the active one, for which classifying is cached."""


def lease_of(settings: Settings) -> timedelta:
    """How long images, jobs and removals are left to the process that works on them."""
    return timedelta(seconds=settings.worker.lease_seconds)


def wire_accept(
    settings: Settings,
    memory: Memory,
    stores: Stores,
    decoder: Decoder,
    enqueue: Callable[[str], object],
    check_clock: Callable[[], object] = lambda: None,
) -> AcceptPictures:
    """Wire accepting pictures; `check_clock` raises if this machine's clock must not be used for acceptance times."""
    retention = RetentionLimits(settings.retention)
    put = PutImages(memory, stores.pictures, stores.blocks, settings.metadata, retention, check_clock)
    return AcceptPictures(put, decoder, enqueue, stores.publish, stores.count_usage)


def wire_remember(
    settings: Settings,
    memory: Memory,
    stores: Stores,
    encoder: SharedEncoder,
    decoder: Decoder,
    enqueue: Callable[[str], object],
    embed_with_others: EmbedWithOthers = no_other_encoders,
) -> RememberPictures:
    """Wire remembering pictures; `embed_with_others` embeds them with other encoders."""
    size, attempts = slice_size(encoder), settings.worker.max_attempts
    check_labels, lease = check_labels_of(settings, memory), lease_of(settings)
    return RememberPictures(
        memory,
        stores.pictures,
        encoder,
        decoder,
        enqueue,
        size,
        lease,
        attempts,
        check_labels,
        embed_with_others,
        publish=stores.publish,
        count_usage=stores.count_usage,
    )


def wire_review(database: Database, memory: Memory, stores: Stores) -> Review:
    """Wire the review queue."""
    existing = ExistingItems(database, memory)
    listed = ListReview(database, memory, ListSuspects(memory, stores.judgements))
    return Review(listed, MarkReviewed(database, existing), ClaimItems(database, existing, listed))


def wire_classify(
    settings: Settings, memory: Memory, stores: Stores, encoder: SharedEncoder, decoder: Decoder
) -> Classify:
    """Wire classifying."""
    size, used = slice_size(encoder), stores.judgements.used
    return Classify(memory, encoder, decoder, size, settings.curate.prune, used, stores.count_usage)


def wire_judge(settings: Settings, memory: Memory, stores: Stores) -> JudgeMemory:
    """Wire judging the memory."""
    curate = settings.curate
    fold = UpdateJudgementInput(memory, VectorCache(curate.cache_bytes), curate.max_images)
    return JudgeMemory(memory, stores.judgements, fold, curate.k, stores.publish)


def wire_run_jobs(
    settings: Settings,
    memory: Memory,
    stores: Stores,
    decoder: Decoder,
    explain: Explain,
    enqueue: Callable[[str], object],
) -> RunJobs:
    """Wire the jobs: judgements, evaluations and explanations."""
    run_explanation = RunExplanation(stores.explanation_jobs, explain)
    run_evaluation = RunEvaluation(stores.evaluations, memory, stores.pictures, decoder, memory.points.encoder)
    kinds: dict[JobKind, Work] = {
        JobKind.JUDGEMENT: wire_judge(settings, memory, stores),
        JobKind.EVALUATION: run_evaluation,
        JobKind.COUNTERFACTUAL: run_explanation,
        JobKind.INFLUENCE: run_explanation,
    }
    return RunJobs(stores.jobs, lease_of(settings), kinds, enqueue, stores.publish)


@dataclass(frozen=True)
class Unloaded:
    """An encoder whose vectors are compared in a process that does not embed."""

    name: str
    dimension: int
    crop: PreprocessingCrop = NO_CROP
    batch_size: int = 1

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        """Raise, because the encoder is not loaded."""
        raise NotImplementedError(f"{len(images)} pictures of {tenant!r} were to be embedded by {self.name}")


def wire_classify_by(
    settings: Settings, database: Database, engine: Engine, records: EncoderRecords, decoder: Decoder
) -> Callable[[str], Classify]:
    """Wire classifying by any encoder of the memory, found by its name, without loading it."""

    @lru_cache(CACHED_ENCODERS)
    def wired(spec: EncoderSpec) -> Classify:
        memory = memory_of(settings, engine, spec)
        judgement = judgements_of(settings, database, spec.name).current
        return Classify(memory, Unloaded(spec.name, spec.dimension), decoder, 1, settings.curate.prune, judgement)

    def classify_by(encoder: str) -> Classify:
        try:
            spec = records.get(encoder)
        except NotFound:
            spec = None
        if spec is None or encoder in records.dropping():
            raise EncoderMismatch(
                f"this was decided by vectors of the encoder {encoder}, which this memory does not have, or not any"
                " more: they cannot be compared with others; classify the picture again"
            )
        return wired(spec)

    return classify_by
