"""Promise 5: who can write to Redis cannot make a worker touch an image."""

import pytest
from celery import Celery

from schemas.errors import NotAuthorized
from services.runtime.bell import CURATE, JOB, REMEMBER, Bell, make_celery
from services.settings import WorkerSettings

BELL = Bell(Celery(), b"k" * 32)


def test_what_was_signed_is_read() -> None:
    for ids in (["a"], ["a", "b"], []):
        assert BELL.read(REMEMBER, ["north", ids, BELL.sign(REMEMBER, "north", ids)]) == ("north", ids)


SIGNED = BELL.sign(REMEMBER, "north", ["a", "b"])


@pytest.mark.parametrize(
    "message",
    [
        [],
        ["north", ["a", "b"]],
        ["north", ["a", "b"], None],
        ["north", ["a", "b"], ""],
        ["north", ["a", "b"], "é"],
        ["north", ["a", "b"], "\udce9"],
        ["north", ["a", "b"], SIGNED.upper()],
        ["north", ["a", "b"], SIGNED, "more"],
        ["south", ["a", "b"], SIGNED],
        ["north", ["a"], SIGNED],
        ["north", ["b", "a"], SIGNED],
        ["north", ["a", "b", "c"], SIGNED],
        ["north", ["a,b"], SIGNED],
        ["north", "ab", SIGNED],
        ["north", {"a": 1, "b": 2}, SIGNED],
        ["north", [["a"], "b"], SIGNED],
        [["north"], ["a", "b"], SIGNED],
        [7, [None], {}],
        ["north", ["a", "b"], Bell(Celery(), b"K" * 32).sign(REMEMBER, "north", ["a", "b"])],
        ["north", ["a", "b"], BELL.sign(JOB, "north", ["a", "b"])],
    ],
    ids=ascii,
)
def test_whatever_else_is_refused(message: list[object]) -> None:
    with pytest.raises(NotAuthorized, match="without a valid signature"):
        BELL.read(REMEMBER, message)


@pytest.mark.parametrize("seconds", [0, 600])
def test_memories_are_judged_by_the_clock_unless_the_settings_say_never(seconds: int) -> None:
    schedule = make_celery("memory://", WorkerSettings(), seconds).conf.beat_schedule
    assert {name: each["schedule"] for name, each in schedule.items() if each["task"] == CURATE} == (
        {"curate": seconds} if seconds else {}
    )
