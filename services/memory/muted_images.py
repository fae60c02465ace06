"""Unmute images by filter, and undo what other images' votes did to them."""

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from visual_memory.schemas.filter import Clause
from visual_memory.schemas.image import Doubt, State
from visual_memory.services.memory.image_leases import NOT_BEGUN
from visual_memory.services.memory.points.point_filters import UNMARKED, doubted, in_state, within
from visual_memory.services.memory.points.read_and_write_points import Points
from visual_memory.services.vector_engines.engine_contract import SetPayload, Write

NOT_DOUBTED = MappingProxyType({"doubt": None, "reason": None, "objectors": None, "pruned_from": None})
"""No doubt, as a payload to set."""


class MutedImages:
    """Images that are stored and do not vote.

    Args:
        points: of the collection.
    """

    def __init__(self, points: Points) -> None:
        self._points = points

    def unmute(self, tenant: str, clauses: Sequence[Clause]) -> int:
        """Let the muted images that meet a filter vote again, in one operation; return how many there were."""
        where = within(tenant, [*clauses, in_state(State.MUTED), UNMARKED])
        number = self._points.engine.count(where)
        self._points.write([SetPayload({**NOT_DOUBTED, "state": State.REMEMBERED.value}, where)], urgent=True)
        return number

    def undo_peer_effects(self, tenant: str) -> None:
        """Undo all that was done to images because of how others vote; see `undo_peer_effects`."""
        if self._points.engine.count(within(tenant, [doubted(*Doubt), UNMARKED])):
            self._points.write([*undo_peer_effects(tenant, UNMARKED)], urgent=True)


def undo_peer_effects(tenant: str, which: Clause) -> Iterator[Write]:
    """Writes that undo what was done to images because of how others vote.

    Held images wait and are remembered again, pruned images vote again, warnings are cleared.
    """
    waiting = {**NOT_DOUBTED, **NOT_BEGUN, "state": State.WAITING.value, "attempts": 0}
    yield SetPayload(waiting, within(tenant, [which, doubted(Doubt.HELD), in_state(State.MUTED)]))
    voting = {**NOT_DOUBTED, "state": State.REMEMBERED.value}
    yield SetPayload(voting, within(tenant, [which, doubted(Doubt.PRUNED), in_state(State.MUTED)]))
    yield SetPayload({**NOT_DOUBTED}, within(tenant, [which, doubted(*Doubt)]))
