"""All that the API needs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from services.access.audit import Audit
from services.access.keys import Keys
from services.access.rates import Rates
from services.access.secret import load_secret
from services.answers.classify import Classify
from services.answers.decisions import StoredDecisions
from services.answers.question import Question
from services.answers.question_jobs import AskLater, Questions
from services.answers.rerank import Rerank
from services.bootstrap.wire_access import audit_of, keys_of
from services.bootstrap.wire_memory import (
    active_encoder,
    slice_size,
    wire_decoder,
    wire_encoder,
    wire_engine,
    wire_threads,
)
from services.bootstrap.wire_removal import check_restored, wire_forget, wire_stores
from services.bootstrap.wire_reranking import wire_rerank
from services.bootstrap.wire_task_queue import wire_job_queue, wire_rates, wire_task_queue
from services.curation.curate import Curate
from services.curation.judging import Judging
from services.evaluation.job import RequestEvaluation
from services.evaluation.records import Evaluations
from services.forgetting.forget import Forget
from services.forgetting.removals import Removals
from services.forgetting.retention import Retention
from services.infrastructure.processes.fair_executor import FairExecutor
from services.intake.accept import Accept
from services.intake.fetch import HTTPS, Fetch
from services.intake.vectors import AcceptVectors
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.perception.decoder import Decoder
from services.runtime.readiness import Check, ReadinessChecks
from services.settings import Settings

REMOVALS_AT_ONCE = 4


@dataclass(frozen=True)
class ApiProcess:
    """The wired parts and use cases.

    Attributes:
        memory: gives up on a silent store soon, because a caller waits.
        background: for removals, which may take long.
    """

    settings: Settings
    keys: Keys
    rates: Rates
    audit: Audit
    readiness: ReadinessChecks
    memory: Memory
    pictures: Pictures
    decoder: Decoder
    fetch: Fetch
    accept: Accept
    accept_vectors: AcceptVectors
    classify: Classify
    rerank: Rerank
    decisions: StoredDecisions
    question: Question
    questions: Questions
    ask_later: AskLater
    removals: Removals
    forget: Forget
    background: FairExecutor
    evaluations: Evaluations
    request_evaluation: RequestEvaluation
    judging: Judging
    curate: Curate


@contextmanager
def api_process(settings: Settings) -> Iterator[ApiProcess]:
    """Load the encoder, open the collection, wire the use cases.

    Raises:
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the collection holds another encoder's vectors.
        Unavailable: the store does not answer, or a restore did not end.
    """
    with ExitStack() as opened:
        curate, secret = settings.curate, load_secret(settings)
        engines = [
            wire_engine(settings, opened, timeout)
            for timeout in (settings.store.timeout, settings.store.request_timeout)
        ]
        encoder = wire_encoder(settings, opened, active_encoder(settings, engines[0]))
        patient, memory = (Memory(each, encoder.name, encoder.dimension, settings.metadata) for each in engines)
        patient.open()
        stores = wire_stores(settings, patient, secret, encoder.name)
        check_restored(stores)
        pictures, decisions = stores.pictures, stores.decisions
        decoder = wire_decoder(settings, opened, encoder.view)
        task_queue, job_queue = wire_task_queue(settings, opened), wire_job_queue(settings, opened)
        rerank = wire_rerank(settings, opened, memory, pictures, decoder)
        classify = Classify(memory, encoder, decoder, slice_size(encoder), curate.prune, stores.judgements.used)
        retention = Retention(settings.retention)
        accept = Accept(memory, pictures, stores.blocks, decoder, task_queue.enqueue, settings.metadata, retention)
        lease = timedelta(seconds=settings.worker.overdue_seconds)
        checks: dict[str, Check] = {
            "store": memory.ping,
            "pictures": pictures.ping,
            "broker": task_queue.waiting_messages,
        }
        yield ApiProcess(
            settings=settings,
            keys=keys_of(settings),
            rates=wire_rates(settings),
            audit=audit_of(settings),
            readiness=ReadinessChecks(checks),
            memory=memory,
            pictures=pictures,
            decoder=decoder,
            fetch=_fetch(settings),
            accept=accept,
            accept_vectors=AcceptVectors(accept, patient, encoder.name),
            classify=classify,
            rerank=rerank,
            decisions=decisions,
            question=Question(classify, decisions),
            questions=stores.questions,
            ask_later=AskLater(stores.questions, job_queue.enqueue),
            removals=stores.removals,
            forget=wire_forget(patient, stores, lease, rerank.forget),
            background=FairExecutor(wire_threads(opened, REMOVALS_AT_ONCE, "removals"), REMOVALS_AT_ONCE),
            evaluations=stores.evaluations,
            request_evaluation=RequestEvaluation(
                stores.evaluations, patient, decoder, classify.embed, encoder.name, job_queue.enqueue
            ),
            judging=Judging(memory, stores.judgements, stores.jobs, job_queue.enqueue, curate.most_images),
            curate=Curate(patient, stores.judgements, stores.undo_votes),
        )


def _fetch(settings: Settings) -> Fetch:
    hosts = frozenset(host.removesuffix(f":{HTTPS}") for host in settings.pictures.url_hosts)
    return Fetch(hosts, settings.pictures.max_bytes, settings.api.max_body_bytes)
