"""A search asks whether the store answers, but not again a moment later."""

import pytest

from schemas.errors import Unavailable
from services.answers.classify import MOMENT, Attentive


class Store:
    """Counts how often it is asked; it may be silent."""

    def __init__(self) -> None:
        self.asked = 0
        self.silent = False

    def ping(self) -> None:
        self.asked += 1
        if self.silent:
            raise Unavailable("silent")


def test_a_store_that_answered_is_asked_again_after_a_moment() -> None:
    store, moment = Store(), 100.0
    ask = Attentive(store.ping, lambda: moment)
    for passed, asked in ((0, 1), (MOMENT / 2, 1), (MOMENT, 2), (MOMENT, 3)):
        moment += passed
        ask()
        assert store.asked == asked


def test_a_silent_store_is_asked_each_time() -> None:
    store = Store()
    ask = Attentive(store.ping, lambda: 0.0)
    store.silent = True
    for asked in (1, 2):
        with pytest.raises(Unavailable):
            ask()
        assert store.asked == asked
    store.silent = False
    ask()
    assert store.asked == 3
