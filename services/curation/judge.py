"""Judge: a pass over a tenant's memory, in which each image is classified by the others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.errors import Conflict, InvalidRequest
from schemas.image import now
from schemas.job import Job
from schemas.judgement import CalibrationSample, Judgement
from services.curation.fingerprint import REMEMBERED, fingerprint
from services.curation.judgements import Judgements
from services.decision.leave_one_out import Memories, Opinion, opinion, report
from services.decision.neighbours import NOBODY, Rows, Similarities, nearest
from services.decision.pruning import are_right, count_votes
from services.decision.suspects import suspects
from services.memory.engine import Vectors
from services.memory.memory import Memory
from services.runtime import cores
from services.runtime.jobs import Progress

PAGE = 500
AT_ONCE = 128
"""Images between two looks at whether the pass still counts."""
SAMPLE = 1000
SAMPLE_NEIGHBOURS = 100
PASSES = 3
"""So often a job begins anew where removals come in between."""


class Voided(Exception):
    """A removal came in between."""


@dataclass(frozen=True)
class Judge:
    """The use case: does a job of the kind ``judgement``.

    Attributes:
        encoder: the name of the encoder whose vectors are compared.
        k: how many neighbours vote.
        most_images: a memory of more is not judged, for its vectors are held at once.
    """

    memory: Memory
    judgements: Judgements
    encoder: str
    k: int
    most_images: int

    def __call__(self, tenant: str, _job: Job, progress: Progress) -> None:
        """Judge a tenant's memory, anew where a removal comes in between.

        Raises:
            InvalidRequest: it holds too many images.
            Conflict: removals came in between every time.
        """
        if self.judgements.current(tenant) is None:
            self.memory.reconsider(tenant)  # a crash may have left what was muted by a judgement that was voided
        for _ in range(PASSES):
            registration = self.judgements.register(tenant)
            try:
                judgement = self._judge(tenant, registration, self._watching(tenant, registration, progress))
            except Voided:
                continue
            if self.judgements.keep(tenant, judgement):
                return
        raise Conflict(f"images were removed during each of {PASSES} passes: start another once that has ended")

    def _watching(self, tenant: str, registration: str, progress: Progress) -> Progress:
        def say(stage: str, done: int, total: int) -> None:
            if not self.judgements.is_valid(tenant, registration):
                raise Voided
            progress(stage, done, total)

        return say

    def _judge(self, tenant: str, registration: str, progress: Progress) -> Judgement:
        made_at, print_before = now(), fingerprint(self.memory, tenant)
        image_ids, labels, contents, vectors = self._read(tenant, progress)
        everybody = np.arange(len(image_ids))
        memories = Memories(image_ids, labels, *_compare(everybody, vectors, self.k, "compared", progress), contents)
        votes = count_votes(memories.rows, are_right(labels, memories.rows))
        opinions = list(_opinions(memories, progress))
        given = zip(image_ids, votes.tolist(), strict=True)
        return Judgement(
            id=registration,
            made_at=made_at,
            encoder=self.encoder,
            k=self.k,
            images=len(image_ids),
            votes={image_id: (wrong, right) for image_id, (wrong, right) in given if wrong or right},
            classes=report(labels, opinions),
            suspects=suspects(memories, opinions),
            sample=_sample(labels, contents, vectors, votes[:, 0], progress),
            fingerprint=print_before,
        )

    def _read(self, tenant: str, progress: Progress) -> tuple[list[str], list[list[str]], list[str], Vectors]:
        """Ids, labels, content hashes and vectors of all remembered images, by ascending id."""
        image_ids: list[str] = []
        labels: list[list[str]] = []
        contents: list[str] = []
        blocks: list[Vectors] = []
        total = self.memory.count(tenant, [REMEMBERED])
        self._check(total)
        progress("read", 0, total)
        for page, vectors in self.memory.embedded(tenant, [], PAGE):
            image_ids += [image.image_id for image in page]
            labels += [image.labels for image in page]
            contents += [image.content_hash for image in page]
            blocks.append(vectors)
            self._check(len(image_ids))
            progress("read", len(image_ids), total)
        order = sorted(range(len(image_ids)), key=image_ids.__getitem__)
        in_order = [image_ids[row] for row in order], [labels[row] for row in order], [contents[row] for row in order]
        return *in_order, _ordered(blocks, order)

    def _check(self, images: int) -> None:
        if images > self.most_images:
            raise InvalidRequest(
                f"the memory holds {images} images and at most {self.most_images} are judged: raise"
                " VISUAL_MEMORY_CURATE__MOST_IMAGES if the workers have the room for their vectors"
            )


def _ordered(blocks: list[Vectors], order: Sequence[int]) -> Vectors:
    """The rows of all blocks in an order; the blocks are let go of on the way, so that it takes little more room."""
    places = np.empty(len(order), np.int64)
    places[np.array(order, np.int64)] = np.arange(len(order))
    vectors = np.empty((len(order), blocks[0].shape[1]), np.float32)
    end = len(order)
    while blocks:
        block = blocks.pop()
        vectors[places[end - len(block) : end]] = block
        end -= len(block)
    return vectors


def _compare(asked: Rows, vectors: Vectors, k: int, stage: str, progress: Progress) -> tuple[Similarities, Rows]:
    """The neighbours of these rows, each leaving itself out; see `nearest`."""
    similarities, rows = np.full((len(asked), k), -1, np.float32), np.full((len(asked), k), NOBODY, np.int64)
    for start in range(0, len(asked), AT_ONCE):
        progress(stage, start, len(asked))
        part = slice(start, start + AT_ONCE)
        similarities[part], rows[part] = nearest(vectors[asked[part]], vectors, k, asked[part], cores.count())
    return similarities, rows


def _opinions(memories: Memories, progress: Progress) -> Iterator[Opinion]:
    for row in range(len(memories.image_ids)):
        if row % AT_ONCE == 0:
            progress("counted", row, len(memories.image_ids))
        yield opinion(memories, row)


def _sample(
    labels: Sequence[list[str]], contents: Sequence[str], vectors: Vectors, wrong: Rows, progress: Progress
) -> CalibrationSample:
    """Some of the images, spread evenly, with more of their neighbours."""
    drawn = np.linspace(0, max(0, len(labels) - 1), min(len(labels), SAMPLE)).astype(np.int64)
    similarities, rows = _compare(drawn, vectors, SAMPLE_NEIGHBOURS, "sampled", progress)
    there = rows != NOBODY
    groups = np.unique(contents, return_inverse=True)[1]
    return CalibrationSample(
        labels=[labels[row] for row in drawn.tolist()],
        similarities=[found[held].tolist() for found, held in zip(similarities, there, strict=True)],
        neighbour_labels=[
            [labels[row] for row in found[held].tolist()] for found, held in zip(rows, there, strict=True)
        ],
        neighbour_wrong=[wrong[found[held]].tolist() for found, held in zip(rows, there, strict=True)],
        neighbour_groups=[groups[found[held]].tolist() for found, held in zip(rows, there, strict=True)],
    )
