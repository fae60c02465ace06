"""Promises 3 and 5: a forged message causes only what is due, and no log holds what was sent, nor any key."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import select

from tests.support.celery_messages import MALFORMED, message
from tests.support.running_service import Stack, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.errors import Blocked, InvalidPicture, NotAuthorized, NotFound
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields, ImagePatch, State
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.client.http_client import Client
from visual_memory.services.infrastructure.records.tables import audit
from visual_memory.services.infrastructure.storage.data_paths import DataPaths
from visual_memory.services.infrastructure.task_queue.task_names import PERIODIC_QUEUE, REMEMBER_QUEUE

REFUSED = "visual_memory.remember is refused: a message that names no tenant"
NOTHING_WAITS = "a message for a tenant of whom nothing waits"


@pytest.fixture
def unswept(spare: Stack) -> Iterator[Stack]:
    """A service that nobody sweeps: what it remembers, a message has asked for."""
    with (
        suspended(spare.child("beat")),
        redis.Redis(unix_socket_path=str(DataPaths(spare.data).redis_socket)) as server,
    ):
        keys = [spare.key_in_redis(queue) for queue in (REMEMBER_QUEUE, PERIODIC_QUEUE)]
        until(lambda: not server.exists(*keys), "what was sent before to be done")
        yield spare


def lines(stack: Stack, process: str) -> list[dict[str, Any]]:
    """The log of a process: every line is JSON."""
    return [json.loads(line) for line in (stack.data / "logs" / f"{process}.log").read_text().splitlines()]


def logged(stack: Stack, message: str) -> int:
    """How often the worker said so."""
    return sum(line["message"] == message for line in lines(stack, "worker"))


def push(stack: Stack, *messages: bytes, queue: str = REMEMBER_QUEUE) -> None:
    """Put messages into a queue as somebody does who can write to Redis."""
    with redis.Redis(unix_socket_path=str(DataPaths(stack.data).redis_socket)) as server:
        server.lpush(stack.key_in_redis(queue), *messages)


def left_waiting(stack: Stack) -> str:
    """An image whose message was lost, so that only another one could make it remembered."""
    worker = stack.child("worker")
    worker.kill()
    worker.wait(60)
    [image_id] = stack.teach(picture("disc"), labels=["x"], image_id=unique("waiting"))
    with redis.Redis(unix_socket_path=str(DataPaths(stack.data).redis_socket)) as server:
        assert server.delete(stack.key_in_redis(REMEMBER_QUEUE)) == 1
    stack.child("worker")
    return image_id


def test_malformed_messages_stop_no_worker(unswept: Stack) -> None:
    worker, dropped = unswept.child("worker"), unswept.metric("visual_memory_dropped_messages_total")
    for queue in (REMEMBER_QUEUE, PERIODIC_QUEUE):
        push(unswept, *MALFORMED.values(), queue=queue)
    unswept.remembered(unswept.teach(picture("disc"), labels=["x"]))

    def counted() -> bool:
        return unswept.metric("visual_memory_dropped_messages_total") == dropped + 2 * len(MALFORMED)

    until(counted, "each of them to be counted")
    assert unswept.child("worker").pid == worker.pid


def test_what_lies_in_place_of_a_queue_goes(unswept: Stack) -> None:
    worker, key = unswept.child("worker"), unswept.key_in_redis(REMEMBER_QUEUE)
    with redis.Redis(unix_socket_path=str(DataPaths(unswept.data).redis_socket)) as server:
        until(lambda: server.set(key, "no queue", nx=True), "the queue to be empty")
        until(lambda: not server.exists(key), "it to go")
    unswept.remembered(unswept.teach(picture("disc"), labels=["x"]))
    assert unswept.child("worker").pid == worker.pid


def test_a_message_for_no_tenant_and_one_for_a_stranger_do_nothing(unswept: Stack) -> None:
    worker, refused, idle = unswept.child("worker"), logged(unswept, REFUSED), logged(unswept, NOTHING_WAITS)
    nonsense = [message([]), message(["a", "b"]), message([""]), message(["../north"]), message(["a" * 100])]
    strangers = [message([unique("stranger")]), message([unique("stranger")], id="one"), message(["s"], id="one")]
    push(unswept, *nonsense, *strangers)
    until(lambda: logged(unswept, REFUSED) == refused + len(nonsense), "each to be refused")
    until(lambda: logged(unswept, NOTHING_WAITS) == idle + len(strangers), "each to be looked at")
    assert unswept.child("worker").pid == worker.pid


def test_forged_and_repeated_messages_cause_only_what_is_due(unswept: Stack) -> None:
    waiting = left_waiting(unswept)
    push(unswept, *(message([unswept.tenant], id="forged", eta="2999-01-01T00:00:00", retries=99) for _ in range(5)))
    unswept.remembered([waiting])
    before = unswept.held({"image_id": waiting})
    idle = logged(unswept, NOTHING_WAITS)
    push(unswept, *(message([unswept.tenant]) for _ in range(5)))
    until(lambda: logged(unswept, NOTHING_WAITS) >= idle + 5, "each to be looked at")
    assert unswept.held({"image_id": waiting}) == before


def test_nobody_can_tell_workers_to_stop_over_the_broker(unswept: Stack) -> None:
    worker = unswept.child("worker")
    shutdown = json.dumps({"method": "shutdown", "arguments": {}, "destination": None})
    with redis.Redis(unix_socket_path=str(DataPaths(unswept.data).redis_socket)) as server:
        assert server.pubsub_channels() == []
        assert server.pubsub_numpat() == 0
        assert server.publish("/0.celery.pidbox", shutdown) == 0
    unswept.remembered(unswept.teach(picture("disc"), labels=["x"]))
    assert unswept.child("worker").pid == worker.pid


def test_no_log_holds_what_was_sent_nor_a_key(unswept: Stack) -> None:
    marker = unique("marker")
    secret = unswept.new_key(None, "classify", "read", "remember", "remove")
    said = ImageFields(
        labels=[f"{marker}/label"],
        image_id=f"{marker}-id",
        source=f"{marker}-source",
        subject=f"{marker}-subject",
        metadata={"site": f"{marker}-site", "note": f"{marker}-note"},
    )
    rejected = said.model_copy(update={"image_id": f"{marker}-rejected"})
    where = Filter.model_validate({"subject": f"{marker}-subject"})
    with Client(unswept.url, secret) as client, Client(unswept.url, f"vm_{marker}") as stranger:
        client.add([(picture("disc"), said)])
        client.amend(f"{marker}-id", ImagePatch(labels=[f"{marker}/changed"]))
        client.picture(f"{marker}-id")
        client.classify([picture("disc")])
        with pytest.raises(InvalidPicture):
            client.add([(f"{marker} is no picture".encode(), said)])
        with pytest.raises(NotFound):
            client.image(f"{marker}-nowhere")
        with pytest.raises(NotAuthorized):
            stranger.image(f"{marker}-id")
        before = unswept.picture_files()
        with suspended(unswept.child("worker")):
            client.add([(picture("disc"), rejected)])
            for path in (unswept.picture_files() - before) | unswept.pixel_files():
                path.unlink()
        until(lambda: client.image(f"{marker}-rejected").state is State.REJECTED, "the rejection")
        held = [image.content_hash for image in client.images(where).data]
        client.preview_removal(RemovalRequest(filter=where, reason=f"{marker}-reason"))
        removal = RemovalRequest(filter=where, reason=f"{marker}-reason", block=True)
        client.remove(removal, wait_seconds=0)  # it waits for a mirror that fails
        with pytest.raises(Blocked):
            client.add([(picture("disc"), said)])
    assert len(held) == 2
    with unswept.caller(secret) as http:
        http.get(f"/{marker}/nowhere", params={"filter": marker}, headers={"X-Request-Id": f"{marker} not safe"})
        http.post("/v1/images", content=f'{{"{marker}": 1}}', headers={"content-type": "application/json"})
        http.request("PUT", f"/v1/images/{marker}")
    refused = logged(unswept, REFUSED)
    push(unswept, marker.encode(), message([marker], task=f"{marker}.task"), message([f"{marker}-tenant"], id=marker))
    push(unswept, message([f"../{marker}"]))
    until(lambda: logged(unswept, REFUSED) > refused, "the last message")

    written = {path.name: path.read_text() for path in (unswept.data / "logs").iterdir()}
    with unswept.database.read() as connection:
        written["the audit log"] = str(connection.execute(select(audit)).all())
    assert {"api.log", "worker.log", "beat.log", "engine.log", "redis.log"} <= written.keys()
    for name, text in written.items():
        for never in (marker, secret[16:], *held, *(each[:16] for each in held)):
            assert never not in text, f"{never} is in {name}"
    told = {line["message"] for line in lines(unswept, "worker")}
    assert {"remembered 1", "rejected 1", REFUSED} <= told, "the log is not empty-handed"


def test_lines_of_one_image_can_be_put_together(unswept: Stack) -> None:
    with unswept.caller(unswept.new_key()) as http:
        answer = http.post(
            "/v1/images",
            files=[("files", ("p", picture("cross")))],
            data={"fields": json.dumps({"labels": ["x"], "image_id": unique("followed")})},
            headers={"X-Request-Id": "follow-me"},
        )
    assert answer.headers["x-request-id"] == "follow-me"
    unswept.remembered([each["image_id"] for each in answer.json()["data"]])
    ours = [line for line in lines(unswept, "api") if line.get("request") == "follow-me"]
    assert [(line["message"], line.get("route"), line.get("status")) for line in ours] == [
        ("accepted 1", None, None),
        ("request", "/v1/images", 202),
    ]
    [point] = ours[0]["points"]
    worked = until(lambda: [line for line in lines(unswept, "worker") if point in line.get("points", [])], "its line")
    assert [line["message"] for line in worked] == ["remembered 1"]
