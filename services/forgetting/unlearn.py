"""Unlearn: what was computed from a tenant's images is taken back when some of them are gone."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.curation.judgements import Judgements
from services.memory.memory import Memory


@dataclass(frozen=True)
class Unlearn:
    """A hook of the removal (`services.forgetting.forget.Undo`): then only what people decided tells of images.

    Judgements go first: whoever mutes by one looks afterwards whether it still counts.
    """

    memory: Memory
    judgements: Judgements

    def __call__(self, tenant: str, gone: Sequence[object]) -> None:
        """Void every judgement, and take back all that the service did to images because of how others vote."""
        if gone:
            self.judgements.void(tenant)
            self.memory.reconsider(tenant)
