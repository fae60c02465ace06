"""Wire a memory in this process: the encoder and the embedded engine of a data folder, without a queue."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.access.audit_log import AuditLog
from visual_memory.services.access.signing_secret import load_secret
from visual_memory.services.bootstrap.wiring.wire_intake import private_intake
from visual_memory.services.bootstrap.wiring.wire_memory import (
    encoder_records_of,
    memory_of,
    open_memory,
    wire_decoder,
    wire_encoders,
)
from visual_memory.services.bootstrap.wiring.wire_records import wire_records
from visual_memory.services.bootstrap.wiring.wire_removal import (
    check_restored,
    wire_erase_removed_data,
    wire_removal_steps,
    wire_stores,
)
from visual_memory.services.bootstrap.wiring.wire_use_cases import (
    lease_of,
    wire_accept,
    wire_classify,
    wire_classify_by,
    wire_remember,
    wire_run_jobs,
)
from visual_memory.services.classification.classify import Classify
from visual_memory.services.curation.list_suspects import ListSuspects
from visual_memory.services.curation.report_judgement import ReportJudgement
from visual_memory.services.curation.schedule_judgements import ScheduleJudgements
from visual_memory.services.decisions.explanations.explain import Explain
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.evaluation.request_evaluation import RequestEvaluation
from visual_memory.services.infrastructure.processes.data_folder_lock import lock_data_folder
from visual_memory.services.infrastructure.records.clock_check import ClockCheck
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.storage.owner_only_files import private_folder
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.infrastructure.task_queue.job_runner import RunJobs
from visual_memory.services.intake.accept_pictures import AcceptPictures
from visual_memory.services.intake.embed_with_other_encoders import EmbedWithOtherEncoders
from visual_memory.services.intake.load_thumbnail import LoadThumbnail
from visual_memory.services.intake.remember_pictures import RememberPictures
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.optional_packages import check_installed
from visual_memory.services.removal.erasure.erase_removed_data import EraseRemovedData
from visual_memory.services.removal.removal_records import RemovalRecords
from visual_memory.services.removal.steps.removal_steps import RemovalSteps
from visual_memory.services.settings import Settings
from visual_memory.services.vector_engines.open_engine import open_exclusive_engine

NO_LEASE = timedelta(0)
"""No other process works on the folder, so what a crashed one has begun is begun again at once."""


@dataclass(frozen=True)
class LocalProcess:
    """The use cases.

    Attributes:
        intake: runs the folder's intake during a removal, where it has one: entries may wait in it.
    """

    memory: Memory
    audit: AuditLog
    accept: AcceptPictures
    load_thumbnail: LoadThumbnail
    remember: RememberPictures
    classify: Classify
    decisions: StoredDecisions
    removals: RemovalRecords
    removal_steps: RemovalSteps
    erase: EraseRemovedData
    schedule_judgements: ScheduleJudgements
    report_judgement: ReportJudgement
    list_suspects: ListSuspects
    jobs: Jobs
    run_jobs: RunJobs
    evaluations: Evaluations
    request_evaluation: RequestEvaluation
    intake: Callable[[], AbstractContextManager[None]]


@contextmanager
def local_process(settings: Settings) -> Iterator[LocalProcess]:
    """Lock the data folder, load the encoder, open the engine, wire the use cases.

    Raises:
        InvalidRequest: the settings name a Qdrant server or PostgreSQL, which other processes may use too.
        EncoderUnusable: the encoder cannot be loaded.
        EncoderMismatch: the memory has no encoder that the settings name, or its files are others.
        Unavailable: another process uses the folder, or a restore did not end.
    """
    if settings.store.url is not None or settings.records.url is not None:
        raise InvalidRequest(
            "a memory in this process has its data in one folder: unset STORE__URL and RECORDS__URL, or use the client"
        )
    check_installed(settings)
    private_folder(settings.data.resolve())
    with ExitStack() as opened:
        opened.enter_context(lock_data_folder(settings.data, f"a Memory (process {os.getpid()})"))
        engine = open_exclusive_engine(settings.store, DataPaths(settings.data).engine)
        opened.callback(engine.close)
        secret, database = load_secret(settings), wire_records(settings, opened)
        encoders = wire_encoders(settings, opened, database, engine)
        encoder = encoders.active()
        open_memory(settings, database, engine, encoder)
        memory = memory_of(settings, engine, encoder)
        stores = wire_stores(settings, database, memory, secret, encoder.name)
        check_restored(stores)
        decoder = wire_decoder(settings, opened, encoder.crop)
        classify = wire_classify(settings, memory, stores, encoder, decoder)
        classify_by = wire_classify_by(settings, database, engine, encoder_records_of(database), decoder)
        explain = Explain.of(classify, stores.decisions, classify_by)
        others = EmbedWithOtherEncoders(partial(encoders.others, encoder.name), stores.pictures, decoder)
        remember = wire_remember(settings, memory, stores, encoder, decoder, _no_queue, others)
        run_jobs = wire_run_jobs(settings, memory, stores, decoder, explain, _no_queue)
        check_clock = ClockCheck(database.clock_difference).check
        yield LocalProcess(
            memory=memory,
            audit=stores.audit,
            accept=wire_accept(settings, memory, stores, decoder, _no_queue, check_clock),
            load_thumbnail=LoadThumbnail(memory, stores.pictures, decoder),
            remember=replace(remember, lease=NO_LEASE),
            classify=classify,
            decisions=stores.decisions,
            removals=stores.removals,
            removal_steps=wire_removal_steps(memory, stores, lease_of(settings)),
            erase=wire_erase_removed_data(settings, memory, stores),
            schedule_judgements=ScheduleJudgements(
                memory, stores.judgements, stores.jobs, _no_queue, settings.curate.max_images
            ),
            report_judgement=ReportJudgement(memory, stores.judgements, stores.jobs),
            list_suspects=ListSuspects(memory, stores.judgements),
            jobs=stores.jobs,
            run_jobs=replace(run_jobs, lease=NO_LEASE),
            evaluations=stores.evaluations,
            request_evaluation=RequestEvaluation(
                stores.evaluations, memory, decoder, classify.embed, encoder.name, _no_queue, stores.blocks
            ),
            intake=partial(private_intake, settings),
        )


def _no_queue(_tenant: str) -> None:
    """Do nothing: the caller does the work itself."""
