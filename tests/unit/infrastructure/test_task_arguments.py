"""Who can write to Redis sends what they like: it is checked before it becomes part of a key or a filter."""

import pytest

from schemas.errors import InvalidRequest
from services.infrastructure.task_queue.beat_schedule import beat_schedule
from services.infrastructure.task_queue.task_arguments import job_of, tenant_of
from services.infrastructure.task_queue.task_names import CURATE
from services.settings import WorkerSettings

JOB = "0f6e1d9c-8a8d-4a3e-9d0e-3b1f6a1a2b3c"
NO_TENANTS: list[object] = ["", "North", "a" * 64, "../north", "north/..", "a\n", "é", 7, None, ["north"], {"a": 1}]


def test_what_a_message_says_is_read() -> None:
    assert tenant_of(["north"]) == "north"
    assert job_of(["north", JOB]) == ("north", JOB)


@pytest.mark.parametrize("message", [[], ["north", "south"], *([name] for name in NO_TENANTS)], ids=ascii)
def test_what_is_no_tenant_is_refused(message: list[object]) -> None:
    with pytest.raises(InvalidRequest, match="names no tenant"):
        tenant_of(message)


@pytest.mark.parametrize(
    "message",
    [[], ["north"], ["north", JOB, JOB], ["north", "../x"], ["north", 7], *([name, JOB] for name in NO_TENANTS)],
    ids=ascii,
)
def test_what_is_no_job_is_refused(message: list[object]) -> None:
    with pytest.raises(InvalidRequest, match=r"names no (job|tenant)"):
        job_of(message)


@pytest.mark.parametrize("seconds", [0, 600])
def test_memories_are_judged_by_the_clock_unless_the_settings_say_never(seconds: int) -> None:
    schedule = beat_schedule(WorkerSettings(), seconds)
    assert [each["schedule"] for each in schedule.values() if each["task"] == CURATE] == ([seconds] if seconds else [])


def test_a_message_of_beat_that_nobody_took_in_time_does_nothing() -> None:
    schedule = beat_schedule(WorkerSettings(), 600).values()
    assert [each["options"]["expires"] for each in schedule] == [each["schedule"] for each in schedule]
