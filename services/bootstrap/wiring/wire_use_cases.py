"""Use cases over an engine and an encoder that are given, each wired once for whichever process has it."""

from collections.abc import Callable
from datetime import timedelta

from visual_memory.services.bootstrap.wiring.wire_memory import slice_size
from visual_memory.services.bootstrap.wiring.wire_removal import Stores, objections_of
from visual_memory.services.classification.classify import Classify
from visual_memory.services.curation.judgement.judge_memory import Judge
from visual_memory.services.curation.judgement.update_judgement_input import FoldChanges
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.data_governance.retention_limits import Retention
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.intake.accept_pictures import Accept
from visual_memory.services.intake.remember_pictures import Further, Remember, nothing_further
from visual_memory.services.memory.memory import Memory
from visual_memory.services.settings import Settings


def lease_of(settings: Settings) -> timedelta:
    """How long images, jobs and removals are left to whoever works on them."""
    return timedelta(seconds=settings.worker.overdue_seconds)


def wire_accept(
    settings: Settings,
    memory: Memory,
    stores: Stores,
    decoder: Decoder,
    enqueue: Callable[[str], object],
    check_clock: Callable[[], object] = lambda: None,
) -> Accept:
    """Accepting pictures; `check_clock` refuses to where this process's clock is wrong."""
    retention = Retention(settings.retention)
    return Accept(memory, stores.pictures, stores.blocks, decoder, enqueue, settings.metadata, retention, check_clock)


def wire_remember(
    settings: Settings,
    memory: Memory,
    stores: Stores,
    encoder: SharedEncoder,
    decoder: Decoder,
    enqueue: Callable[[str], object],
    further: Further = nothing_further,
) -> Remember:
    """Remembering what waits; `further` makes the vectors of other encoders."""
    size, attempts = slice_size(encoder), settings.worker.max_attempts
    objections, lease = objections_of(settings, memory), lease_of(settings)
    return Remember(memory, stores.pictures, encoder, decoder, enqueue, size, lease, attempts, objections, further)


def wire_classify(
    settings: Settings, memory: Memory, stores: Stores, encoder: SharedEncoder, decoder: Decoder
) -> Classify:
    """Classifying."""
    return Classify(memory, encoder, decoder, slice_size(encoder), settings.curate.prune, stores.judgements.used)


def wire_judge(settings: Settings, memory: Memory, stores: Stores) -> Judge:
    """Judging the memory."""
    curate = settings.curate
    fold = FoldChanges(memory, VectorCache(curate.cache_bytes), curate.most_images)
    return Judge(memory, stores.judgements, fold, curate.k)
