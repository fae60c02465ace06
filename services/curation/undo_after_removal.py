"""Undo after a removal: what was computed from a tenant's images is repaired when some of them are gone.

Afterwards the judgement is that of a memory which never saw them, and so is what the service did to images because of
how others vote. What people decided stays.
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
from visual_memory.services.curation.judgement.judge_memory import make_judgement, wrong_votes
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.search_missing_neighbours import SearchMissingNeighbours
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.curation.label_check import CheckLabels
from visual_memory.services.memory.memory import Memory

PAGE = 500
OBJECTIONS = (Doubt.WARNED, Doubt.HELD)

log = logging.getLogger(__name__)


class Removed(Protocol):
    """An image whose point is gone; another may have come under its id."""

    image_id: str
    picture: str


@dataclass(frozen=True)
class UndoAfterRemoval:
    """A hook of the removal, see `services.removal.covered_images.RemovalHook`.

    Attributes:
        objections: what the gate would have against images now, where some that objected are gone.
        search: finds the neighbours of the few images that have too few left.
    """

    memory: Memory
    judgements: StoredJudgements
    objections: CheckLabels
    search: SearchMissingNeighbours

    def __call__(self, tenant: str, covered: Iterable[Sequence[Removed]]) -> None:
        """Take images out of all that was computed from them; harmless when repeated."""
        if not any(covered):
            return
        doubted = [image for page in self.memory.images.pages(tenant, [_doubted(*Doubt)], PAGE) for image in page]
        self._repair(tenant, covered, [image for image in doubted if image.doubt is Doubt.PRUNED])
        objected = [image for image in doubted if image.doubt in OBJECTIONS]
        voters = {voter for image in objected for voter in image.objectors}
        gone = {image.image_id for page in covered for image in page} & voters if objected else set()
        # what was objected to before the voters were noted is looked at again after every removal
        again = [image for image in objected if not image.objectors or not gone.isdisjoint(image.objectors)]
        self._object_again(tenant, again)

    def review_pruned(self, tenant: str) -> None:
        """Let those vote again that were muted for wrong votes which they did not give by the judgement of now."""
        pages = self.memory.images.pages(tenant, [_doubted(Doubt.PRUNED)], PAGE)
        self._repair(tenant, (), [image for page in pages for image in page])

    def _repair(self, tenant: str, covered: Iterable[Sequence[Removed]], pruned: Sequence[StoredImage]) -> None:
        try:
            done = self._repaired(tenant, covered, pruned)
        except OutOfSpace:  # a repaired judgement takes room, and a removal must go on where there is none
            done = False
        except Unavailable:
            raise
        except Exception:
            log.exception("the judgement cannot be repaired: it is made anew", extra={"tenant": tenant})
            done = False
        if not done:
            self.judgements.void(tenant)
            self._release(tenant, pruned)

    def _repaired(self, tenant: str, covered: Iterable[Sequence[Removed]], pruned: Sequence[StoredImage]) -> bool:
        """Whether a judgement counts now that tells of none of them; begun anew where another removal comes between."""
        while True:
            registration = self.judgements.register(tenant)  # before anything is read, see `StoredJudgements`
            judgement = self.judgements.current(tenant)
            images = None if judgement is None else self.judgements.made_of(tenant, judgement)
            if judgement is None or images is None:
                return False
            left = images.without(set(self._gone(tenant, images, covered)))
            released = _undeserved(pruned, left, judgement.k)
            if left is images and not released:
                self.judgements.void_all_but(tenant, judgement.id)
                return True
            votes = left.votes | np.isin(left.image_ids, [image.image_id for image in released])
            left = replace(left, votes=votes)
            repaired = self._judged(tenant, left, registration, judgement)
            if repaired is None:
                return False
            if self.judgements.replace(tenant, repaired, left):
                self._release(tenant, released)
                return True

    def _gone(self, tenant: str, images: JudgementInput, covered: Iterable[Sequence[Removed]]) -> Iterator[str]:
        """The ids of the judged images that a removal takes: with the picture that went, or with one before it.

        An image may have been judged, replaced and only then removed. What came under its id since stays.
        """
        judged = dict(zip(images.image_ids, images.pictures, strict=True))
        for page in covered:
            known = [image for image in page if image.image_id in judged]
            same = {image.image_id for image in known if judged[image.image_id] == short_digest(image.picture)}
            yield from same
            if other := {image.image_id for image in known} - same:
                held = self.memory.images.get(tenant, other)
                yield from (
                    each for each in other if each not in held or judged[each] != short_digest(held[each].picture)
                )

    def _judged(self, tenant: str, left: JudgementInput, registration: str, before: Judgement) -> Judgement | None:
        """What the images that are left say of each other; None where too many neighbours are gone to tell at once."""
        enough = self.search(tenant, left.voting(), before.k)
        return None if enough is None else make_judgement(enough, registration, before.encoder, before.k)

    def _release(self, tenant: str, pruned: Sequence[StoredImage]) -> None:
        for start in range(0, len(pruned), PAGE):
            ids = tuple(image.image_id for image in pruned[start : start + PAGE])
            self.memory.mutes.unmute(tenant, [_doubted(Doubt.PRUNED), Clause("image_id", FieldType.KEYWORD, ids)])

    def _object_again(self, tenant: str, objected: Sequence[StoredImage]) -> None:
        """Ask the gate once more about images that have their vectors; no picture is encoded for it.

        Those that another encoder objected to, and that the one of now has no vectors of, are objected to no more.
        """
        for start in range(0, len(objected), PAGE):
            some = objected[start : start + PAGE]
            waiting = [image for image in some if image.state is State.WAITING]
            self.memory.conflicts.withdraw(waiting)  # they are being remembered, and go on waiting
            ids = Clause("image_id", FieldType.KEYWORD, tuple(image.image_id for image in some))
            where = [ids, _doubted(*OBJECTIONS)]
            asked = set[str]()
            for images, vectors in self.memory.images.pages_with_vectors(
                tenant, where, PAGE, [State.REMEMBERED, State.MUTED]
            ):
                self.memory.conflicts.replace(images, self.objections(images, vectors))
                asked.update(image.image_id for image in images)
            self.memory.conflicts.withdraw([image for image in some if image.image_id not in asked])


def _undeserved(pruned: Sequence[StoredImage], images: JudgementInput, k: int) -> list[StoredImage]:
    """Those of some muted images that would not have been muted for their wrong votes by the images that are left."""
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


def _doubted(*doubts: Doubt) -> Clause:
    return Clause("doubt", FieldType.KEYWORD, tuple(doubt.value for doubt in doubts))
