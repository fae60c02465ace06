"""List the suspects of the current judgement, without those that were muted, relabelled or removed since."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from visual_memory.schemas.image import StoredImage
from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.schemas.list_cursor import ListCursors
from visual_memory.schemas.moments import now
from visual_memory.schemas.page import FIRST_PAGE, Page, PageRequest
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.memory.memory_facade import Memory

BATCH = 200
CURSORS = ListCursors("suspects", tuple[int, float, str])


@dataclass(frozen=True)
class ListSuspects:
    """Lists suspects."""

    memory: Memory
    judgements: StoredJudgements

    def __call__(self, tenant: str, asked: PageRequest = FIRST_PAGE, kind: Suspicion | None = None) -> Page[Suspect]:
        """A page of the suspects of each kind, or of one kind, the strongest first.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        position, judgement = CURSORS.decode(asked.cursor), self.judgements.used(tenant)
        if judgement is None:
            return Page.of([], None, 0 if asked.total else None)
        of_kind = sorted((each for each in judgement.suspects if kind in (None, each.suspicion)), key=_position)
        start = 0 if position is None else bisect_right(of_kind, position, key=_position)
        found = list(islice(self._suspects(tenant, of_kind[start:]), asked.limit + 1))
        page = found[: asked.limit]
        following = CURSORS.encode(_position(page[-1])) if len(found) > asked.limit else None
        return Page.of(page, following, sum(1 for _ in self._suspects(tenant, of_kind)) if asked.total else None)

    def still_suspect(self, tenant: str, suspects: Sequence[Suspect]) -> Iterator[tuple[Suspect, StoredImage]]:
        """Those suspects of a judgement that were not muted, relabelled or removed since, with their images.

        Read in batches, as they are asked for.
        """
        for start in range(0, len(suspects), BATCH):
            batch = suspects[start : start + BATCH]
            originals = {each.suggestion for each in batch if each.suspicion is Suspicion.DUPLICATE}
            stored = self.memory.images.get(tenant, {each.image_id for each in batch} | originals)
            voters = {image_id: image for image_id, image in stored.items() if image.votes_at(now())}
            yield from ((each, voters[each.image_id]) for each in batch if _is_valid(each, voters))

    def _suspects(self, tenant: str, suspects: Sequence[Suspect]) -> Iterator[Suspect]:
        return (suspect for suspect, _ in self.still_suspect(tenant, suspects))


def _position(suspect: Suspect) -> tuple[int, float, str]:
    return list(Suspicion).index(suspect.suspicion), -suspect.score, suspect.image_id


def _is_valid(suspect: Suspect, voters: Mapping[str, StoredImage]) -> bool:
    """Whether a suspect still votes with the labels that were judged; a duplicate, only if its original votes too."""
    image = voters.get(suspect.image_id)
    is_unique = suspect.suspicion is Suspicion.DUPLICATE and suspect.suggestion not in voters
    return image is not None and image.labels == suspect.labels and not is_unique
