"""Preview a removal: count what it would cover and what else it would delete, and change nothing."""

import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from visual_memory.schemas.errors import Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause, Filter, matches
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.removal import RemovalPreview, RemovalRequest, SampleImage
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.decisions.count_mentioning import count_mentioning
from visual_memory.services.decisions.explanations.explanation_jobs import ExplanationJobs
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.evaluation.evaluation_records import Evaluations
from visual_memory.services.infrastructure.records.backup_records import latest_backups
from visual_memory.services.infrastructure.records.clock_check import CLOCKS_DIFFER
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.removal.covered_image_records import EVERYTHING
from visual_memory.services.removal.covered_intake_entries import covered_entries
from visual_memory.services.removal.intake_contract import IntakeQueue

SAMPLES = 20
MAX_VALUES = 1000
"""Labels, and sources, that are counted; and backups that are named."""
PAGE = 1000
SEARCH_SECONDS = 2.0
"""How long the intake is searched, and how long stored decisions are: a person waits for the answer."""


class Previewed(NamedTuple):
    """A preview, and the subjects of its samples, for the audit log."""

    preview: RemovalPreview
    subjects: AbstractSet[str]


@dataclass(frozen=True)
class PreviewRemoval:
    """The use case of the API.

    Attributes:
        search_seconds: how long the intake is searched, and how long stored decisions are.
    """

    memory: Memory
    intake: IntakeQueue
    decisions: StoredDecisions
    evaluations: Evaluations
    explanation_jobs: ExplanationJobs
    judgements: StoredJudgements
    search_seconds: float = SEARCH_SECONDS

    def __call__(self, tenant: str, request: RemovalRequest, *, show_file_names: bool) -> Previewed:
        """What a removal would cover now.

        Args:
            tenant: the tenant whose images would be removed.
            request: what would be removed.
            show_file_names: whether the samples have the names of their files.

        Raises:
            InvalidFilter: the filter names an unknown field, or a value of the wrong type.
        """
        condition = request.filter or EVERYTHING
        clauses = condition.clauses(self.memory.metadata)
        lookup = self.memory.images
        by_state = lookup.count_by_state(tenant, clauses)
        images = sum(by_state.values())
        queued, all_entries = self._count_queued(tenant, condition, clauses)
        pages = lookup.pages(tenant, clauses, PAGE)
        decisions, all_decisions = count_mentioning(self.decisions, tenant, condition, pages, self.search_seconds)
        samples, _ = lookup.page(tenant, clauses, SAMPLES)
        preview = RemovalPreview(
            images=images,
            by_label=_first(lookup.count_by_label(tenant, clauses)),
            by_state=by_state,
            by_source=_first(lookup.count_by_source(tenant, clauses)),
            queued=queued,
            samples=[_sample(image, show_file_names) for image in samples],
            decisions=decisions,
            evaluations=len(self.evaluations.covered(tenant, condition, any_image=images > 0)),
            explanations=self.explanation_jobs.count(tenant) if images else 0,
            judgement=images > 0 and self.judgements.exists_any(tenant),
            is_estimate=not (all_entries and all_decisions),
            backups=self._backups(tenant, clauses) if images else [],
        )
        return Previewed(preview, {image.subject for image in samples if image.subject is not None})

    def _count_queued(self, tenant: str, condition: Filter, clauses: Sequence[Clause]) -> tuple[int | None, bool]:
        """The number of entries of the intake, None if it does not answer, and whether all were read."""

        def covered(image_ids: set[str]) -> set[str]:
            found = self.memory.images.get(tenant, image_ids)
            return {image_id for image_id, image in found.items() if matches(clauses, image)}

        number, deadline = 0, time.monotonic() + self.search_seconds
        try:
            for page in self.intake.up_to(tenant, self.intake.last_position(tenant)):
                if time.monotonic() > deadline:
                    return number, False
                number += len(covered_entries(condition, clauses, covered, page))
        except Unavailable:
            return None, True
        return number, True

    def _backups(self, tenant: str, clauses: Sequence[Clause]) -> list[datetime]:
        """When the recorded backups were begun that ended after the oldest of the images was accepted."""
        found = latest_backups(self.decisions.database, MAX_VALUES)
        first, last = 0, len(found)  # the backups before `first` hold an image, those from `last` on hold none
        while first < last:
            middle = (first + last) // 2
            by_then = {"lte": found[middle].ended_at + CLOCKS_DIFFER}
            if self.memory.images.count(tenant, [*clauses, Clause("accepted_at", FieldType.DATETIME, bounds=by_then)]):
                first = middle + 1
            else:
                last = middle
        return [each.begun_at for each in found[:first]]


def _first(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    return dict(islice(counts, MAX_VALUES))


def _sample(image: StoredImage, show_file_name: bool) -> SampleImage:
    return SampleImage(
        image_id=image.image_id,
        file_name=image.file_name if show_file_name else None,
        labels=image.labels,
        state=image.state,
    )
