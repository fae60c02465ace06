"""Update the input of a judgement: apply the images that were added, changed or removed since the last one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

import numpy as np

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State, StoredImage
from visual_memory.schemas.moments import now
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.neighbour_lists import Mask
from visual_memory.services.curation.judgement.vector_cache import VectorCache
from visual_memory.services.infrastructure.processes import cpu_threads
from visual_memory.services.infrastructure.task_queue.job_runner import Progress
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.memory.points.point_filters import in_state, not_expired
from visual_memory.services.vector_engines.engine_contract import Vectors

PAGE = 500
REMEMBERED = in_state(State.REMEMBERED)
OVERLAP = timedelta(seconds=60)
"""Changes are read again from this long before the last pass: an engine may apply a change half a minute after the time
that it carries, and the clocks of machines differ. A change that is read twice has no further effect."""


@dataclass(frozen=True)
class UpdateJudgementInput:
    """Brings the input of a judgement up to date.

    Attributes:
        cache: the vectors of the last pass.
        max_images: larger memories are refused, because all vectors are in main memory.
    """

    memory: Memory
    cache: VectorCache
    max_images: int

    def __call__(self, tenant: str, base: JudgementInput, complete: bool, progress: Progress) -> JudgementInput:
        """The images as they are now; images that did not change since are not read.

        Args:
            tenant: the tenant.
            base: the images as they were last read.
            complete: check every image, because some may have been removed.
            progress: called with the progress.

        Raises:
            InvalidRequest: the memory has too many images.
        """
        self._check_size(self.memory.images.count_with_vectors(tenant, voting_clauses(now())))
        updated = self._update(tenant, base, complete, progress)
        if complete:
            return updated
        voters = self.memory.images.count_with_vectors(tenant, voting_clauses(now()))
        if np.count_nonzero(updated.votes) == voters:
            return updated
        return self._update(tenant, updated, True, progress)  # images changed meanwhile, or were deleted

    def _update(self, tenant: str, base: JudgementInput, complete: bool, progress: Progress) -> JudgementInput:
        read_at = now()
        kept, new_ids = self._changed(tenant, replace(base, read_at=read_at), base.read_at, complete)
        if new_ids == [] and not len(kept.lists.short()) and not len(kept.voting().lists.short()):
            return kept
        cached = self.cache.get(tenant)
        is_cached = cached.has(kept.pictures)
        uncached = [kept.image_ids[row] for row in np.flatnonzero(~is_cached).tolist()]
        read = self._read(tenant, None if new_ids is None else new_ids + uncached, read_at, progress)
        kept = kept.where(is_cached | read.has(kept))  # images that changed meanwhile are read by the next pass
        images, new = _merge(kept, read)
        self._check_size(len(images.image_ids))
        vectors = np.empty((len(images.image_ids), self.memory.dimension), np.float32)
        cached.fill(images.pictures, vectors)
        read.move_to(vectors, images.rows_by_id())
        self.cache.put(tenant, images.pictures, vectors)
        lists = kept.lists.with_new(vectors, new, cpu_threads.count(), lambda *done: progress("compared", *done))
        updated = replace(images, lists=lists)
        if not len(updated.voting().lists.short()):
            return updated
        voters = updated.voting()  # muted images leave too few neighbours for some of the others
        return replace(voters, lists=voters.lists.refilled(vectors[updated.votes], cpu_threads.count()))

    def _changed(
        self, tenant: str, base: JudgementInput, since: datetime, complete: bool
    ) -> tuple[JudgementInput, list[str] | None]:
        """The images of the base that remain, with current labels, and the ids of new images; None: all are new."""
        if not len(base.image_ids):
            return base, None
        row_of, seen = base.rows_by_id(), np.zeros(len(base.image_ids), bool)
        stays, votes, labels, new_ids = ~seen, base.votes.copy(), list(base.labels), list[str]()
        changed = Clause("changed_at", FieldType.DATETIME, bounds={"gte": since - OVERLAP})
        expired = replace(not_expired(base.read_at), negated=False)
        for clauses in [[]] if complete else [[changed], [expired]]:
            for image in chain.from_iterable(self.memory.images.pages(tenant, clauses, PAGE)):
                row = row_of.get(image.image_id)
                exists = not image.has_expired(base.read_at) and image.removal is None
                same = row is not None and base.pictures[row] == short_digest(image.picture)
                if row is not None:
                    seen[row] = True
                    stays[row] = same and exists and (image.state is State.REMEMBERED or image.doubt is Doubt.PRUNED)
                    votes[row], labels[row] = image.state is State.REMEMBERED, image.labels
                if image.state is State.REMEMBERED and exists and not same:
                    new_ids.append(image.image_id)
        if complete:
            stays &= seen
        return replace(base, votes=votes, labels=labels).where(stays), new_ids

    def _read(self, tenant: str, ids: Sequence[str] | None, moment: datetime, progress: Progress) -> "_ReadImages":
        """Read images with their vectors: those of some ids, voting or not; None: all that vote."""
        read = _ReadImages()
        total = len(ids) if ids is not None else self.memory.images.count_with_vectors(tenant, voting_clauses(moment))
        states = [State.REMEMBERED] if ids is None else [State.REMEMBERED, State.MUTED]
        for clauses in [[]] if ids is None else id_clauses(ids):
            for page, vectors in self.memory.images.pages_with_vectors(
                tenant, [*clauses, not_expired(moment)], PAGE, states
            ):
                progress("read", len(read.images), total)
                read.images += map(_ReadImage.of, page)
                read.blocks.append(vectors)
                self._check_size(len(read.images))
        return read

    def _check_size(self, images: int) -> None:
        if images > self.max_images:
            raise InvalidRequest(
                f"the memory holds {images} images and at most {self.max_images} are judged: raise"
                " VISUAL_MEMORY_CURATE__MAX_IMAGES if the workers have enough main memory for their vectors"
            )


class _ReadImage(NamedTuple):
    """What is needed of an image that was read."""

    image_id: str
    labels: list[str]
    picture: np.uint64
    content: np.uint64
    votes: bool

    @classmethod
    def of(cls, image: StoredImage) -> "_ReadImage":
        digests = short_digest(image.picture), short_digest(image.content_hash)
        return cls(image.image_id, image.labels, *digests, image.state is State.REMEMBERED)


@dataclass
class _ReadImages:
    """Images with their vectors, in the order of reading."""

    images: list[_ReadImage] = field(default_factory=list)
    blocks: list[Vectors] = field(default_factory=list)

    def has(self, images: JudgementInput) -> Mask:
        """Whether each of some images was read with the same picture; [n]."""
        read = {(image.image_id, image.picture) for image in self.images}
        pairs = zip(images.image_ids, images.pictures, strict=True)
        return np.fromiter((pair in read for pair in pairs), bool, len(images.image_ids))

    def move_to(self, vectors: Vectors, row_of: Mapping[str, int]) -> None:
        """Copy the vectors to their rows, freeing each block, so that the copy needs little more memory."""
        end = len(self.images)
        while self.blocks:
            block = self.blocks.pop()
            for row, image in enumerate(self.images[end - len(block) : end]):
                if image.image_id in row_of:
                    vectors[row_of[image.image_id]] = block[row]
            end -= len(block)


def _merge(kept: JudgementInput, read: _ReadImages) -> tuple[JudgementInput, Mask]:
    """Merge remaining and new images by id, the lists unchanged; returns which of them are new, too."""
    existing = {*zip(kept.image_ids, kept.pictures, strict=True)}
    new = [image for image in read.images if image.votes and (image.image_id, image.picture) not in existing]
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


def voting_clauses(moment: datetime) -> list[Clause]:
    """The conditions under which an image votes at a moment."""
    return [REMEMBERED, not_expired(moment)]


def id_clauses(ids: Sequence[str]) -> Iterator[list[Clause]]:
    """Filters that together select images by their ids, at most `PAGE` ids each."""
    for start in range(0, len(ids), PAGE):
        yield [Clause("image_id", FieldType.KEYWORD, tuple(ids[start : start + PAGE]))]
