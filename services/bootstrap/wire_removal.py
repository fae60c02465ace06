"""What is kept beside the points of a memory, and how images are taken out of all of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.errors import Unavailable
from services.access.secret import Secret
from services.answers.decisions import StoredDecisions
from services.answers.question_jobs import Questions
from services.bootstrap.wire_access import ledger_of
from services.curation.judgements import Judgements
from services.curation.objections import Objections
from services.curation.search_short_lists import SearchShortLists
from services.curation.undo_after_removal import UndoAfterRemoval
from services.evaluation.records import Evaluations
from services.forgetting.backup import UNFINISHED
from services.forgetting.blocks import Blocks
from services.forgetting.compact import Compact
from services.forgetting.covered_images import RemovalHook
from services.forgetting.forget import Forget
from services.forgetting.removal_log import RemovalLog
from services.forgetting.removals import Removals
from services.forgetting.tidy import Tidy
from services.infrastructure.records.database import Database
from services.memory.blobs import Blobs
from services.memory.ledger import Ledger
from services.memory.memory import Memory
from services.memory.pictures import Pictures
from services.runtime.jobs import Jobs
from services.runtime.schedule import Schedule
from services.settings import Settings

SPARE = timedelta(hours=1)


@dataclass(frozen=True)
class Stores:
    """What is kept beside the points of a memory.

    Attributes:
        undo_votes: takes images that are removed out of judgements, and out of what was done because of votes.
        undo: takes images that are removed out of all that was made of them.
    """

    pictures: Pictures
    ledger: Ledger
    blocks: Blocks
    removals: Removals
    removal_log: RemovalLog
    schedule: Schedule
    jobs: Jobs
    judgements: Judgements
    evaluations: Evaluations
    decisions: StoredDecisions
    questions: Questions
    undo_votes: UndoAfterRemoval
    undo: Sequence[RemovalHook]


def wire_stores(settings: Settings, database: Database, memory: Memory, secret: Secret, encoder: str) -> Stores:
    """The stores of the settings, over the memory of an encoder."""
    floor = settings.store.min_free_bytes
    ledger = ledger_of(settings)
    blocks, jobs, curate = Blocks(ledger), Jobs(database), settings.curate
    judgements = judgements_of(settings, database, encoder)
    objections = Objections(memory, curate.gate, curate.gate_share, curate.k)
    undo_votes = UndoAfterRemoval(memory, judgements, objections, SearchShortLists(memory))
    evaluations = Evaluations(jobs, settings.url_of("evaluations"), floor)
    kept = settings.decisions
    decisions = StoredDecisions(database, memory, blocks, kept.keep, kept.keep_bytes)
    questions = Questions(jobs)
    return Stores(
        pictures=pictures_of(settings),
        ledger=ledger,
        blocks=blocks,
        removals=Removals(ledger),
        removal_log=RemovalLog(ledger, secret.key("receipts")),
        schedule=Schedule(database),
        jobs=jobs,
        judgements=judgements,
        evaluations=evaluations,
        decisions=decisions,
        questions=questions,
        undo_votes=undo_votes,
        undo=(undo_votes, evaluations.forget, decisions.forget, questions.forget),
    )


def pictures_of(settings: Settings) -> Pictures:
    """The pictures of every tenant."""
    return Pictures(settings.url_of("pictures"), settings.store.min_free_bytes)


def judgements_of(settings: Settings, database: Database, encoder: str) -> Judgements:
    """The judgements by an encoder's vectors."""
    return Judgements(database, Blobs(settings.url_of("judgements"), settings.store.min_free_bytes), encoder)


def check_restored(stores: Stores) -> None:
    """Refuse to serve a memory that is restored in part.

    Raises:
        Unavailable: a restore was begun and did not end.
    """
    if stores.ledger.exists(UNFINISHED):
        raise Unavailable("a restore was begun and did not end: run it again before anything is served")


def wire_forget(memory: Memory, stores: Stores, lease: timedelta, *further: RemovalHook) -> Forget:
    """Removals; `further` are hooks that this process alone has."""
    undo = (*stores.undo, *further)
    return Forget(memory, stores.pictures, stores.blocks, stores.removals, stores.removal_log, lease, undo)


def wire_tidy(memory: Memory, stores: Stores) -> Tidy:
    """The removal of what crashes left."""
    further: list[Callable[[datetime, datetime | None], int]] = [
        stores.judgements.tidy,
        stores.evaluations.tidy,
    ]
    return Tidy(memory, stores.pictures, stores.ledger, stores.schedule, SPARE, further)


def wire_compact(settings: Settings, memory: Memory, stores: Stores) -> Compact:
    """Erasure."""
    every, tidy = timedelta(seconds=settings.worker.compact_seconds), wire_tidy(memory, stores)
    return Compact(memory, stores.removals, stores.removal_log, tidy, _beyond(settings), every)


def _beyond(settings: Settings) -> str:
    """What is left to an operator beyond the store; empty where the pictures lie on this machine."""
    if settings.pictures.url is None:
        return ""
    return f"The pictures were deleted from {settings.pictures.url}; its versions and backups are its operator's."
