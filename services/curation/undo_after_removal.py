"""Repair what was computed from a tenant's images when some of them are removed.

Afterwards the judgement equals that of a memory which never had the removed images, and so do the service's own
changes that depend on other images' votes: mutes and label conflicts. Changes that people made stay.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from visual_memory.schemas.errors import OutOfSpace, Unavailable
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State, StoredImage
from visual_memory.schemas.judgement import Judgement
from visual_memory.services.curation.check_labels_of_new_images import CheckLabels
from visual_memory.services.curation.judgement.judge_memory import make_judgement, wrong_votes
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.search_missing_neighbours import SearchMissingNeighbours
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import doubted

PAGE = 500
LABEL_CONFLICTS = (Doubt.WARNED, Doubt.HELD)

log = logging.getLogger(__name__)


class RemovedImage(Protocol):
    """An image whose point is deleted; another image may have its id now."""

    image_id: str
    picture: str


@dataclass(frozen=True)
class UndoAfterRemoval:
    """A removal hook, see `services.removal.covered_image_records.RemovalHook`.

    Attributes:
        check_labels: checks labels again whose conflict was with a removed image.
        search: finds neighbours for the few images that have too few left.
    """

    memory: Memory
    judgements: StoredJudgements
    check_labels: CheckLabels
    search: SearchMissingNeighbours

    def __call__(self, tenant: str, covered: Iterable[Sequence[RemovedImage]]) -> None:
        """Remove images from everything computed from them; can be repeated."""
        if not any(covered):
            return
        images = [image for page in self.memory.images.pages(tenant, [doubted(*Doubt)], PAGE) for image in page]
        self._repair(tenant, covered, [image for image in images if image.doubt is Doubt.PRUNED])
        conflicts = [image for image in images if image.doubt in LABEL_CONFLICTS]
        voters = {voter for image in conflicts for voter in image.objectors}
        removed = {image.image_id for page in covered for image in page} & voters if conflicts else set()
        # conflicts of an earlier version have no recorded voters, so they are checked after every removal
        again = [image for image in conflicts if not image.objectors or not removed.isdisjoint(image.objectors)]
        self.check_labels_again(tenant, again)

    def review_pruned(self, tenant: str) -> None:
        """Unmute images that were muted for wrong votes which the current judgement does not confirm."""
        pages = self.memory.images.pages(tenant, [doubted(Doubt.PRUNED)], PAGE)
        self._repair(tenant, (), [image for page in pages for image in page])

    def _repair(self, tenant: str, covered: Iterable[Sequence[RemovedImage]], pruned: Sequence[StoredImage]) -> None:
        try:
            done = self._try_repair(tenant, covered, pruned)
        except OutOfSpace:  # a repaired judgement needs disk space, but a removal must not depend on it
            done = False
        except Unavailable:
            raise
        except Exception:
            log.exception("the judgement cannot be repaired: it is made anew", extra={"tenant": tenant})
            done = False
        if not done:
            self.judgements.void(tenant)
            self._unmute(tenant, pruned)

    def _try_repair(
        self, tenant: str, covered: Iterable[Sequence[RemovedImage]], pruned: Sequence[StoredImage]
    ) -> bool:
        """Store a judgement without removed images; False if none can be computed. Restarts if a removal intervenes."""
        while True:
            registration = self.judgements.register(tenant)  # before anything is read, see `StoredJudgements`
            judgement = self.judgements.current(tenant)
            images = None if judgement is None else self.judgements.input_of(tenant, judgement)
            if judgement is None or images is None:
                return False
            left = images.without(set(self._removed_ids(tenant, images, covered)))
            unmuted = _undeserved(pruned, left, judgement.k)
            if left is images and not unmuted:
                self.judgements.void_all_but(tenant, judgement.id)
                return True
            votes = left.votes | np.isin(left.image_ids, [image.image_id for image in unmuted])
            left = replace(left, votes=votes)
            repaired = self._judge_again(tenant, left, registration, judgement)
            if repaired is None:
                return False
            if self.judgements.replace(tenant, repaired, left):
                self._unmute(tenant, unmuted)
                return True

    def _removed_ids(
        self, tenant: str, images: JudgementInput, covered: Iterable[Sequence[RemovedImage]]
    ) -> Iterator[str]:
        """The ids of judged images that were removed: with the picture that was judged, or with a later one.

        An image may have been judged, replaced, and then removed. A new image with the same id stays.
        """
        judged = dict(zip(images.image_ids, images.pictures, strict=True))
        for page in covered:
            known = [image for image in page if image.image_id in judged]
            same = {image.image_id for image in known if judged[image.image_id] == short_digest(image.picture)}
            yield from same
            if other := {image.image_id for image in known} - same:
                stored = self.memory.images.get(tenant, other)
                yield from (
                    each for each in other if each not in stored or judged[each] != short_digest(stored[each].picture)
                )

    def _judge_again(self, tenant: str, left: JudgementInput, registration: str, before: Judgement) -> Judgement | None:
        """Judge the images that are left; None if too many of their neighbours were removed."""
        complete = self.search(tenant, left.voting(), before.k)
        return None if complete is None else make_judgement(complete, registration, before.encoder, before.k)

    def _unmute(self, tenant: str, pruned: Sequence[StoredImage]) -> None:
        for start in range(0, len(pruned), PAGE):
            ids = tuple(image.image_id for image in pruned[start : start + PAGE])
            self.memory.mutes.unmute(tenant, [doubted(Doubt.PRUNED), Clause("image_id", FieldType.KEYWORD, ids)])

    def check_labels_again(self, tenant: str, images: Sequence[StoredImage]) -> None:
        """Check the labels of images that have vectors of this encoder; withdraw the conflicts of all others."""
        for start in range(0, len(images), PAGE):
            some = images[start : start + PAGE]
            waiting = [image for image in some if image.state is State.WAITING]
            self.memory.conflicts.withdraw(waiting)  # their labels are checked when they are remembered
            ids = Clause("image_id", FieldType.KEYWORD, tuple(image.image_id for image in some))
            where = [ids, doubted(*LABEL_CONFLICTS)]
            checked = set[str]()
            for page, vectors in self.memory.images.pages_with_vectors(
                tenant, where, PAGE, [State.REMEMBERED, State.MUTED]
            ):
                self.memory.conflicts.replace(page, self.check_labels(page, vectors))
                checked.update(image.image_id for image in page)
            self.memory.conflicts.withdraw([image for image in some if image.image_id not in checked])


def _undeserved(pruned: Sequence[StoredImage], images: JudgementInput, k: int) -> list[StoredImage]:
    """The muted images that would not have been muted for wrong votes if only `images` existed."""
    if not pruned:
        return []
    given = dict(zip(images.image_ids, zip(images.pictures, wrong_votes(images, k), strict=True), strict=True))
    return [
        image
        for image in pruned
        if image.pruned_from is None
        or image.image_id not in given
        or given[image.image_id][0] != short_digest(image.picture)
        or given[image.image_id][1] < image.pruned_from
    ]
