"""All that a worker needs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from schemas.decision import Prune
from schemas.job import JobKind
from services.access.secret import load_secret
from services.answers.classify import Classify
from services.answers.question import Question
from services.answers.question_jobs import AnswerQuestion
from services.bootstrap.wire_memory import slice_size, wire_decoder, wire_encoder, wire_memory
from services.bootstrap.wire_removal import check_restored, wire_compact, wire_forget, wire_stores
from services.bootstrap.wire_task_queue import wire_task_queue
from services.curation.fold_changes import FoldChanges
from services.curation.judge import Judge
from services.curation.judging import Judging
from services.curation.objections import Objections
from services.curation.vector_cache import VectorCache
from services.evaluation.job import Evaluate
from services.forgetting.compact import Compact
from services.forgetting.forget import Forget
from services.forgetting.retention import Expire
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.intake.remember import Remember, Sweep
from services.runtime.jobs import RunJob, SweepJobs
from services.settings import Settings


@dataclass(frozen=True)
class WorkerProcess:
    """The use cases."""

    task_queue: TaskQueue
    remember: Remember
    sweep: Sweep
    sweep_jobs: SweepJobs
    forget: Forget
    expire: Expire
    compact: Compact
    judging: Judging
    run_job: RunJob


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
        encoder = wire_encoder(settings, opened)
        memory = wire_memory(settings, opened, encoder.name, encoder.dimension, settings.store.timeout)
        memory.open()
        stores = wire_stores(settings, memory, secret)
        check_restored(stores)
        decoder, task_queue = wire_decoder(settings, opened, encoder.view), wire_task_queue(settings, opened)
        lease = timedelta(seconds=worker.overdue_seconds)
        forget = wire_forget(memory, stores, lease)
        fold = FoldChanges(memory, VectorCache(curate.cache_bytes), curate.most_images)
        objections = Objections(memory, curate.gate, curate.gate_share, curate.k)
        classify = Classify(memory, encoder, decoder, slice_size(encoder), curate.prune, stores.judgements.used)
        answer_question = AnswerQuestion(stores.questions, Question(classify, stores.decisions))
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
            sweep=Sweep(memory, task_queue, lease),
            sweep_jobs=SweepJobs(stores.jobs, task_queue, lease),
            forget=forget,
            expire=Expire(memory, stores.removals, forget),
            compact=wire_compact(settings, memory, stores),
            judging=Judging(
                memory,
                stores.judgements,
                stores.jobs,
                task_queue,
                curate.most_images,
                always=curate.prune is not Prune.NONE,
            ),
            run_job=RunJob(
                stores.jobs,
                lease,
                {
                    JobKind.JUDGEMENT: Judge(memory, stores.judgements, fold, encoder.name, curate.k),
                    JobKind.COUNTERFACTUAL: answer_question,
                    JobKind.INFLUENCE: answer_question,
                    JobKind.EVALUATION: Evaluate(stores.evaluations, memory, stores.pictures, decoder, encoder.name),
                },
            ),
        )
