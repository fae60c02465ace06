"""Promise 5: who can write to Redis cannot make a worker touch an image."""

import pytest
from celery import Celery

from schemas.errors import NotAuthorized
from services.infrastructure.task_queue.celery_app import make_celery
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.infrastructure.task_queue.task_names import CURATE, JOB, REMEMBER
from services.settings import WorkerSettings

QUEUE = TaskQueue(Celery(), b"k" * 32)


def test_what_was_signed_is_read() -> None:
    for ids in (["a"], ["a", "b"], []):
        assert QUEUE.read(REMEMBER, ["north", ids, QUEUE.sign(REMEMBER, "north", ids)]) == ("north", ids)


SIGNED = QUEUE.sign(REMEMBER, "north", ["a", "b"])


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
        ["north", ["a", "b"], TaskQueue(Celery(), b"K" * 32).sign(REMEMBER, "north", ["a", "b"])],
        ["north", ["a", "b"], QUEUE.sign(JOB, "north", ["a", "b"])],
    ],
    ids=ascii,
)
def test_whatever_else_is_refused(message: list[object]) -> None:
    with pytest.raises(NotAuthorized, match="without a valid signature"):
        QUEUE.read(REMEMBER, message)


@pytest.mark.parametrize("seconds", [0, 600])
def test_memories_are_judged_by_the_clock_unless_the_settings_say_never(seconds: int) -> None:
    schedule = make_celery("memory://", WorkerSettings(), seconds).conf.beat_schedule
    assert {name: each["schedule"] for name, each in schedule.items() if each["task"] == CURATE} == (
        {"curate": seconds} if seconds else {}
    )
