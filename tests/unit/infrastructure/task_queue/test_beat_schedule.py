"""What beat sends, and that no clock which somebody sets can silence it."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.beat import Scheduler

from visual_memory.services.infrastructure.task_queue.beat_schedule import beat_schedule
from visual_memory.services.infrastructure.task_queue.task_names import PERIODIC_QUEUE, QUEUE_OF, START_JUDGEMENTS
from visual_memory.services.settings import WorkerSettings


def scheduler(**further: Any) -> tuple[Celery, Scheduler]:
    app = Celery(broker="memory://")
    app.conf.beat_schedule = {**beat_schedule(WorkerSettings(), 600), **further}
    return app, Scheduler(app)


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_is_set_silences_no_duty(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    app, beat = scheduler()
    before = app.now()
    monkeypatch.setattr(Celery, "now", lambda _app: before + jump)
    for entry in beat.schedule.values():
        is_due, seconds = entry.is_due()
        assert not is_due
        assert seconds <= entry.schedule.seconds
    assert beat.tick() <= WorkerSettings().sweep_seconds


def test_a_schedule_by_the_clock_would_be_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    app, beat = scheduler(naive={"task": "naive", "schedule": 60.0})
    before: datetime = app.now()
    monkeypatch.setattr(Celery, "now", lambda _app: before - timedelta(days=400))
    _, seconds = beat.schedule["naive"].is_due()
    assert seconds > timedelta(days=399).total_seconds()


def test_each_message_expires_and_goes_to_the_queue_of_its_task() -> None:
    entries = beat_schedule(WorkerSettings(), 600)
    assert {each["task"] for each in entries.values()} == {
        task for task, queue in QUEUE_OF.items() if queue == PERIODIC_QUEUE
    }
    for each in entries.values():
        assert each["options"]["queue"] == QUEUE_OF[each["task"]]
        assert each["options"]["expires"] == 60


@pytest.mark.parametrize("seconds", [0, 600])
def test_memories_are_judged_unless_the_settings_say_never(seconds: int) -> None:
    entries = beat_schedule(WorkerSettings(), seconds)
    assert [each["schedule"].seconds for each in entries.values() if each["task"] == START_JUDGEMENTS] == (
        [seconds] if seconds else []
    )
