"""All that the API needs."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from services.access.audit import Audit
from services.access.idempotency import Idempotency
from services.access.keys import Keys
from services.access.rates import Rates
from services.access.secret import load_secret
from services.answers.classify import Classify
from services.answers.decisions import StoredDecisions
from services.answers.question import Question
from services.answers.question_jobs import AskLater, Questions
from services.answers.rerank import Rerank
from services.bootstrap.wire_access import audit_of, idempotency_of
from services.bootstrap.wire_intake import wire_streams
from services.bootstrap.wire_memory import (
    encoder_records_of,
    memory_of,
    open_memory,
    wire_decoder,
    wire_encoders,
    wire_engine,
    wire_threads,
)
from services.bootstrap.wire_questions import wire_classify_by
from services.bootstrap.wire_receipts import Receipts, receipts_of
from services.bootstrap.wire_records import wire_records
from services.bootstrap.wire_removal import check_restored, pictures_of, wire_forget, wire_stores
from services.bootstrap.wire_reranking import wire_rerank
from services.bootstrap.wire_task_queue import wire_job_queue, wire_rates, wire_task_queue
from services.bootstrap.wire_use_cases import lease_of, wire_accept, wire_classify
from services.bootstrap.wired import Wired
from services.curation.curate import Curate
from services.curation.judging import Judging
from services.encoder_migration.encoder_records import EncoderRecords
from services.evaluation.job import RequestEvaluation
from services.evaluation.records import Evaluations
from services.forgetting.forget import Forget
from services.forgetting.removals import Removals
from services.infrastructure.processes.fair_executor import FairExecutor
from services.infrastructure.records.clock_guard import ClockGuard
from services.intake.accept import Accept
from services.intake.fetch import HTTPS, Fetch
from services.intake.streams.dead_letters import DeadLetters
from services.intake.streams.stream_metrics import StreamMetrics
from services.intake.vectors import AcceptVectors
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.perception.batching import SharedEncoder
from services.perception.decoder import Decoder
from services.runtime.readiness import Check, ReadinessChecks
from services.settings import Settings

REMOVALS_AT_ONCE = 4


@dataclass(frozen=True)
class ApiProcess:
    """The wired parts and use cases, for one encoder.

    Attributes:
        memory: gives up on a silent store soon, because a caller waits.
        background: for removals, which may take long.
    """

    settings: Settings
    keys: Keys
    rates: Rates
    audit: Audit
    idempotency: Idempotency
    readiness: ReadinessChecks
    encoders: EncoderRecords
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
    receipts: Receipts
    forget: Forget
    background: FairExecutor
    evaluations: Evaluations
    request_evaluation: RequestEvaluation
    judging: Judging
    curate: Curate
    dead_letters: DeadLetters
    intake_metrics: StreamMetrics


@contextmanager
def api_process(settings: Settings) -> Iterator[Wired[ApiProcess]]:
    """Load the encoder, open the collection, wire the use cases.

    Raises:
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the memory has no encoder that the settings name, or its files are others.
        Unavailable: the store does not answer, or a restore did not end.
    """
    with ExitStack() as opened:
        curate, secret = settings.curate, load_secret(settings)
        database = wire_records(settings, opened)
        patient_engine, engine = (
            wire_engine(settings, opened, timeout)
            for timeout in (settings.store.timeout, settings.store.request_timeout)
        )
        encoders, records = (
            wire_encoders(settings, opened, database, patient_engine),
            encoder_records_of(database),
        )
        open_memory(settings, database, patient_engine, encoders.active())
        sandbox = wire_decoder(settings, opened)
        classify_by = wire_classify_by(settings, database, engine, records, sandbox)
        task_queue, job_queue = wire_task_queue(settings, opened), wire_job_queue(settings, opened)
        pictures = pictures_of(settings)
        rerank = wire_rerank(settings, opened, memory_of(settings, engine, encoders.active()), pictures, sandbox)
        background = FairExecutor(wire_threads(opened, REMOVALS_AT_ONCE, "removals"), REMOVALS_AT_ONCE)
        keys, audit, idempotency = Keys(database), audit_of(settings, database), idempotency_of(settings, database)
        rates, fetch = wire_rates(settings), _fetch(settings)
        streams = wire_streams(settings, opened)
        dead_letters, intake_metrics = DeadLetters(streams), StreamMetrics(streams)
        clock = ClockGuard(database.clock_difference)
        checks: dict[str, Check] = {
            "store": engine.ping,
            "records": database.ping,
            "clock": clock.check,
            "pictures": pictures.ping,
            "broker": task_queue.waiting_messages,
            "intake": streams.ping,
        }
        receipts = receipts_of(settings, database, secret)
        if settings.removals.mirror:
            checks["mirror"] = receipts.mirroring.check
        readiness = ReadinessChecks(checks)

        def wire(encoder: SharedEncoder) -> ApiProcess:
            patient, memory = (memory_of(settings, each, encoder) for each in (patient_engine, engine))
            stores = wire_stores(settings, database, patient, secret, encoder.name)
            check_restored(stores)
            decoder = sandbox.for_view(encoder.view)
            classify = wire_classify(settings, memory, stores, encoder, decoder)
            accept = wire_accept(settings, memory, stores, decoder, task_queue.enqueue, clock.check)
            return ApiProcess(
                settings=settings,
                keys=keys,
                rates=rates,
                audit=audit,
                idempotency=idempotency,
                readiness=readiness,
                encoders=records,
                memory=memory,
                pictures=pictures,
                decoder=decoder,
                fetch=fetch,
                accept=accept,
                accept_vectors=AcceptVectors(accept, patient, encoder.name, records.usable),
                classify=classify,
                rerank=rerank,
                decisions=stores.decisions,
                question=Question(classify, stores.decisions, classify_by),
                questions=stores.questions,
                ask_later=AskLater(stores.questions, job_queue.enqueue),
                removals=stores.removals,
                receipts=receipts,
                forget=wire_forget(patient, stores, lease_of(settings), rerank.forget),
                background=background,
                evaluations=stores.evaluations,
                request_evaluation=RequestEvaluation(
                    stores.evaluations,
                    patient,
                    decoder,
                    classify.embed,
                    encoder.name,
                    job_queue.enqueue,
                    stores.blocks,
                ),
                judging=Judging(memory, stores.judgements, stores.jobs, job_queue.enqueue, curate.most_images),
                curate=Curate(patient, stores.judgements, stores.undo_votes),
                dead_letters=dead_letters,
                intake_metrics=intake_metrics,
            )

        yield Wired(encoders.active, wire)


def _fetch(settings: Settings) -> Fetch:
    hosts = frozenset(host.removesuffix(f":{HTTPS}") for host in settings.pictures.url_hosts)
    return Fetch(hosts, settings.pictures.max_bytes, settings.api.max_body_bytes)
