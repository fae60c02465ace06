"""Wire the API process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from visual_memory.services.access.api_keys import ApiKeys, derive_key_secret
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.browser_tokens import BrowserTokens, login_links_of, sessions_of
from visual_memory.services.access.idempotency_keys import IdempotencyKeys
from visual_memory.services.access.rate_limits import RateLimits
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.access.tenant_usage import TenantUsage
from visual_memory.services.bootstrap.wiring.wire_changes import Changes, wire_changes
from visual_memory.services.bootstrap.wiring.wire_encoder_migration import ActiveUseCases
from visual_memory.services.bootstrap.wiring.wire_events import wire_publisher
from visual_memory.services.bootstrap.wiring.wire_intake import wire_streams
from visual_memory.services.bootstrap.wiring.wire_memory import (
    encoder_records_of,
    memory_of,
    open_memory,
    wire_decoder,
    wire_encoders,
    wire_engine,
    wire_threads,
)
from visual_memory.services.bootstrap.wiring.wire_receipts import Receipts, receipts_of
from visual_memory.services.bootstrap.wiring.wire_records import audit_of, idempotency_of, wire_records, wire_usage
from visual_memory.services.bootstrap.wiring.wire_removal import (
    check_restored,
    pictures_of,
    wire_removal_steps,
    wire_stores,
)
from visual_memory.services.bootstrap.wiring.wire_task_queue import wire_job_queue, wire_rates, wire_task_queue
from visual_memory.services.bootstrap.wiring.wire_use_cases import (
    lease_of,
    wire_accept,
    wire_classify,
    wire_classify_by,
    wire_review,
)
from visual_memory.services.classification.classify import Classify
from visual_memory.services.classification.reranking.rerank import Rerank
from visual_memory.services.classification.reranking.vision_model import VisionModel
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.curation.report_judgement import ReportJudgement
from visual_memory.services.curation.schedule_judgements import ScheduleJudgements
from visual_memory.services.data_governance.preview_removal import PreviewRemoval
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.decisions.explanations.explanation_jobs import EnqueueExplanation, ExplanationJobs
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.decoding.decode_many import Decoder
from visual_memory.services.encoder_migration.encoder_records import EncoderRecords
from visual_memory.services.encoding.micro_batcher import SharedEncoder
from visual_memory.services.evaluation.cancel_job import CancelJob
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.evaluation.request_evaluation import RequestEvaluation
from visual_memory.services.infrastructure.observability.readiness_checks import Check, ReadinessChecks
from visual_memory.services.infrastructure.processes.fair_executor import FairExecutor
from visual_memory.services.infrastructure.records.clock_check import ClockCheck
from visual_memory.services.infrastructure.redis_streams.stream_metrics import StreamMetrics
from visual_memory.services.infrastructure.storage.picture_store import PictureStore
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.intake.accept_pictures import AcceptPictures
from visual_memory.services.intake.accept_vectors import AcceptVectors
from visual_memory.services.intake.load_thumbnail import LoadThumbnail
from visual_memory.services.intake.picture_urls.fetch_url import HTTPS, FetchUrls
from visual_memory.services.intake.streams.dead_letters import DeadLetters
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.removal_steps import RemovalSteps
from visual_memory.services.review.review_queue import Review
from visual_memory.services.settings import RerankSettings, Settings

REMOVALS_AT_ONCE = 4


@dataclass(frozen=True)
class ApiProcess:
    """The components and use cases of the API, for one encoder.

    Attributes:
        derive_key_secret: of the text of a request; see `services.access.api_keys.derive_key_secret`.
        memory: has a short timeout, because a caller waits.
        background: runs removals, which may take long.
    """

    settings: Settings
    keys: ApiKeys
    derive_key_secret: Callable[[str | None], str]
    sessions: BrowserTokens
    login_links: BrowserTokens
    rates: RateLimits
    audit: AuditLog
    usage: TenantUsage
    idempotency: IdempotencyKeys
    readiness: ReadinessChecks
    encoders: EncoderRecords
    memory: Memory
    pictures: PictureStore
    decoder: Decoder
    fetch: FetchUrls
    accept: AcceptPictures
    load_thumbnail: LoadThumbnail
    accept_vectors: AcceptVectors
    classify: Classify
    rerank: Rerank
    decisions: StoredDecisions
    explain: Explain
    explanation_jobs: ExplanationJobs
    enqueue_explanation: EnqueueExplanation
    jobs: Jobs
    cancel_job: CancelJob
    preview_removal: PreviewRemoval
    removals: RemovalRecords
    receipts: Receipts
    removal_steps: RemovalSteps
    background: FairExecutor
    evaluations: Evaluations
    request_evaluation: RequestEvaluation
    schedule_judgements: ScheduleJudgements
    report_judgement: ReportJudgement
    list_suspects: ListSuspects
    changes: Changes
    review: Review
    dead_letters: DeadLetters
    intake_metrics: StreamMetrics


@contextmanager
def api_process(settings: Settings) -> Iterator[ActiveUseCases[ApiProcess]]:
    """Load the encoder, open the collection, and wire the use cases.

    Raises:
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the memory does not have the encoder of the settings, or its files have changed.
        Unavailable: the store does not answer, or a restore is unfinished.
    """
    with ExitStack() as opened:
        curate, secret = settings.curate, load_secret(settings)
        database = wire_records(settings, opened)
        long_timeout_engine, engine = (
            wire_engine(settings, opened, timeout)
            for timeout in (settings.store.timeout, settings.store.request_timeout)
        )
        encoders, records = (
            wire_encoders(settings, opened, database, long_timeout_engine),
            encoder_records_of(database),
        )
        open_memory(settings, database, long_timeout_engine, encoders.active())
        sandbox = wire_decoder(settings, opened)
        classify_by = wire_classify_by(settings, database, engine, records, sandbox)
        task_queue, job_queue = wire_task_queue(settings, opened), wire_job_queue(settings, opened)
        pictures, publish = pictures_of(settings), wire_publisher(settings, opened)
        usage = wire_usage(database, opened)
        rerank = wire_rerank(settings, opened, memory_of(settings, engine, encoders.active()), pictures, sandbox)
        background = FairExecutor(wire_threads(opened, REMOVALS_AT_ONCE, "removals"), REMOVALS_AT_ONCE)
        keys, audit, idempotency = ApiKeys(database), audit_of(settings, database), idempotency_of(settings, database)
        sessions, login_links = sessions_of(database), login_links_of(database)
        rates, fetch = wire_rates(settings), _fetch(settings)
        streams = wire_streams(settings, opened)
        dead_letters, intake_metrics = DeadLetters(streams), StreamMetrics(streams)
        clock = ClockCheck(database.clock_difference)
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
            long_timeout_memory, memory = (memory_of(settings, each, encoder) for each in (long_timeout_engine, engine))
            stores = wire_stores(settings, database, long_timeout_memory, secret, encoder.name, publish, usage.count)
            check_restored(stores)
            decoder = sandbox.with_crop(encoder.crop)
            classify = wire_classify(settings, memory, stores, encoder, decoder)
            accept = wire_accept(settings, memory, stores, decoder, task_queue.enqueue, clock.check)
            return ApiProcess(
                settings=settings,
                keys=keys,
                derive_key_secret=partial(derive_key_secret, secret),
                sessions=sessions,
                login_links=login_links,
                rates=rates,
                audit=audit,
                usage=usage,
                idempotency=idempotency,
                readiness=readiness,
                encoders=records,
                memory=memory,
                pictures=pictures,
                decoder=decoder,
                fetch=fetch,
                accept=accept,
                load_thumbnail=LoadThumbnail(memory, pictures, decoder),
                accept_vectors=AcceptVectors(
                    accept.put, long_timeout_memory, encoder.name, records.usable, publish, usage.count
                ),
                classify=classify,
                rerank=rerank,
                decisions=stores.decisions,
                explain=Explain.of(classify, stores.decisions, classify_by),
                explanation_jobs=stores.explanation_jobs,
                enqueue_explanation=EnqueueExplanation(stores.explanation_jobs, job_queue.enqueue),
                jobs=stores.jobs,
                cancel_job=CancelJob(stores.jobs, stores.evaluations, publish),
                preview_removal=PreviewRemoval(
                    memory,
                    stores.intake,
                    stores.decisions,
                    stores.evaluations,
                    stores.explanation_jobs,
                    stores.judgements,
                ),
                removals=stores.removals,
                receipts=receipts,
                removal_steps=wire_removal_steps(
                    long_timeout_memory, stores, lease_of(settings), rerank.remove_covered
                ),
                background=background,
                evaluations=stores.evaluations,
                request_evaluation=RequestEvaluation(
                    stores.evaluations,
                    long_timeout_memory,
                    decoder,
                    classify.embed,
                    encoder.name,
                    job_queue.enqueue,
                    stores.blocks,
                ),
                schedule_judgements=ScheduleJudgements(
                    memory, stores.judgements, stores.jobs, job_queue.enqueue, curate.max_images
                ),
                report_judgement=ReportJudgement(memory, stores.judgements, stores.jobs),
                list_suspects=ListSuspects(memory, stores.judgements),
                changes=wire_changes(settings, long_timeout_memory, stores, lease_of(settings), memory),
                review=wire_review(database, memory, stores),
                dead_letters=dead_letters,
                intake_metrics=intake_metrics,
            )

        yield ActiveUseCases(encoders.active, wire)


def _fetch(settings: Settings) -> FetchUrls:
    hosts = frozenset(host.removesuffix(f":{HTTPS}") for host in settings.pictures.url_hosts)
    return FetchUrls(hosts, settings.pictures.max_bytes, settings.api.max_body_bytes)


def wire_rerank(
    settings: Settings, opened: ExitStack, memory: Memory, pictures: PictureStore, decoder: Decoder
) -> Rerank:
    """Wire reranking, with separate rate limits, because it runs in a separate event loop."""
    model, rates = vision_model(settings.rerank), wire_rates(settings)
    rerank = Rerank(settings.rerank, model, memory, pictures, decoder, rates)
    opened.callback(rerank.close)
    return rerank


def vision_model(settings: RerankSettings) -> VisionModel | None:
    """The vision-language model of the settings; None if they name none."""
    if settings.url is None or settings.model is None:
        return None
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return VisionModel(settings.url, settings.model, key, settings.parameters)
