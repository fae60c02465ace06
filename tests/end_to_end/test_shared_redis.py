"""A Redis that is shared: the rights that docs/deploy.md names are enough, and each tenant and service has its turn."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.broker_redis import Broker, broker
from tests.support.databases import new_postgresql
from tests.support.intake_redis import intake_server
from tests.support.running_service import Stack, new_folder, running, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.background_job import JobState
from visual_memory.schemas.event import EventType
from visual_memory.services.cli.temporary_service import free_port
from visual_memory.services.infrastructure.task_queue.task_names import REMEMBER_QUEUE

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
PASSWORD = "a-long-password"
SECRET = "s" * 32


@pytest.fixture
def server() -> Iterator[Broker]:
    """One that is reached over TCP, by a user with these rights only."""
    with new_folder() as folder, broker(folder, free_port()) as started:
        [line] = re.findall(r"^    ACL SETUSER (.*)$", PAGE.read_text(), re.MULTILINE)
        started.client.execute_command("ACL", "SETUSER", *line.replace("PASSWORD", PASSWORD).split())
        started.client.execute_command("ACL", "SETUSER", "default", "off")  # whoever is connected stays so
        yield started


@contextmanager
def service(server: Broker, **settings: str) -> Iterator[Stack]:
    url = f"redis://visual-memory:{PASSWORD}@127.0.0.1:{server.port}/0"
    with new_folder() as folder, intake_server() as intake:
        urls = {"BROKER__URL": url, "INTAKE__URL": intake.url, "RECORDS__URL": new_postgresql()}
        with running(folder, **urls, **settings) as started:
            yield started


def denied(server: Broker) -> list[Any]:
    """What was refused to whom."""
    entries: Any = server.client.execute_command("ACL", "LOG")
    return [(entry[b"reason"], entry[b"object"], entry[b"context"]) for entry in map(as_mapping, entries)]


def as_mapping(entry: Any) -> dict[bytes, Any]:
    return entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))


def test_the_rights_of_the_readme_are_enough(server: Broker) -> None:
    with service(server, SECRET=SECRET) as stack:
        first = stack.teach(*(picture("disc") for _ in range(40)), labels=["x"])
        stack.remembered(first)
        worker = stack.child("worker")
        worker.kill()
        worker.wait(60)
        lost = stack.teach(picture("disc"), labels=["x"])
        [queue] = [name for name in server.key_names() if name.endswith(f":{REMEMBER_QUEUE}")]
        server.client.delete(queue)
        stack.remembered(lost)
        job = stack.client.judge()
        until(lambda: stack.client.judgement().job.state is JobState.DONE, f"job {job.id}")  # type: ignore[union-attr]
        with stack.caller(stack.new_key(requests_per_minute=2)) as http:
            assert [http.get("/v1/images").status_code for _ in range(3)] == [200, 200, 429]
        assert next(stack.client.events(cursor="1-1")).type == EventType.RESYNC
        names = server.key_names()
        assert any(":limits:" in name for name in names), "it is counted there"
        assert any(":events:" in name for name in names), "events are there"
        assert all(re.match(r"visual-memory:[0-9a-f]{16}:", name) for name in names)
    assert denied(server) == []


def test_a_user_of_another_prefix_reaches_nothing(server: Broker) -> None:
    with redis.Redis(port=server.port, username="visual-memory", password=PASSWORD) as client:
        for refused in (lambda: client.lpush("others", "x"), client.flushall, client.keys):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()
