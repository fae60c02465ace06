"""What came, went or changed in a memory since it was judged, folded into the images that its judgement was made of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

import numpy as np

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State, StoredImage, now
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.neighbour_lists import Mask
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors

PAGE = 500
REMEMBERED = Clause("state", FieldType.KEYWORD, (State.REMEMBERED.value,))
LATE = timedelta(seconds=60)
"""So long before the last pass changes are read once more: a store may take half a minute to make one that was dated by
then, and the clocks of two machines differ. What was read already changes nothing."""


@dataclass(frozen=True)
class UpdateJudgementInput:
    """The use case, with the parts that it needs.

    Attributes:
        cache: the vectors of the pass before.
        max_images: more are not judged, for their vectors are held at once.
    """

    memory: Memory
    cache: VectorCache
    max_images: int

    def __call__(self, tenant: str, base: JudgementInput, complete: bool, progress: Progress) -> JudgementInput:
        """The images as they are now; what did not change since is not read.

        Args:
            tenant: whose.
            base: the images as they were when they were read last.
            complete: whether every image is looked at, as some may be gone.
            progress: told how far it is.

        Raises:
            InvalidRequest: the memory holds too many images.
        """
        self._check(self.memory.images.count_with_vectors(tenant, voting_clauses(now())))
        folded = self._fold(tenant, base, complete, progress)
        if complete or np.count_nonzero(folded.votes) == self.memory.images.count_with_vectors(
            tenant, voting_clauses(now())
        ):
            return folded
        return self._fold(tenant, folded, True, progress)  # some changed meanwhile, or went without a removal

    def _fold(self, tenant: str, base: JudgementInput, complete: bool, progress: Progress) -> JudgementInput:
        read_at = now()
        kept, new_ids = self._changed(tenant, replace(base, read_at=read_at), base.read_at, complete)
        if new_ids == [] and not len(kept.lists.short()) and not len(kept.voting().lists.short()):
            return kept
        held = self.cache.held(tenant)
        known = held.knows(kept.pictures)
        unknown = [kept.image_ids[row] for row in np.flatnonzero(~known).tolist()]
        read = self._read(tenant, None if new_ids is None else new_ids + unknown, read_at, progress)
        kept = kept.where(known | read.holds(kept))  # what changed at this moment is read again by the next pass
        images, new = _merged(kept, read)
        self._check(len(images.image_ids))
        vectors = np.empty((len(images.image_ids), self.memory.dimension), np.float32)
        held.fill(images.pictures, vectors)
        read.fill(vectors, images.places())
        self.cache.keep(tenant, images.pictures, vectors)
        lists = kept.lists.folded(vectors, new, cpu_threads.count(), lambda *done: progress("compared", *done))
        folded = replace(images, lists=lists)
        if not len(folded.voting().lists.short()):
            return folded
        voters = folded.voting()  # those that do not vote leave too few places for those that do
        return replace(voters, lists=voters.lists.refilled(vectors[folded.votes], cpu_threads.count()))

    def _changed(
        self, tenant: str, base: JudgementInput, since: datetime, complete: bool
    ) -> tuple[JudgementInput, list[str] | None]:
        """What is left of the images, with the labels of now, and the ids of those that are new; None: all are."""
        if not len(base.image_ids):
            return base, None
        places, seen = base.places(), np.zeros(len(base.image_ids), bool)
        stays, votes, labels, new_ids = ~seen, base.votes.copy(), list(base.labels), list[str]()
        changed = Clause("changed_at", FieldType.DATETIME, bounds={"gte": since - LATE})
        expired = replace(not_expired_clause(base.read_at), negated=False)
        for clauses in [[]] if complete else [[changed], [expired]]:
            for image in chain.from_iterable(self.memory.images.pages(tenant, clauses, PAGE)):
                row = places.get(image.image_id)
                lasts = not image.has_expired(base.read_at) and image.removal is None
                same = row is not None and base.pictures[row] == short_digest(image.picture)
                if row is not None:
                    seen[row] = True
                    stays[row] = same and lasts and (image.state is State.REMEMBERED or image.doubt is Doubt.PRUNED)
                    votes[row], labels[row] = image.state is State.REMEMBERED, image.labels
                if image.state is State.REMEMBERED and lasts and not same:
                    new_ids.append(image.image_id)
        if complete:
            stays &= seen
        return replace(base, votes=votes, labels=labels).where(stays), new_ids

    def _read(self, tenant: str, ids: Sequence[str] | None, moment: datetime, progress: Progress) -> "_Read":
        """The images with their vectors, of some ids whether they vote or not; None: all that vote."""
        read, total = (
            _Read(),
            self.memory.images.count_with_vectors(tenant, voting_clauses(moment)) if ids is None else len(ids),
        )
        states = [State.REMEMBERED] if ids is None else [State.REMEMBERED, State.MUTED]
        for clauses in [[]] if ids is None else id_clauses(ids):
            for page, vectors in self.memory.images.pages_with_vectors(
                tenant, [*clauses, not_expired_clause(moment)], PAGE, states
            ):
                progress("read", len(read.images), total)
                read.images += map(_Image.of, page)
                read.blocks.append(vectors)
                self._check(len(read.images))
        return read

    def _check(self, images: int) -> None:
        if images > self.max_images:
            raise InvalidRequest(
                f"the memory holds {images} images and at most {self.max_images} are judged: raise"
                " VISUAL_MEMORY_CURATE__MAX_IMAGES if the workers have the room for their vectors"
            )


class _Image(NamedTuple):
    """An image as it was read."""

    image_id: str
    labels: list[str]
    picture: np.uint64
    content: np.uint64
    votes: bool

    @classmethod
    def of(cls, image: StoredImage) -> "_Image":
        """What is needed of a stored one."""
        digests = short_digest(image.picture), short_digest(image.content_hash)
        return cls(image.image_id, image.labels, *digests, image.state is State.REMEMBERED)


@dataclass
class _Read:
    """Images as they were read, with their vectors."""

    images: list[_Image] = field(default_factory=list)
    blocks: list[Vectors] = field(default_factory=list)

    def holds(self, images: JudgementInput) -> Mask:
        """Whether each of some images is among them, with the same picture; [n]."""
        read = {(image.image_id, image.picture) for image in self.images}
        pairs = zip(images.image_ids, images.pictures, strict=True)
        return np.fromiter((pair in read for pair in pairs), bool, len(images.image_ids))

    def fill(self, vectors: Vectors, places: Mapping[str, int]) -> None:
        """Put the vectors where they belong, and let go of them on the way, so that it takes little more room."""
        end = len(self.images)
        while self.blocks:
            block = self.blocks.pop()
            for row, image in enumerate(self.images[end - len(block) : end]):
                if image.image_id in places:
                    vectors[places[image.image_id]] = block[row]
            end -= len(block)


def _merged(kept: JudgementInput, read: _Read) -> tuple[JudgementInput, Mask]:
    """Images that are left and those that were read, with the lists of the former still; and which of them are new."""
    there = {*zip(kept.image_ids, kept.pictures, strict=True)}
    new = [image for image in read.images if image.votes and (image.image_id, image.picture) not in there]
    ids = [*kept.image_ids, *(image.image_id for image in new)]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    labels = [*kept.labels, *(image.labels for image in new)]
    images = replace(
        kept,
        image_ids=[ids[row] for row in order],
        labels=[labels[row] for row in order],
        pictures=np.concatenate([kept.pictures, np.array([image.picture for image in new], np.uint64)])[order],
        contents=np.concatenate([kept.contents, np.array([image.content for image in new], np.uint64)])[order],
        votes=np.concatenate([kept.votes, np.ones(len(new), bool)])[order],
    )
    return images, np.array(order, np.int64) >= len(kept.image_ids)


def not_expired_clause(moment: datetime) -> Clause:
    """What an image must meet that is to be kept beyond a moment."""
    return Clause("expires_at", FieldType.DATETIME, bounds={"lte": moment}, negated=True)


def voting_clauses(moment: datetime) -> list[Clause]:
    """What an image must meet to vote at a moment."""
    return [REMEMBERED, not_expired_clause(moment)]


def id_clauses(ids: Sequence[str]) -> Iterator[list[Clause]]:
    """Filters that together name images of these ids, each at most `PAGE` of them."""
    for start in range(0, len(ids), PAGE):
        yield [Clause("image_id", FieldType.KEYWORD, tuple(ids[start : start + PAGE]))]
