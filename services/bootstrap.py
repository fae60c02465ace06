"""The one place where objects are wired from settings."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from urllib.parse import unquote

from schemas.errors import Unavailable, VisualMemoryError
from schemas.job import JobKind
from services.access.audit import Audit
from services.access.keys import Keys
from services.access.rates import Rates
from services.access.secret import load_secret
from services.answers.classify import Attentive, Classify
from services.answers.decisions import StoredDecisions
from services.answers.question import Question
from services.answers.rerank import Rerank
from services.answers.voters import Voters
from services.curation.curate import Curate
from services.curation.judge import Judge
from services.curation.judgements import Judgements
from services.curation.judging import Judging
from services.curation.objections import Objections
from services.evaluation.job import Evaluate
from services.evaluation.records import Evaluations
from services.forgetting.backup import UNFINISHED, Backup, Restore
from services.forgetting.blocks import Blocks
from services.forgetting.compact import Compact
from services.forgetting.forget import Forget
from services.forgetting.removal_log import RemovalLog
from services.forgetting.removals import Removals
from services.forgetting.retention import Expire, Retention
from services.forgetting.tidy import Tidy
from services.forgetting.unlearn import Unlearn
from services.forgetting.verify import Verify
from services.intake.accept import Accept
from services.intake.fetch import HTTPS, Fetch
from services.intake.remember import Remember, Sweep
from services.intake.vectors import AcceptVectors
from services.memory.engine import Engine
from services.memory.engines import hold_engine, open_engine
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.memory.space import NEW
from services.parts import audit_of, beside, broker_url, celery_of, ledger_of
from services.perception.batching import MicroBatcher
from services.perception.decoder import Decoder
from services.perception.decoding import Limits
from services.perception.loading import load_encoder
from services.perception.sandbox import Sandbox
from services.runtime import cores, metrics
from services.runtime.bell import Bell
from services.runtime.jobs import Jobs, RunJob, SweepJobs
from services.runtime.places import Places
from services.runtime.redis_server import limits_url
from services.settings import EncoderSettings, RerankSettings, Settings
from services.vision.gemini import URL as GOOGLE
from services.vision.gemini import Gemini
from services.vision.model import Provider
from services.vision.openai import OpenAI

REMOVALS_AT_ONCE = 4
EXAMINERS = 16
PATIENCE = 2.0
"""Seconds within which a part that is well says so."""
SPARE = timedelta(hours=1)
SLICE = 16
"""Pictures that are held decoded at once, at least: each slice costs the store its calls, however small it is."""


@dataclass(frozen=True)
class Service:
    """The wired parts and use cases of one process.

    Attributes:
        sandbox: the processes that decode.
        memory: gives up on a silent store soon, because a caller waits.
        patient: waits longer, for what may take long.
        pool: for what is done for several pictures at once; never for what takes long.
        background: for removals, which may take long.
        examiners: ask the parts how they are, and the system for addresses; some may hang.
    """

    settings: Settings
    keys: Keys
    rates: Rates
    audit: Audit
    memory: Memory
    patient: Memory
    pictures: Pictures
    encoder: MicroBatcher
    sandbox: Sandbox
    decoder: Decoder
    bell: Bell
    pool: ThreadPoolExecutor
    background: ThreadPoolExecutor
    examiners: ThreadPoolExecutor
    fetch: Fetch
    accept: Accept
    accept_vectors: AcceptVectors
    remember: Remember
    sweep: Sweep
    classify: Classify
    rerank: Rerank
    decisions: StoredDecisions
    question: Question
    removals: Removals
    forget: Forget
    expire: Expire
    tidy: Tidy
    compact: Compact
    jobs: Jobs
    evaluations: Evaluations
    evaluate: Evaluate
    run_job: RunJob
    sweep_jobs: SweepJobs
    judging: Judging
    curate: Curate

    def examine(self) -> dict[str, str]:
        """Every part by name with what is wrong with it; empty where it answers within `PATIENCE`."""
        asks: dict[str, Callable[[], object]] = {
            "store": self.memory.ping,
            "pictures": self.pictures.ping,
            "broker": self.bell.waiting_messages,
            "worker": self.bell.find_worker,
        }
        asked = {name: self.examiners.submit(ask) for name, ask in asks.items()}
        return {"encoder": "", **{name: _fault(answer) for name, answer in asked.items()}}

    def close(self) -> None:
        """Finish what has begun, then let go of everything."""
        self.examiners.shutdown(wait=False, cancel_futures=True)
        self.rerank.close()
        self.background.shutdown()
        self.pool.shutdown()
        self.sandbox.close()
        self.encoder.close()
        self.memory.close()
        self.patient.close()


def bootstrap(settings: Settings) -> Service:
    """Wire one process: load the encoder, open the collection.

    Raises:
        EncoderMismatch: the collection holds another encoder's vectors.
        Unavailable: the store does not answer, or a restore did not end.
    """
    places, worker, curate = Places(settings.data), settings.worker, settings.curate
    pool = ThreadPoolExecutor(cores.count(), thread_name_prefix="pictures")
    encoder = _encoder(settings.encoder, places)
    slice_size = max(SLICE, encoder.batch_size)
    memory, prompt = (
        Memory(
            open_engine(settings.store, places.engine_socket, timeout),
            encoder.name,
            encoder.dimension,
            settings.metadata,
        )
        for timeout in (settings.store.timeout, settings.store.request_timeout)
    )
    memory.open()
    pictures, ledger = _pictures(settings), ledger_of(settings)
    if ledger.exists(UNFINISHED):
        raise Unavailable("a restore was begun and did not end: run it again before anything is served")
    limits = Limits(settings.pictures.max_bytes, settings.pictures.max_pixels)
    sandbox = Sandbox(limits, settings.pictures.decode_seconds, cores.count())
    decoder = Decoder(sandbox, pool, encoder.side)
    secret = load_secret(settings)
    bell = Bell(celery_of(settings), secret.key("messages"))
    blocks, removals = Blocks(ledger), Removals(ledger)
    removal_log = RemovalLog(ledger, secret.key("receipts"))
    overdue = timedelta(seconds=worker.overdue_seconds)
    jobs = Jobs(ledger)
    judgements, evaluations = Judgements(ledger), _evaluations(settings, ledger, jobs)
    decisions = _decisions(settings, ledger, memory)
    tidy = Tidy(memory, pictures, ledger, SPARE, [judgements.tidy, evaluations.tidy, decisions.settle_all])
    limiter = limits_url(broker_url(settings))
    rerank = Rerank(settings.rerank, _provider(settings.rerank), prompt, pictures, decoder, Rates(limiter))
    undo = (Unlearn(memory, judgements), evaluations.forget, decisions.forget, rerank.forget)
    forget = Forget(memory, pictures, blocks, removals, removal_log, overdue, undo)
    classify = Classify(
        memory,
        encoder,
        decoder,
        slice_size,
        Attentive(prompt.ping),
        Voters(memory, judgements, curate.prune),
        judgements.current,
    )
    judge = Judge(memory, judgements, encoder.name, curate.k, curate.most_images)
    evaluate = Evaluate(evaluations, memory, pictures, decoder, classify.embed, encoder.name, bell.ring_job)
    accept = Accept(
        prompt, pictures, blocks, decoder, bell.ring, settings.metadata, Retention(settings.retention), pool
    )
    examiners = ThreadPoolExecutor(EXAMINERS, thread_name_prefix="examiners")
    hosts = frozenset(host.removesuffix(f":{HTTPS}") for host in settings.pictures.url_hosts)
    return Service(
        settings=settings,
        keys=Keys(ledger),
        rates=Rates(limiter),
        audit=audit_of(settings),
        memory=prompt,
        patient=memory,
        pictures=pictures,
        encoder=encoder,
        sandbox=sandbox,
        decoder=decoder,
        bell=bell,
        pool=pool,
        background=ThreadPoolExecutor(REMOVALS_AT_ONCE, thread_name_prefix="removals"),
        examiners=examiners,
        fetch=Fetch(hosts, limits.max_bytes, settings.api.max_body_bytes, examiners),
        accept=accept,
        accept_vectors=AcceptVectors(accept, memory, encoder.name),
        remember=Remember(
            memory,
            pictures,
            encoder,
            decoder,
            slice_size,
            overdue,
            worker.max_attempts,
            Objections(memory, curate.gate, curate.gate_share, curate.k),
        ),
        sweep=Sweep(memory, bell, overdue),
        classify=classify,
        rerank=rerank,
        decisions=decisions,
        question=Question(classify, decisions),
        removals=removals,
        forget=forget,
        expire=Expire(memory, removals, forget),
        tidy=tidy,
        compact=Compact(memory, removals, removal_log, tidy, _beyond(settings)),
        jobs=jobs,
        evaluations=evaluations,
        evaluate=evaluate,
        run_job=RunJob(jobs, overdue, {JobKind.JUDGEMENT: judge, JobKind.EVALUATION: evaluate}),
        sweep_jobs=SweepJobs(jobs, bell, overdue),
        judging=Judging(prompt, judgements, jobs, bell, curate.most_images),
        curate=Curate(memory, judgements),
    )


@dataclass(frozen=True)
class Operator:
    """What the commands of whoever runs the service need; no encoder is loaded."""

    engine: Engine
    verify: Verify
    compact: Compact
    backup: Backup
    restore: Restore


def bootstrap_operator(settings: Settings, alone: bool = False) -> Operator:
    """Wire it over a running service, or over the data folder itself where none runs.

    Args:
        settings: of the service.
        alone: only where none runs on this machine.

    Raises:
        Unavailable: the store does not answer; with `alone`, a service runs.
    """
    places = Places(settings.data)
    try:
        engine = hold_engine(settings.store, places.engine)
    except Unavailable:
        if alone:
            raise
        engine = open_engine(settings.store, places.engine_socket, settings.store.timeout)
    shape = engine.inspect()
    vector, size = next(iter(shape.vectors.items()), ("", 0)) if shape else ("", 0)
    memory = Memory(engine, unquote(vector), size, settings.metadata)
    pictures, ledger = _pictures(settings), ledger_of(settings)
    removals, removal_log = Removals(ledger), RemovalLog(ledger, load_secret(settings).key("receipts"))
    judgements, decisions = Judgements(ledger), _decisions(settings, ledger, memory)
    evaluations = _evaluations(settings, ledger, Jobs(ledger))
    tidy = Tidy(memory, pictures, ledger, SPARE, [judgements.tidy, evaluations.tidy, decisions.settle_all])
    undo = (Unlearn(memory, judgements), evaluations.forget, decisions.forget)
    return Operator(
        engine=engine,
        verify=Verify(memory, pictures, removals, removal_log, undo),
        compact=Compact(memory, removals, removal_log, tidy, _beyond(settings)),
        backup=Backup(engine, pictures, ledger),
        restore=Restore(
            engine, pictures, ledger, removals, settings.metadata, [decisions.forget], decisions.settle_all
        ),
    )


def _encoder(settings: EncoderSettings, places: Places) -> MicroBatcher:
    """The encoder with a thread for each batch that it works at; a GPU works at one batch at a time."""
    side_by_side = settings.threads or cores.count() if settings.device == "cpu" else 1
    load = partial(load_encoder, settings.model_copy(update={"threads": 1}), places.encoder)
    return MicroBatcher(load, metrics.observe_batch, side_by_side)


def _provider(settings: RerankSettings) -> Provider | None:
    """The protocol of the vision-language model that the settings name; None where they name none."""
    url, model = (settings.url or GOOGLE).rstrip("/"), settings.model or ""
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    match settings.provider:
        case "openai":
            return OpenAI(url, model, key, settings.parameters)
        case "gemini":
            return Gemini(url, model, key, settings.parameters)
        case None:
            return None


def _pictures(settings: Settings) -> Pictures:
    return Pictures(beside(settings, "pictures"), settings.store.min_free_bytes)


def _decisions(settings: Settings, ledger: Ledger, memory: Memory) -> StoredDecisions:
    roomy = Ledger(beside(settings, "records"), settings.store.min_free_bytes, NEW)
    return StoredDecisions(ledger, roomy, memory, Blocks(ledger), settings.decisions.keep)


def _evaluations(settings: Settings, ledger: Ledger, jobs: Jobs) -> Evaluations:
    return Evaluations(ledger, jobs, beside(settings, "evaluations"), settings.store.min_free_bytes)


def _beyond(settings: Settings) -> str:
    """What is left to an operator beyond the store; empty where the pictures lie on this machine."""
    if settings.pictures.url is None:
        return ""
    return f"The pictures were deleted from {settings.pictures.url}; its versions and backups are its operator's."


def _fault(answer: "Future[object]") -> str:
    """What is wrong with a part, in a line; empty where it answers."""
    try:
        answer.result(PATIENCE)
    except VisualMemoryError as error:
        return error.message
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"
    except Exception as error:  # noqa: BLE001 - any library's way of saying that a part is down
        return f"{type(error).__name__}: {error}"[:200]
    return ""
