"""Promise 5: every route of the API, with keys that are missing, spoilt, revoked, too narrow, or another tenant's."""

from tests.end_to_end.test_access import CALLS, TRIES, scene_of
from tests.stack import Stack

from .conftest import Report


def test_nobody_gets_in(stack: Stack, report: Report) -> None:
    scene = scene_of(stack)
    tried = sum(try_it(scene, route, call) for route, call in CALLS.items() for try_it in TRIES)
    report(5, "every route with no key, a spoilt, revoked, too narrow or another tenant's", tried, 0, 0)
