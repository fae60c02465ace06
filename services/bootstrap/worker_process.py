"""Wire the worker, the process that remembers pictures and runs short periodic tasks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from visual_memory.schemas.classify_options import Prune
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases, wire_fill
from visual_memory.services.bootstrap.wiring.wire_events import wire_publisher
from visual_memory.services.bootstrap.wiring.wire_memory import (
    memory_of,
    open_memory,
    wire_decoder,
    wire_encoders,
    wire_engine,
)
from visual_memory.services.bootstrap.wiring.wire_records import wire_records, wire_usage
from visual_memory.services.bootstrap.wiring.wire_removal import check_restored, wire_removal_steps, wire_stores
from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_job_queue, wire_task_queue
from visual_memory.services.bootstrap.wiring.wire_use_cases import lease_of, wire_remember
from visual_memory.services.changes.trim_changes import TrimChanges
from visual_memory.services.curation.schedule_judgements import ScheduleJudgements
from visual_memory.services.data_governance.remove_expired_images import RemoveExpiredImages
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.infrastructure.task_queue import task_names
from visual_memory.services.infrastructure.task_queue.enqueue import TaskQueue
from visual_memory.services.infrastructure.task_queue.job_runner import SweepJobs
from visual_memory.services.intake.embed_with_other_encoders import EmbedWithOtherEncoders
from visual_memory.services.intake.enqueue_overdue_images import SweepImages
from visual_memory.services.intake.remember_pictures import RememberPictures
from visual_memory.services.settings import Settings


@dataclass(frozen=True)
class WorkerProcess:
    """The use cases, for one encoder.

    Attributes:
        periodic_tasks: the tasks that beat schedules, by their names.
    """

    task_queue: TaskQueue
    remember: RememberPictures
    periodic_tasks: Mapping[str, Callable[[], object]]


@contextmanager
def worker_process(settings: Settings) -> Iterator[ActiveUseCases[WorkerProcess]]:
    """Load the encoder, open the collection, and wire the use cases.

    Raises:
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the memory does not have the encoder of the settings, or its files have changed.
        Unavailable: the store does not answer, or a restore is unfinished.
    """
    with ExitStack() as opened:
        curate, secret = settings.curate, load_secret(settings)
        database = wire_records(settings, opened)
        engine = wire_engine(settings, opened, settings.store.timeout)
        encoders = wire_encoders(settings, opened, database, engine)
        open_memory(settings, database, engine, encoders.active())
        sandbox = wire_decoder(settings, opened)
        task_queue, job_queue = wire_task_queue(settings, opened), wire_job_queue(settings, opened)
        lease, publish, usage = lease_of(settings), wire_publisher(settings, opened), wire_usage(database, opened)

        def wire(encoder: SharedEncoder) -> WorkerProcess:
            memory = memory_of(settings, engine, encoder)
            stores = wire_stores(settings, database, memory, secret, encoder.name, publish, usage.count)
            check_restored(stores)
            decoder, removal_steps = sandbox.with_crop(encoder.crop), wire_removal_steps(memory, stores, lease)
            other_encoders = partial(encoders.others, encoder.name)
            schedule = ScheduleJudgements(
                memory,
                stores.judgements,
                stores.jobs,
                job_queue.enqueue,
                curate.max_images,
                always=curate.prune is not Prune.NONE,
            )
            return WorkerProcess(
                task_queue=task_queue,
                remember=wire_remember(
                    settings,
                    memory,
                    stores,
                    encoder,
                    decoder,
                    task_queue.enqueue,
                    EmbedWithOtherEncoders(other_encoders, stores.pictures, decoder),
                ),
                periodic_tasks={
                    task_names.SWEEP_IMAGES: SweepImages(memory, task_queue, lease),
                    task_names.SWEEP_JOBS: SweepJobs(stores.jobs, lease, job_queue.enqueue_again),
                    task_names.RESUME_REMOVALS: removal_steps.resume_all,
                    task_names.EXPIRE: RemoveExpiredImages(memory, stores.removals, removal_steps).if_due,
                    task_names.START_JUDGEMENTS: schedule.start_due,
                    task_names.TRIM_CHANGES: TrimChanges(
                        database, curate.keep_changes, timedelta(days=curate.keep_changes_days)
                    ),
                },
            )

        wired = ActiveUseCases(encoders.active, wire)
        wire_fill(settings, opened, database, encoders)
        yield wired
