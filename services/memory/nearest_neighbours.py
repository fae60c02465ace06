"""Search the images of a memory that are nearest to a vector, exact among equal similarities."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from typing import NamedTuple

from visual_memory.schemas.classify_options import MAX_TIMES_K, Effort, GroupBy
from visual_memory.schemas.filter import Clause
from visual_memory.services.memory.points.point_filters import known_at, within
from visual_memory.services.memory.points.point_payload import to_labels
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.memory.points.unit_vectors import check_queries
from visual_memory.services.memory.vote_conditions import VoteConditions
from visual_memory.services.vector_engines.engine_contract import Answer, Search, Vectors
from visual_memory.services.voting.group_copies import first_groups

GROUP_FIELDS = {GroupBy.CONTENT: "content_hash", GroupBy.NONE: "image_id"}
"""The field that images which share a vote have in common."""


class Hit(NamedTuple):
    """A remembered image near a vector, with its labels at the requested moment.

    `similarity` is the cosine similarity, -1 to 1; images of the same `group` share a vote; pruning sets `reliability`.
    """

    image_id: str
    labels: tuple[str, ...]
    similarity: float
    group: str
    reliability: float = 1.0


class Hits(list[Hit]):
    """The images near a vector, by descending similarity, then by image id.

    Attributes:
        truncated: whether images that were not looked at might belong among them.
    """

    def __init__(self, hits: Iterable[Hit] = (), truncated: bool = False) -> None:
        super().__init__(hits)
        self.truncated = truncated


class NeighbourSearch:
    """Finds the nearest images that vote.

    Args:
        points: of the collection.
        voting: the conditions that an image meets while it votes.
    """

    def __init__(self, points: Points, voting: VoteConditions) -> None:
        self._points = points
        self._voting = voting

    def nearest(
        self,
        tenant: str,
        vectors: Vectors,
        k: int,
        clauses: Sequence[Clause] = (),
        effort: Effort = Effort.BALANCED,
        as_of: datetime | None = None,
        group_by: GroupBy = GroupBy.CONTENT,
        leave_out: Callable[[str], bool] | None = None,
    ) -> list[Hits]:
        """The remembered images nearest to each vector, without those that have expired by now, even with `as_of`.

        The search looks at every image that is as near as the k-th, so the result does not depend on the order or the
        history of the index; of equally near images, those with the lowest ids come first. If that would take more
        than `MAX_TIMES_K` times k images, it holds among those that the engine returned, and `Hits.truncated` is true.

        Args:
            tenant: whose images.
            vectors: float32 [n, dimension], finite, no row zero.
            k: maximum number of images for each vector, at least 1; images that share a vote count once.
            clauses: the checked filter.
            effort: how thorough the search is.
            as_of: only images that had been accepted by this moment, with the labels they had then; without those
                whose labels of that moment are no longer known.
            group_by: which images share a vote.
            leave_out: returns whether the image with an id is skipped.

        Raises:
            InvalidVector: a vector is not finite, zero or of another length.
        """
        check_queries(vectors, self._points.dimension)
        if not len(vectors):
            return []
        requested = [*clauses, *([] if as_of is None else known_at(as_of))]
        where = within(tenant, [*requested, *self._voting.of(tenant)])
        fields = dict.fromkeys(("image_id", "labels", GROUP_FIELDS[group_by], *([] if as_of is None else ["history"])))
        # similar images mostly have similar labels, and the graph has no paths of its own within a part of a range
        far = any(clause.field == "labels" or clause.bounds for clause in requested)
        found: dict[int, Hits] = {}
        for limit in (k + 1, MAX_TIMES_K * k):  # one more shows whether images beyond the k-th are as near
            left = [row for row in range(len(vectors)) if row not in found]
            search = Search(self._points.vector, where, limit, effort, tuple(fields), far)
            answers = self._points.engine.query_batch(vectors[left], search) if left else ()
            for row, answer in zip(left, answers, strict=True):
                hits = sorted(_hits(answer, as_of, group_by), key=lambda hit: (-hit.similarity, hit.image_id))
                voting = hits if leave_out is None else [hit for hit in hits if not leave_out(hit.image_id)]
                nearest, enough = first_groups(voting, k)
                complete = len(hits) < limit or (enough and nearest[-1].similarity > hits[-1].similarity)
                if complete or limit == MAX_TIMES_K * k:
                    found[row] = Hits(nearest, truncated=not complete)
        return [found[row] for row in range(len(vectors))]


def _hits(answer: Answer, as_of: datetime | None, group_by: GroupBy) -> Iterator[Hit]:
    histories = answer.columns.get("history", repeat(None))
    groups = answer.columns[GROUP_FIELDS[group_by]]
    for image_id, labels, history, group, score in zip(
        answer.columns["image_id"], answer.columns["labels"], histories, groups, answer.scores, strict=False
    ):
        yield Hit(image_id, to_labels(labels, history, as_of), max(-1.0, min(1.0, score)), group)
