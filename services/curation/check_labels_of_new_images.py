"""Check labels: compare an image's label with the vote of its nearest neighbours when it is remembered."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import ClassifyOptions, Effort
from visual_memory.schemas.image import Doubt, StoredImage
from visual_memory.schemas.labels import LabelCheck
from visual_memory.services.memory.label_conflicts import LabelConflict
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

MIN_NEIGHBOURS = 5
"""With fewer neighbours no conflict is reported."""


@dataclass(frozen=True)
class CheckLabels:
    """Finds images whose neighbours vote for another label. Images of the same call are not neighbours yet.

    Attributes:
        check: what a conflict does.
        share: the share of the vote that the other label needs, 0 to 1.
        k: how many neighbours vote.
    """

    memory: Memory
    check: LabelCheck = LabelCheck.OFF
    share: float = 0.9
    k: int = 10

    def __call__(self, images: Sequence[StoredImage], vectors: NDArray[np.float32]) -> dict[str, LabelConflict]:
        """The label conflicts of images of one tenant, by image id.

        Args:
            images: images that are about to be remembered, or are remembered.
            vectors: their vectors, float32 [n, d], rows of length 1.
        """
        if self.check is LabelCheck.OFF or not images:
            return {}
        found: dict[str, LabelConflict] = {}
        neighbours = self.memory.search.nearest(images[0].tenant, vectors, self.k + 1, effort=Effort.EXACT)
        for image, near in zip(images, neighbours, strict=True):
            hits, _ = first_groups([hit for hit in near if hit.image_id != image.image_id], self.k)
            if len(hits) < min(MIN_NEIGHBOURS, self.k):
                continue
            top = decide(hits, ClassifyOptions(k=self.k, show=0), "").shares[0]
            if top.label not in image.labels and top.share >= self.share:
                doubt = Doubt.HELD if self.check is LabelCheck.HOLD else Doubt.WARNED
                reason = f"its {len(hits)} nearest neighbours vote for {top.label}, with {top.share:.0%} of the vote"
                found[image.image_id] = LabelConflict(doubt, reason, [hit.image_id for hit in hits])
        return found
