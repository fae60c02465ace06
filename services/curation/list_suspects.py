"""List the suspects of the current judgement, without those that were muted, relabelled or removed since."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from visual_memory.schemas.image import StoredImage, now
from visual_memory.schemas.judgement import Suspect, Suspicion
from visual_memory.services.curation.judgement.stored_judgements import StoredJudgements
from visual_memory.services.memory.memory_facade import Memory

BATCH = 200


@dataclass(frozen=True)
class ListSuspects:
    """Lists suspects."""

    memory: Memory
    judgements: StoredJudgements

    def __call__(self, tenant: str, kind: Suspicion | None, limit: int) -> list[Suspect]:
        """The strongest suspects of each kind, or of one kind, at most `limit`."""
        judgement = self.judgements.used(tenant)
        if judgement is None:
            return []
        of_kind = [each for each in judgement.suspects if kind in (None, each.suspicion)]
        return list(islice(self._valid(tenant, of_kind), limit))

    def _valid(self, tenant: str, suspects: Sequence[Suspect]) -> Iterator[Suspect]:
        for start in range(0, len(suspects), BATCH):
            batch = suspects[start : start + BATCH]
            originals = {each.suggestion for each in batch if each.suspicion is Suspicion.DUPLICATE}
            stored = self.memory.images.get(tenant, {each.image_id for each in batch} | originals)
            voters = {image_id: image for image_id, image in stored.items() if image.votes_at(now())}
            yield from (each for each in batch if _is_valid(each, voters))


def _is_valid(suspect: Suspect, voters: Mapping[str, StoredImage]) -> bool:
    """Whether a suspect still votes with the labels that were judged; a duplicate, only if its original votes too."""
    image = voters.get(suspect.image_id)
    is_unique = suspect.suspicion is Suspicion.DUPLICATE and suspect.suggestion not in voters
    return image is not None and image.labels == suspect.labels and not is_unique
