"""The task queue over a real Redis: a tenant has one message, and nobody waits long for a Redis that hangs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_redis import Broker, broker
from tests.support.celery_messages import read
from tests.support.shape_pictures import picture
from tests.support.wired_service import AT_ONCE, NEVER, Parts
from visual_memory.services.infrastructure.task_queue import enqueue as module
from visual_memory.services.infrastructure.task_queue.celery_app import make_celery
from visual_memory.services.infrastructure.task_queue.check_worker_messages import checked_message
from visual_memory.services.infrastructure.task_queue.enqueue import FLAG_SECONDS, TaskQueue
from visual_memory.services.infrastructure.task_queue.task_names import JOB_QUEUE, REMEMBER, REMEMBER_QUEUE, RUN_JOBS
from visual_memory.services.intake.enqueue_overdue_images import SweepImages
from visual_memory.services.settings import WorkerSettings

PREFIX = "one-service:"
QUEUE = f"{PREFIX}{REMEMBER_QUEUE}"
FLAG = f"{PREFIX}queued:{REMEMBER_QUEUE}:a"
SECONDS = 0.25


@pytest.fixture
def server(short_folder: Path) -> Iterator[Broker]:
    with broker(short_folder) as started:
        yield started


def task_queue(url: str, prefix: str = PREFIX, retry_pause: float = 3600, task: str = REMEMBER) -> TaskQueue:
    return TaskQueue(make_celery(url, prefix, WorkerSettings()), url, prefix, task, SECONDS, retry_pause)


@pytest.fixture
def queue(server: Broker) -> Iterator[TaskQueue]:
    made = task_queue(server.url)
    yield made
    made.close()


def tenants(server: Broker) -> list[str]:
    """Those of the messages in the queue, the next one first."""
    return [read(message)[1][0][0] for message in server.messages(QUEUE)]


def taken(server: Broker, queue: TaskQueue) -> str:
    """The tenant of the next message, as a worker takes it."""
    message = server.client.rpop(QUEUE)
    headers, body = read(checked_message(bytes(message), REMEMBER_QUEUE))
    queue.clear_flag(body[0][0], headers["id"])
    return str(body[0][0])


def test_a_tenant_has_one_message_and_the_next_one_once_it_was_taken(server: Broker, queue: TaskQueue) -> None:
    for tenant in ["a", "a", "b", "a", "b"]:
        assert queue.enqueue(tenant)
    assert tenants(server) == ["a", "b"]
    assert taken(server, queue) == "a"
    queue.enqueue("a")  # put back
    assert tenants(server) == ["b", "a"]


def test_of_two_messages_of_a_tenant_one_is_put_back(server: Broker, queue: TaskQueue) -> None:
    """Flags may end before their messages; such twins must not live for ever."""
    queue.enqueue("a")
    server.client.delete(FLAG)
    queue.enqueue("a")
    assert tenants(server) == ["a", "a"]
    for left in (1, 1):
        taken(server, queue)
        queue.enqueue("a")
        assert len(tenants(server)) == left


def test_a_flag_outlives_the_way_of_its_message_through_the_queue(server: Broker, queue: TaskQueue) -> None:
    """Else each sweep would add a message for each tenant, in a queue that takes longer than a flag lives."""
    for number in range(40):
        server.client.lpush(QUEUE, f"of another tenant, {number}")
    queue.enqueue("a")
    assert FLAG_SECONDS < int(server.client.ttl(FLAG)) <= FLAG_SECONDS + 40 * SECONDS


def test_a_flag_never_outlives_the_queue_that_there_is(server: Broker, queue: TaskQueue) -> None:
    """Its message may be lost while others still come, or it may be somebody else's that never ends."""
    server.client.lpush(QUEUE, *(f"of another tenant, {number}" for number in range(400)))
    queue.enqueue("a")
    server.client.ltrim(QUEUE, 0, 3)
    queue.enqueue("a")
    assert 0 < int(server.client.ttl(FLAG)) <= FLAG_SECONDS + 4 * SECONDS
    server.client.set(FLAG, "somebody else's")
    assert queue.enqueue_again(["a"]) == 0
    assert 0 < int(server.client.ttl(FLAG)) <= FLAG_SECONDS + 4 * SECONDS


def test_a_flag_without_a_message_ends(server: Broker, queue: TaskQueue) -> None:
    queue.enqueue("a")
    assert 0 < int(server.client.pttl(FLAG)) <= FLAG_SECONDS * 1000


def test_what_is_lost_is_enqueued_again_at_once_where_the_queue_is_empty(server: Broker, queue: TaskQueue) -> None:
    queue.enqueue("a")
    server.client.delete(QUEUE)
    assert queue.enqueue_again(["a", "b"]) == 2
    assert tenants(server) == ["a", "b"]
    assert queue.enqueue_again(["a", "b", "c"]) == 1, "their messages are there"
    assert tenants(server) == ["a", "b", "c"]


def test_a_sweep_of_many_tenants_takes_one_connection_to_send_by(server: Broker, queue: TaskQueue) -> None:
    queue.enqueue_again(["first"])
    before = server.connections()
    assert queue.enqueue_again([f"tenant-{number}" for number in range(50)]) == 50
    many = server.connections() - before
    queue.enqueue_again(["last"])
    assert server.connections() - before == 2 * many


def test_what_is_lost_is_enqueued_with_the_next_picture_where_the_queue_is_empty(
    server: Broker, queue: TaskQueue
) -> None:
    queue.enqueue("a")
    server.client.delete(QUEUE)
    queue.enqueue("a")
    assert tenants(server) == ["a"]
    queue.enqueue("a")
    assert tenants(server) == ["a"]


def test_the_sweep_enqueues_whose_images_wait_in_nobody_s_hands(server: Broker, queue: TaskQueue, parts: Parts) -> None:
    parts.teach(picture("disc"))
    SweepImages(parts.memory, queue, AT_ONCE)()
    assert parts.tenant not in tenants(server)
    parts.send(picture("disc"))
    SweepImages(parts.memory, queue, NEVER)()
    assert tenants(server).count(parts.tenant) == 1
    server.client.flushall()
    parts.memory.leases.begin(parts.memory.leases.oldest_waiting(parts.tenant, 1, NEVER))
    SweepImages(parts.memory, queue, NEVER)()
    assert parts.tenant not in tenants(server)
    SweepImages(parts.memory, queue, AT_ONCE)()
    assert tenants(server).count(parts.tenant) == 1, "its worker died"


def test_two_services_on_one_redis_have_nothing_in_common(server: Broker, queue: TaskQueue) -> None:
    other = task_queue(server.url, "another:")
    queue.enqueue("a")
    other.enqueue("a")
    assert server.key_names() == ["another:queued:remember:a", "another:remember", FLAG, QUEUE]
    assert (queue.waiting_messages(), other.waiting_messages()) == (1, 1)
    other.close()


def test_a_tenant_with_pictures_and_jobs_has_a_message_in_each_queue(server: Broker, queue: TaskQueue) -> None:
    jobs = task_queue(server.url, task=RUN_JOBS)
    for each in (queue, jobs, jobs):
        assert each.enqueue("a")
    assert (queue.waiting_messages(), jobs.waiting_messages()) == (1, 1)
    assert taken(server, queue) == "a"
    [message] = server.messages(f"{PREFIX}{JOB_QUEUE}")
    headers, body = read(checked_message(message, JOB_QUEUE))
    assert (headers["task"], body[0]) == (RUN_JOBS, ["a"])
    jobs.close()


def test_a_broker_that_hangs_is_asked_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        silent.setblocking(False)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        patient, hasty = task_queue(url), task_queue(url, retry_pause=0)
        assert not patient.enqueue("a")
        silent.accept()[0].close()
        assert not patient.enqueue("b")
        patient.clear_flag("a", "one")
        assert patient.enqueue_again(["a"]) == 0
        with pytest.raises(BlockingIOError):
            silent.accept()
        for _ in range(2):
            assert not hasty.enqueue("a")
            silent.accept()[0].close()


def test_a_broker_that_was_restarted_is_found_again(short_folder: Path) -> None:
    with broker(short_folder) as first:
        queue = task_queue(first.url)
        assert queue.enqueue("a")
    with broker(short_folder) as second:
        assert queue.enqueue("a")
        assert tenants(second) == ["a"]
    queue.close()
