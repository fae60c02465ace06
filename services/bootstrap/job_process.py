"""Wire the job worker, the process that runs background jobs and maintenance; it loads no encoder."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from visual_memory.schemas.encoder import EncoderSpec
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_events import wire_publisher
from visual_memory.services.bootstrap.wiring.wire_memory import (
    active_spec,
    encoder_records_of,
    memory_of,
    wait_for_collection,
    wire_decoder,
    wire_engine,
)
from visual_memory.services.bootstrap.wiring.wire_records import wire_records
from visual_memory.services.bootstrap.wiring.wire_removal import check_restored, wire_erase_removed_data, wire_stores
from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_job_queue
from visual_memory.services.bootstrap.wiring.wire_use_cases import Unloaded, wire_classify_by, wire_run_jobs
from visual_memory.services.classification.classify import Classify
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs
from visual_memory.services.settings import Settings

ERASE, REMOVE_ORPHANS = "erase", "remove_orphans"
EVERY = MappingProxyType({ERASE: 10.0, REMOVE_ORPHANS: 60.0})
"""Seconds between the end of each maintenance task and the next check for whether it is due."""


@dataclass(frozen=True)
class JobProcess:
    """The use cases, for one encoder.

    Attributes:
        maintenance: the tasks that run in separate threads, by the names in `EVERY`.
    """

    job_queue: TaskQueue
    run_jobs: RunJobs
    maintenance: Mapping[str, Callable[[], object]]


@contextmanager
def job_process(settings: Settings) -> Iterator[ActiveUseCases[JobProcess]]:
    """Wait for the collection, which the API or a worker creates, and wire the use cases.

    Raises:
        Unavailable: the store does not answer, or a restore is unfinished.
    """
    with ExitStack() as opened:
        secret = load_secret(settings)
        database = wire_records(settings, opened)
        engine, records = wire_engine(settings, opened, settings.store.timeout), encoder_records_of(database)
        wait_for_collection(engine, records)
        decoder, job_queue = wire_decoder(settings, opened), wire_job_queue(settings, opened)
        publish = wire_publisher(settings, opened)
        classify_by = wire_classify_by(settings, database, engine, records, decoder)

        def wire(encoder: EncoderSpec) -> JobProcess:
            memory = memory_of(settings, engine, encoder)
            stores = wire_stores(settings, database, memory, secret, encoder.name, publish)
            check_restored(stores)
            unloaded = Unloaded(encoder.name, encoder.dimension)
            classify = Classify(memory, unloaded, decoder, 1, settings.curate.prune, stores.judgements.used)
            explain = Explain.of(classify, stores.decisions, classify_by)
            compact = wire_erase_removed_data(settings, memory, stores)
            return JobProcess(
                job_queue=job_queue,
                run_jobs=wire_run_jobs(settings, memory, stores, decoder, explain, job_queue.enqueue),
                maintenance={ERASE: compact.if_due, REMOVE_ORPHANS: compact.remove_orphans.if_due},
            )

        yield ActiveUseCases(partial(active_spec, records), wire)
