"""All that a worker needs: to remember what waits, and the duties that are quickly done."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from schemas.decision import Prune
from services.access.secret import load_secret
from services.bootstrap.wire_memory import active_encoder, slice_size, wire_decoder, wire_encoder, wire_engine
from services.bootstrap.wire_removal import check_restored, wire_forget, wire_stores
from services.bootstrap.wire_task_queue import wire_job_queue, wire_task_queue
from services.curation.judging import Judging
from services.curation.objections import Objections
from services.forgetting.retention import Expire
from services.infrastructure.task_queue import task_names
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.intake.remember import Remember, Sweep
from services.memory.memory import Memory
from services.runtime.jobs import SweepJobs
from services.settings import Settings


@dataclass(frozen=True)
class WorkerProcess:
    """The use cases.

    Attributes:
        duties: what beat asks for, by the task's name.
    """

    task_queue: TaskQueue
    remember: Remember
    duties: Mapping[str, Callable[[], object]]


@contextmanager
def worker_process(settings: Settings) -> Iterator[WorkerProcess]:
    """Load the encoder, open the collection, wire the use cases.

    Raises:
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the collection holds another encoder's vectors.
        Unavailable: the store does not answer, or a restore did not end.
    """
    with ExitStack() as opened:
        worker, curate, secret = settings.worker, settings.curate, load_secret(settings)
        engine = wire_engine(settings, opened, settings.store.timeout)
        encoder = wire_encoder(settings, opened, active_encoder(settings, engine))
        memory = Memory(engine, encoder.name, encoder.dimension, settings.metadata)
        memory.open()
        stores = wire_stores(settings, memory, secret, encoder.name)
        check_restored(stores)
        decoder, task_queue = wire_decoder(settings, opened, encoder.view), wire_task_queue(settings, opened)
        job_queue = wire_job_queue(settings, opened)
        lease = timedelta(seconds=worker.overdue_seconds)
        forget = wire_forget(memory, stores, lease)
        objections = Objections(memory, curate.gate, curate.gate_share, curate.k)
        judging = Judging(
            memory,
            stores.judgements,
            stores.jobs,
            job_queue.enqueue,
            curate.most_images,
            always=curate.prune is not Prune.NONE,
        )
        yield WorkerProcess(
            task_queue=task_queue,
            remember=Remember(
                memory,
                stores.pictures,
                encoder,
                decoder,
                task_queue.enqueue,
                slice_size(encoder),
                lease,
                worker.max_attempts,
                objections,
            ),
            duties={
                task_names.SWEEP_IMAGES: Sweep(memory, task_queue, lease),
                task_names.SWEEP_JOBS: SweepJobs(stores.jobs, lease, job_queue.enqueue_again),
                task_names.RESUME_REMOVALS: forget.carry_on_all,
                task_names.EXPIRE: Expire(memory, stores.removals, forget).if_due,
                task_names.START_JUDGEMENTS: judging.start_due,
            },
        )
