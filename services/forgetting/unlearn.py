"""Unlearn: what was computed from a tenant's images is taken back when some of them are gone."""

from dataclasses import dataclass

from services.curation.judgements import Judgements
from services.forgetting.removals import CoveredImages
from services.memory.memory import Memory


@dataclass(frozen=True)
class Unlearn:
    """A hook of the removal (`services.forgetting.removals.RemovalHook`): what people decided stays.

    Judgements go first: whoever mutes by one looks afterwards whether it still counts.
    """

    memory: Memory
    judgements: Judgements

    def __call__(self, tenant: str, _covered: CoveredImages) -> None:
        """Void every judgement, and take back all that the service did to images because of how others vote."""
        self.judgements.void(tenant)
        self.memory.reconsider(tenant)
