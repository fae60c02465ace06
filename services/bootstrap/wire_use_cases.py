"""Use cases over an engine and an encoder that are given, each wired once for whichever process has it."""

from collections.abc import Callable
from datetime import timedelta

from services.answers.classify import Classify
from services.bootstrap.wire_memory import slice_size
from services.bootstrap.wire_removal import Stores, objections_of
from services.curation.fold_changes import FoldChanges
from services.curation.judge import Judge
from services.curation.vector_cache import VectorCache
from services.forgetting.retention import Retention
from services.intake.accept import Accept
from services.intake.remember import Further, Remember, nothing_further
from services.memory.memory import Memory
from services.perception.batching import SharedEncoder
from services.perception.decoder import Decoder
from services.settings import Settings


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
