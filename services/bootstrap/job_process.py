"""All that a worker of jobs needs: what may take minutes. It embeds nothing, so no encoder is loaded."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from schemas.job import JobKind
from services.access.secret import load_secret
from services.answers.classify import Classify
from services.answers.question import Question
from services.answers.question_jobs import AnswerQuestion
from services.bootstrap.wire_memory import wire_decoder, wire_engine
from services.bootstrap.wire_removal import check_restored, wire_compact, wire_stores
from services.bootstrap.wire_task_queue import wire_job_queue
from services.curation.fold_changes import FoldChanges
from services.curation.judge import Judge
from services.curation.vector_cache import VectorCache
from services.evaluation.job import Evaluate
from services.infrastructure.task_queue import task_names
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.memory.collection import held_encoder
from services.memory.engine import Engine
from services.memory.memory import Memory
from services.perception.view import ALL, View
from services.runtime.jobs import RunJobs
from services.settings import Settings

POLL = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobProcess:
    """The use cases.

    Attributes:
        duties: what beat asks for, by the task's name.
    """

    job_queue: TaskQueue
    run_jobs: RunJobs
    duties: Mapping[str, Callable[[], object]]


@contextmanager
def job_process(settings: Settings) -> Iterator[JobProcess]:
    """Wire the use cases over the collection, once there is one: whoever embeds creates it.

    Raises:
        Unavailable: the store does not answer, or a restore did not end.
    """
    with ExitStack() as opened:
        curate = settings.curate
        engine = wire_engine(settings, opened, settings.store.timeout)
        encoder, dimension = _encoder_of(engine)
        memory = Memory(engine, encoder, dimension, settings.metadata)
        stores = wire_stores(settings, memory, load_secret(settings), encoder)
        check_restored(stores)
        decoder = wire_decoder(settings, opened)
        evaluate = Evaluate(stores.evaluations, memory, stores.pictures, decoder, encoder)
        unloaded = _Unloaded(encoder, dimension)
        classify = Classify(memory, unloaded, decoder, 1, curate.prune, stores.judgements.used)
        answer_question = AnswerQuestion(stores.questions, Question(classify, stores.decisions))
        fold = FoldChanges(memory, VectorCache(curate.cache_bytes), curate.most_images)
        judge = Judge(memory, stores.judgements, fold, curate.k)
        job_queue, compact = wire_job_queue(settings, opened), wire_compact(settings, memory, stores)
        yield JobProcess(
            job_queue=job_queue,
            run_jobs=RunJobs(
                stores.jobs,
                timedelta(seconds=settings.worker.overdue_seconds),
                {
                    JobKind.JUDGEMENT: judge,
                    JobKind.EVALUATION: evaluate,
                    JobKind.COUNTERFACTUAL: answer_question,
                    JobKind.INFLUENCE: answer_question,
                },
                job_queue.enqueue,
            ),
            duties={task_names.ERASE: compact.if_due, task_names.REMOVE_ORPHANS: compact.tidy.if_due},
        )


@dataclass(frozen=True)
class _Unloaded:
    """The encoder whose vectors are compared, in a process that makes none."""

    name: str
    dimension: int
    view: View = ALL
    batch_size: int = 1

    def encode(self, images: Sequence[PIL.Image.Image], tenant: str = "") -> NDArray[np.float32]:
        raise NotImplementedError(f"{len(images)} pictures of {tenant!r} were to be embedded by a worker of jobs")


def _encoder_of(engine: Engine) -> tuple[str, int]:
    """The encoder whose vectors the collection holds, and their length; waits until there is a collection."""
    held = held_encoder(engine)
    if held is None:
        log.info("there is no collection yet: waiting for the API or a worker to create it")
    while held is None:
        time.sleep(POLL)
        held = held_encoder(engine)
    return held
