"""Report the current judgement of a memory: its state, whether the memory changed since, figures per label."""

from collections import Counter
from dataclasses import dataclass

from visual_memory.schemas.background_job import JobKind
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.schemas.judgement import ClassReport, Judgement, JudgementStatus, JudgementSummary, Suspicion
from visual_memory.schemas.labels import LabelCount
from visual_memory.schemas.moments import now
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.judgement.update_judgement_input import voting_clauses
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER
from visual_memory.services.infrastructure.task_queue.job_records import Jobs
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import in_state

JUDGED = in_state(State.REMEMBERED, State.MUTED)
"""The states of images whose changes affect a judgement."""


@dataclass(frozen=True)
class ReportJudgement:
    """Reports what is known of a tenant's memory."""

    memory: Memory
    judgements: StoredJudgements
    jobs: Jobs

    def status(self, tenant: str) -> JudgementStatus:
        """The valid judgement, and the progress of the next one."""
        judgement = self.judgements.current(tenant)
        job = next(iter(self.jobs.all(tenant, JobKind.JUDGEMENT)), None)
        if judgement is None:
            return JudgementStatus(job=job)
        kinds = Counter(suspect.suspicion for suspect in judgement.suspects)
        fields = judgement.model_dump(include={"id", "made_at", "encoder", "k", "images", "classes"})
        summary = JudgementSummary(**fields, suspects={kind: kinds[kind] for kind in Suspicion})
        return JudgementStatus(current=summary, stale=is_stale(self.memory, tenant, judgement), job=job)

    def with_class_reports(self, tenant: str, counts: list[LabelCount]) -> list[LabelCount]:
        """Add each label's figures from the judgement to the counts of images per label."""
        judgement = self.judgements.used(tenant)
        if judgement is None:
            return counts
        reports = {each.label: each for each in judgement.classes}
        return [_with_report(count, reports.get(count.label), judgement.k) for count in counts]


def is_stale(memory: Memory, tenant: str, judgement: Judgement) -> bool:
    """Whether a memory changed since it was judged; a stale judgement is valid until the next one.

    If the clock was set back since, this cannot be determined, and the judgement counts as stale.
    """
    set_back = judgement.made_at - now() > CLOCKS_DIFFER
    if set_back or memory.images.count_with_vectors(tenant, voting_clauses(now())) != judgement.images:
        return True
    since = Clause("changed_at", FieldType.DATETIME, bounds={"gt": judgement.made_at})
    return memory.images.count(tenant, [JUDGED, since]) > 0


def _with_report(count: LabelCount, report: ClassReport | None, k: int) -> LabelCount:
    if report is None:
        return count
    fields = {"accuracy": report.accuracy, "confused_with": report.confused_with, "thin": report.images < k}
    return count.model_copy(update=fields)
