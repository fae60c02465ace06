"""Objections: the gate at acceptance, where neighbours may object to the label of a new picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visual_memory.schemas.classify_options import ClassifyOptions, Effort
from visual_memory.schemas.image import Doubt, StoredImage
from visual_memory.schemas.labels import LabelCheck
from visual_memory.services.memory.label_conflicts import LabelConflict
from visual_memory.services.memory.memory import Memory
from visual_memory.services.voting.decide import decide
from visual_memory.services.voting.group_copies import first_groups

FEWEST = 5
"""Fewer neighbours than this object to nothing."""


@dataclass(frozen=True)
class CheckLabels:
    """Finds images whose neighbours vote for another label than they carry; those that come together do not count.

    Attributes:
        gate: what an objection does.
        share: how much of the vote the other label must have, 0 to 1.
        k: how many neighbours vote.
    """

    memory: Memory
    gate: LabelCheck = LabelCheck.OFF
    share: float = 0.9
    k: int = 10

    def __call__(self, images: Sequence[StoredImage], vectors: NDArray[np.float32]) -> dict[str, LabelConflict]:
        """What speaks against images of one tenant that are about to be remembered, or are held, by image id."""
        if self.gate is LabelCheck.OFF or not images:
            return {}
        found: dict[str, LabelConflict] = {}
        neighbours = self.memory.search.nearest(images[0].tenant, vectors, self.k + 1, effort=Effort.EXACT)
        for image, near in zip(images, neighbours, strict=True):
            hits, _ = first_groups([hit for hit in near if hit.image_id != image.image_id], self.k)
            if len(hits) < min(FEWEST, self.k):
                continue
            top = decide(hits, ClassifyOptions(k=self.k, show=0), "").shares[0]
            if top.label not in image.labels and top.share >= self.share:
                doubt = Doubt.HELD if self.gate is LabelCheck.HOLD else Doubt.WARNED
                reason = f"its {len(hits)} nearest neighbours vote for {top.label}, with {top.share:.0%} of the vote"
                found[image.image_id] = LabelConflict(doubt, reason, [hit.image_id for hit in hits])
        return found
