"""Preview a change: what it would do to which images, counted in the same way as it would be done."""

from dataclasses import dataclass
from itertools import islice

from visual_memory.schemas.change import MAX_LABELS_COUNTED, MAX_SAMPLES, ChangePreview
from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.moments import now
from visual_memory.schemas.removal import SampleImage
from visual_memory.services.changes.change_images import WantedChange
from visual_memory.services.changes.record_and_write import PlannedImage
from visual_memory.services.changes.select_images import PAGE
from visual_memory.services.memory.memory_facade import Memory

EXAMINED = 10_000
"""Images that are examined one by one; of more, the share that would be changed is estimated from them."""


@dataclass(frozen=True)
class PreviewChange:
    """The use case."""

    memory: Memory

    def __call__(self, tenant: str, wanted: WantedChange, *, may_read: bool) -> ChangePreview:
        """Count what a change would do; changes nothing.

        Args:
            tenant: whose images.
            wanted: what would be done to which.
            may_read: whether the caller may see labels, ids and file names of images.

        Raises:
            Forbidden: an image would expire earlier than before, and the caller may not change that.
        """
        memory, plan, selection = self.memory, wanted.plan, wanted.selection
        by_state = selection.by_state(memory, tenant)
        covered, eligible = sum(by_state.values()), sum(by_state.get(state, 0) for state in plan.states)
        pages = selection.pages(memory, tenant, plan.states)
        examined = [image for page in islice(pages, EXAMINED // PAGE) for image in page]
        moment = now()
        differ = sum(PlannedImage(image, plan.becomes(image, moment)).differs for image in examined)
        is_estimate = len(examined) < eligible
        images = round(eligible * differ / len(examined)) if is_estimate and examined else differ
        labels = selection.by_label(memory, tenant) if may_read else {}
        return ChangePreview(
            action=plan.action,
            images=images,
            unchanged=max(0, covered - images),
            is_estimate=is_estimate,
            missing=0 if wanted.ids is None else max(0, wanted.ids - covered),
            by_label=dict(islice(labels.items(), MAX_LABELS_COUNTED)),
            by_state=by_state,
            samples=self._samples(tenant, wanted) if may_read else [],
        )

    def _samples(self, tenant: str, wanted: WantedChange) -> list[SampleImage]:
        """Images that the action may change, in no particular order."""
        pages = wanted.selection.pages(self.memory, tenant, wanted.plan.states)
        return [_sample(image) for page in islice(pages, 1) for image in page[:MAX_SAMPLES]]


def _sample(image: StoredImage) -> SampleImage:
    return SampleImage.model_validate(image, from_attributes=True)
