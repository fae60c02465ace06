"""The neighbours of images that a removal left with too few, found by the store: a removal holds no vectors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from visual_memory.schemas.classify_options import Effort, GroupBy
from visual_memory.schemas.field_types import FieldType
from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import State
from visual_memory.services.curation.judgement.judge_memory import looked_at, sampled
from visual_memory.services.curation.judgement.judgement_input import JudgementInput, short_digest
from visual_memory.services.curation.judgement.neighbour_lists import MAX_NEIGHBOURS, MIN_NEIGHBOURS, NeighbourLists
from visual_memory.services.memory.memory import Memory
from visual_memory.services.vector_engines.engine_contract import Vectors
from visual_memory.services.voting.exact_neighbours import MISSING, SLACK, Rows

MOST = 512
"""With more of them a pass over the whole memory is the better way."""
AT_ONCE = 8
PAGE = 500


@dataclass(frozen=True)
class SearchMissingNeighbours:
    """The use case, with the part that it needs."""

    memory: Memory

    def __call__(self, tenant: str, images: JudgementInput, k: int) -> JudgementInput | None:
        """The images with as many neighbours as a judgement by k of them needs.

        Only for that judgement: what was muted since is not found, so the next pass looks at these images again.

        Args:
            tenant: whose.
            images: that all vote.
            k: how many neighbours vote on each image; those that are sampled need `MIN_NEIGHBOURS`.

        Returns:
            None where that takes too much, or the images changed meanwhile.
        """
        needed = np.full(len(images.image_ids), looked_at(k))
        needed[sampled(len(needed))] = MIN_NEIGHBOURS
        short = np.flatnonzero(images.lists.lengths() < np.minimum(needed, len(needed) - 1))
        if not len(short):
            return images
        if len(short) > MOST:
            return None
        lists = NeighbourLists(images.lists.similarities.copy(), images.lists.rows.copy())
        for start in range(0, len(short), AT_ONCE):
            if not self._search(tenant, images, lists, short[start : start + AT_ONCE]):
                return None
        return replace(images, lists=lists)

    def _search(self, tenant: str, images: JudgementInput, lists: NeighbourLists, short: Rows) -> bool:
        """Fill in the lists of some images; False where they changed meanwhile."""
        places = images.places()
        own = self._vectors(tenant, images, places, short)
        if len(own) < len(short):
            return False
        queries = np.stack([own[row] for row in short.tolist()])
        found = self.memory.search.nearest(
            tenant, queries, 2 * MAX_NEIGHBOURS, effort=Effort.EXACT, group_by=GroupBy.NONE
        )
        rows = [[places[hit.image_id] for hit in hits if hit.image_id in places] for hits in found]
        near = self._vectors(tenant, images, places, sorted({row for some in rows for row in some}))
        for row, query, hits, some in zip(short.tolist(), queries, found, rows, strict=True):
            others = np.array([other for other in some if other != row and other in near], np.int32)
            if not len(others):
                return False
            similarities = np.clip(np.vecdot(query, np.stack([near[other] for other in others.tolist()])), -1, 1)
            order = np.lexsort((others, -similarities))[:MAX_NEIGHBOURS]
            beyond = hits[-1].similarity + SLACK if len(hits) >= 2 * MAX_NEIGHBOURS else -np.inf
            if np.count_nonzero(similarities[order] > beyond) < min(MIN_NEIGHBOURS, len(places) - 1):
                return False
            lists.rows[row], lists.similarities[row] = MISSING, -1
            lists.rows[row, : len(order)], lists.similarities[row, : len(order)] = others[order], similarities[order]
        return True

    def _vectors(
        self, tenant: str, images: JudgementInput, places: dict[str, int], rows: Sequence[int] | Rows
    ) -> dict[int, Vectors]:
        """The vectors of those rows that have the same content still, by row."""
        ids, found = [images.image_ids[row] for row in rows], dict[int, Vectors]()
        for start in range(0, len(ids), PAGE):
            clause = Clause("image_id", FieldType.KEYWORD, tuple(ids[start : start + PAGE]))
            for page, vectors in self.memory.images.pages_with_vectors(
                tenant, [clause], PAGE, [State.REMEMBERED, State.MUTED]
            ):
                for image, vector in zip(page, vectors, strict=True):
                    if images.pictures[places[image.image_id]] == short_digest(image.picture):
                        found[places[image.image_id]] = vector
        return found
