"""The one place where objects are wired from settings."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from schemas.errors import Unavailable, VisualMemoryError
from schemas.job import JobKind
from services.access.audit import Audit
from services.access.keys import Keys
from services.access.rates import Rates
from services.access.secret import Secret, load_secret
from services.answers.classify import Classify
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
from services.forgetting.removals import RemovalHook, Removals
from services.forgetting.retention import Expire, Retention
from services.forgetting.tidy import Tidy
from services.forgetting.unlearn import Unlearn
from services.forgetting.verify import Verify
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.intake.accept import Accept
from services.intake.fetch import HTTPS, Fetch
from services.intake.remember import Remember, Sweep
from services.intake.vectors import AcceptVectors
from services.memory.collection import encoder_of
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
from services.perception.encoder import Encoder
from services.perception.loading import load_encoder
from services.perception.sandbox import Sandbox
from services.runtime import cores, metrics
from services.runtime.jobs import Jobs, RunJob, SweepJobs
from services.runtime.places import Places
from services.runtime.redis_server import limits_url
from services.settings import RerankSettings, Settings
from services.vision.model import VisionModel

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
    task_queue: TaskQueue
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
            "broker": self.task_queue.waiting_messages,
            "worker": self.task_queue.find_worker,
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
    worker, curate = settings.worker, settings.curate
    pool = ThreadPoolExecutor(cores.count(), thread_name_prefix="pictures")
    encoder = _encoder(settings)
    slice_size = max(SLICE, encoder.batch_size)
    memory, prompt = (
        _memory(settings, encoder, timeout) for timeout in (settings.store.timeout, settings.store.request_timeout)
    )
    memory.open()
    if ledger_of(settings).exists(UNFINISHED):
        raise Unavailable("a restore was begun and did not end: run it again before anything is served")
    limits = Limits(settings.pictures.max_bytes, settings.pictures.max_pixels)
    sandbox = Sandbox(limits, settings.pictures.decode_seconds, cores.count())
    decoder = Decoder(sandbox, pool, encoder.view)
    secret = load_secret(settings)
    kept = _kept(settings, memory, secret)
    pictures, blocks, evaluations, decisions = kept.pictures, kept.blocks, kept.evaluations, kept.decisions
    task_queue = TaskQueue(celery_of(settings), secret.key("messages"))
    overdue = timedelta(seconds=worker.overdue_seconds)
    limiter = limits_url(broker_url(settings))
    rerank = Rerank(settings.rerank, _vision_model(settings.rerank), prompt, pictures, decoder, Rates(limiter))
    undo = (*kept.undo, rerank.forget)
    forget = Forget(memory, pictures, blocks, kept.removals, kept.removal_log, overdue, undo)
    voters = Voters(prompt, curate.prune)
    classify = Classify(prompt, encoder, decoder, slice_size, voters, kept.judgements.current)
    judge = Judge(memory, kept.judgements, encoder.name, curate.k, curate.most_images)
    evaluate = Evaluate(evaluations, memory, pictures, decoder, classify.embed, encoder.name, task_queue.enqueue_job)
    accept = Accept(
        prompt, pictures, blocks, decoder, task_queue.enqueue, settings.metadata, Retention(settings.retention), pool
    )
    objections = Objections(memory, curate.gate, curate.gate_share, curate.k)
    examiners = ThreadPoolExecutor(EXAMINERS, thread_name_prefix="examiners")
    hosts = frozenset(host.removesuffix(f":{HTTPS}") for host in settings.pictures.url_hosts)
    return Service(
        settings=settings,
        keys=Keys(kept.ledger),
        rates=Rates(limiter),
        audit=audit_of(settings),
        memory=prompt,
        patient=memory,
        pictures=pictures,
        encoder=encoder,
        sandbox=sandbox,
        decoder=decoder,
        task_queue=task_queue,
        pool=pool,
        background=ThreadPoolExecutor(REMOVALS_AT_ONCE, thread_name_prefix="removals"),
        examiners=examiners,
        fetch=Fetch(hosts, limits.max_bytes, settings.api.max_body_bytes, examiners),
        accept=accept,
        accept_vectors=AcceptVectors(accept, memory, encoder.name),
        remember=Remember(memory, pictures, encoder, decoder, slice_size, overdue, worker.max_attempts, objections),
        sweep=Sweep(memory, task_queue, overdue),
        classify=classify,
        rerank=rerank,
        decisions=decisions,
        question=Question(classify, decisions),
        removals=kept.removals,
        forget=forget,
        expire=Expire(memory, kept.removals, forget),
        tidy=kept.tidy,
        compact=kept.compact,
        jobs=kept.jobs,
        evaluations=evaluations,
        evaluate=evaluate,
        run_job=RunJob(kept.jobs, overdue, {JobKind.JUDGEMENT: judge, JobKind.EVALUATION: evaluate}),
        sweep_jobs=SweepJobs(kept.jobs, task_queue, overdue),
        judging=Judging(prompt, kept.judgements, kept.jobs, task_queue, curate.most_images),
        curate=Curate(memory, kept.judgements),
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
    memory = Memory(engine, encoder_of(vector), size, settings.metadata)
    kept = _kept(settings, memory, load_secret(settings))
    pictures, ledger, removals, decisions = kept.pictures, kept.ledger, kept.removals, kept.decisions
    return Operator(
        engine=engine,
        verify=Verify(memory, pictures, removals, kept.removal_log, kept.undo),
        compact=kept.compact,
        backup=Backup(engine, pictures, ledger),
        restore=Restore(
            engine, pictures, ledger, removals, settings.metadata, [decisions.forget], decisions.settle_all
        ),
    )


@dataclass(frozen=True)
class _Kept:
    """What is kept beside the points of a memory.

    Attributes:
        undo: takes images that are removed out of all that was made of them.
    """

    pictures: Pictures
    ledger: Ledger
    blocks: Blocks
    removals: Removals
    removal_log: RemovalLog
    jobs: Jobs
    judgements: Judgements
    evaluations: Evaluations
    decisions: StoredDecisions
    undo: Sequence[RemovalHook]
    tidy: Tidy
    compact: Compact


def _kept(settings: Settings, memory: Memory, secret: Secret) -> _Kept:
    floor = settings.store.min_free_bytes
    pictures, ledger = Pictures(beside(settings, "pictures"), floor), ledger_of(settings)
    roomy = Ledger(beside(settings, "records"), floor, NEW)
    blocks, jobs, judgements = Blocks(ledger), Jobs(ledger), Judgements(ledger)
    removals, removal_log = Removals(ledger), RemovalLog(ledger, secret.key("receipts"))
    evaluations = Evaluations(ledger, jobs, beside(settings, "evaluations"), floor)
    decisions = StoredDecisions(ledger, roomy, memory, blocks, settings.decisions.keep)
    tidy = Tidy(memory, pictures, ledger, SPARE, [judgements.tidy, evaluations.tidy, decisions.settle_all])
    return _Kept(
        pictures=pictures,
        ledger=ledger,
        blocks=blocks,
        removals=removals,
        removal_log=removal_log,
        jobs=jobs,
        judgements=judgements,
        evaluations=evaluations,
        decisions=decisions,
        undo=(Unlearn(memory, judgements), evaluations.forget, decisions.forget),
        tidy=tidy,
        compact=Compact(memory, removals, removal_log, tidy, _beyond(settings)),
    )


def _encoder(settings: Settings) -> MicroBatcher:
    """The encoder with a thread for each batch that it works at; a GPU works at one batch at a time."""
    asked = settings.encoder
    side_by_side = asked.threads or cores.count() if asked.device == "cpu" else 1
    load = partial(load_encoder, asked.model_copy(update={"threads": 1}))
    return MicroBatcher(load, metrics.observe_batch, side_by_side)


def _memory(settings: Settings, encoder: Encoder, timeout: int) -> Memory:
    """The memory of an encoder, over an engine that is waited for so many seconds."""
    engine = open_engine(settings.store, Places(settings.data).engine_socket, timeout)
    return Memory(engine, encoder.name, encoder.dimension, settings.metadata)


def _vision_model(settings: RerankSettings) -> VisionModel | None:
    """The vision-language model that the settings name; None where they name none."""
    if settings.url is None or settings.model is None:
        return None
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return VisionModel(settings.url, settings.model, key, settings.parameters)


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
