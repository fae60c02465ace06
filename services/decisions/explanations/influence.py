"""Influence: which images, labels and sources decided most of the latest stored decisions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from visual_memory.schemas.decision import Decision
from visual_memory.schemas.explanation import Influence, InfluentialImage, Weight
from visual_memory.schemas.image import StoredImage
from visual_memory.services.decisions.explanations.explanation_budget import AS_A_JOB, Budget, OverBudget, no_progress
from visual_memory.services.decisions.stored_decisions import StoredDecisions
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory_facade import Memory

TOP = 20
READ_AT_ONCE = 1000


@dataclass(frozen=True)
class MeasureInfluence:
    """The use case."""

    memory: Memory
    decisions: StoredDecisions

    def __call__(
        self, tenant: str, last: int, budget: Budget = AS_A_JOB, progress: Progress = no_progress
    ) -> Influence:
        """Add up the shares of the votes in the latest stored decisions, as they were made.

        Raises:
            OverBudget: the decisions are larger than the budget.
        """
        if self.decisions.bytes_of_latest(tenant, last) > budget.bytes:
            raise OverBudget

        def read() -> Iterator[Decision]:
            for done, each in enumerate(self.decisions.latest(tenant, last)):
                progress("decisions", done, last)
                yield each.decision

        totals = add_up(read())
        ids = list(totals.images)
        images: dict[str, StoredImage] = {}
        for start in range(0, len(ids), READ_AT_ONCE):
            images |= self.memory.images.get(tenant, ids[start : start + READ_AT_ONCE])
        sources: dict[str | None, float] = {}
        for image_id, image in images.items():
            sources[image.source] = sources.get(image.source, 0.0) + totals.images[image_id].share
        ranked = sorted(sources.items(), key=lambda item: (-item[1], item[0] or ""))
        return Influence(
            decisions=totals.decisions,
            images=[
                InfluentialImage(
                    image_id=image_id,
                    labels=images[image_id].labels,
                    source=images[image_id].source,
                    share=totals.images[image_id].share,
                    decisions=totals.images[image_id].decisions,
                )
                for image_id in [each for each in ids if each in images][:TOP]
            ],
            labels=[Weight(name=name, share=share) for name, share in list(totals.labels.items())[:TOP]],
            sources=[Weight(name=name, share=share) for name, share in ranked[:TOP]],
        )


@dataclass(frozen=True)
class ImageTotal:
    """An image's shares of the votes that its label won: their sum, and their number."""

    share: float
    decisions: int


@dataclass(frozen=True)
class Totals:
    """What decisions add up to.

    Attributes:
        decisions: their number.
        images: by id, the greatest share first.
        labels: the shares behind each label that won, the greatest first.
    """

    decisions: int
    images: dict[str, ImageTotal]
    labels: dict[str, float]


def add_up(decisions: Iterable[Decision]) -> Totals:
    """Sum the winners' shares by image and by label."""
    number = 0
    shares, labels, times = defaultdict[str, float](float), defaultdict[str, float](float), Counter[str]()
    for decision in decisions:
        number += 1
        label = decision.voted_label
        for each in decision.neighbours if label is not None else ():
            if any(carried == label or carried.startswith(f"{label}/") for carried in each.labels):
                shares[each.image_id] += each.share
                times[each.image_id] += 1
                labels[str(label)] += each.share
    images = {image_id: ImageTotal(share, times[image_id]) for image_id, share in _largest_first(shares)}
    return Totals(number, images, dict(_largest_first(labels)))


def _largest_first(sums: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    yield from sorted(sums.items(), key=lambda item: (-item[1], item[0]))
