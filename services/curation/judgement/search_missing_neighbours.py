"""Search neighbours for the images that a removal left with too few, by the vector engine: no vectors are in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from visual_memory.schemas.classify_options import Effort, GroupBy
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.services.curation.judgement.judge_memory import neighbours_searched, sample_rows
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.neighbour_lists import MAX_NEIGHBOURS, MIN_NEIGHBOURS, NeighbourLists
from visual_memory.services.memory.memory_facade import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.brute_force_neighbours import MISSING, SLACK, Rows

MAX_SEARCHED = 512
"""For more images than this, a pass over the whole memory is cheaper."""
BATCH = 8
PAGE = 500


@dataclass(frozen=True)
class SearchMissingNeighbours:
    """Completes neighbour lists."""

    memory: Memory

    def __call__(self, tenant: str, images: JudgementInput, k: int) -> JudgementInput | None:
        """The images with as many neighbours as a judgement by k of them needs.

        The result is for that judgement only: images muted since are not found, so the next pass searches again.

        Args:
            tenant: the tenant.
            images: images that all vote.
            k: how many neighbours vote on each image; sampled images need `MIN_NEIGHBOURS`.

        Returns:
            None if too many images need a search, or the images changed meanwhile.
        """
        needed = np.full(len(images.image_ids), neighbours_searched(k))
        needed[sample_rows(len(needed))] = MIN_NEIGHBOURS
        short = np.flatnonzero(images.lists.lengths() < np.minimum(needed, len(needed) - 1))
        if not len(short):
            return images
        if len(short) > MAX_SEARCHED:
            return None
        lists = NeighbourLists(images.lists.similarities.copy(), images.lists.rows.copy())
        for start in range(0, len(short), BATCH):
            if not self._fill(tenant, images, lists, short[start : start + BATCH]):
                return None
        return replace(images, lists=lists)

    def _fill(self, tenant: str, images: JudgementInput, lists: NeighbourLists, short: Rows) -> bool:
        """Fill the lists of some images in place; False if images changed meanwhile."""
        row_of = images.rows_by_id()
        own = self._vectors(tenant, images, row_of, short)
        if len(own) < len(short):
            return False
        queries = np.stack([own[row] for row in short.tolist()])
        found = self.memory.search.nearest(
            tenant, queries, 2 * MAX_NEIGHBOURS, effort=Effort.EXACT, group_by=GroupBy.NONE
        )
        rows = [[row_of[hit.image_id] for hit in hits if hit.image_id in row_of] for hits in found]
        near = self._vectors(tenant, images, row_of, sorted({row for some in rows for row in some}))
        for row, query, hits, some in zip(short.tolist(), queries, found, rows, strict=True):
            others = np.array([other for other in some if other != row and other in near], np.int32)
            if not len(others):
                return False
            similarities = np.clip(np.vecdot(query, np.stack([near[other] for other in others.tolist()])), -1, 1)
            order = np.lexsort((others, -similarities))[:MAX_NEIGHBOURS]
            beyond = hits[-1].similarity + SLACK if len(hits) >= 2 * MAX_NEIGHBOURS else -np.inf
            if np.count_nonzero(similarities[order] > beyond) < min(MIN_NEIGHBOURS, len(row_of) - 1):
                return False
            lists.rows[row], lists.similarities[row] = MISSING, -1
            lists.rows[row, : len(order)], lists.similarities[row, : len(order)] = others[order], similarities[order]
        return True

    def _vectors(
        self, tenant: str, images: JudgementInput, row_of: dict[str, int], rows: Sequence[int] | Rows
    ) -> dict[int, Vectors]:
        """The vectors of those rows whose picture has not changed, by row."""
        ids, found = [images.image_ids[row] for row in rows], dict[int, Vectors]()
        for start in range(0, len(ids), PAGE):
            clause = Clause("image_id", FieldType.KEYWORD, tuple(ids[start : start + PAGE]))
            for page, vectors in self.memory.images.pages_with_vectors(
                tenant, [clause], PAGE, [State.REMEMBERED, State.MUTED]
            ):
                for image, vector in zip(page, vectors, strict=True):
                    if images.pictures[row_of[image.image_id]] == short_digest(image.picture):
                        found[row_of[image.image_id]] = vector
        return found
