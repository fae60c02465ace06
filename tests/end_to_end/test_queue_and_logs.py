"""Promises 3 and 5: a forged message moves no image, and no log holds what was sent, nor any key."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from schemas.errors import Blocked, InvalidPicture, NotAuthorized, NotFound
from schemas.filter import Filter
from schemas.image import ImageFields, ImagePatch, State
from schemas.removal import RemovalRequest
from services.client import Client
from services.infrastructure.task_queue.celery_app import make_celery
from services.infrastructure.task_queue.enqueue import TaskQueue
from services.infrastructure.task_queue.task_names import REMEMBER, REMEMBER_QUEUE
from services.runtime.places import Places
from services.runtime.redis_server import redis_url
from services.settings import WorkerSettings
from tests.shapes import picture
from tests.stack import Stack, new_folder, running, suspended, unique, until

REFUSED = "refused: a message without a valid signature: nothing was done for it"


@pytest.fixture(scope="module")
def unswept() -> Iterator[Stack]:
    """A service that nobody sweeps: what it remembers, a message has asked for."""
    with new_folder() as folder, running(folder, WORKER__SWEEP_SECONDS="3600") as service:
        yield service


@pytest.fixture
def forger(unswept: Stack) -> Celery:
    """Somebody who can write to Redis, and knows how the service does it, but not its secret."""
    return make_celery(redis_url(Places(unswept.data)), WorkerSettings())


def lines(stack: Stack, process: str) -> list[dict[str, Any]]:
    """The log of a process: every line is JSON."""
    return [json.loads(line) for line in (stack.data / "logs" / f"{process}.log").read_text().splitlines()]


def refusals(stack: Stack) -> int:
    return sum(line["message"] == REFUSED for line in lines(stack, "worker"))


def left_waiting(stack: Stack) -> str:
    """An image whose message was lost, so that only another one could make it remembered."""
    worker = stack.child("worker")
    worker.kill()
    worker.wait(10)
    [image_id] = stack.teach(picture("disc"), labels=["x"], image_id=unique("waiting"))
    with redis.Redis(unix_socket_path=str(Places(stack.data).redis_socket)) as server:
        assert server.delete(REMEMBER_QUEUE) == 1
    stack.until_ready()
    return image_id


def test_a_forged_message_touches_nothing_and_the_worker_lives_on(unswept: Stack, forger: Celery) -> None:
    waiting = left_waiting(unswept)
    worker, before = unswept.child("worker"), refusals(unswept)
    forged = [
        ["default", [waiting]],
        ["default", [waiting], ""],
        ["default", [waiting], TaskQueue(forger, b"another key").sign(REMEMBER, "default", [waiting])],
        ["default", [waiting], TaskQueue(forger, b"").sign(REMEMBER, "default", [waiting])],
        ["default", waiting, None],
        [["default"], {"ids": [waiting]}, 7],
        [],
    ]
    for arguments in forged:
        forger.send_task(REMEMBER, args=arguments)
    forger.send_task(REMEMBER, kwargs={"tenant": "default", "image_ids": [waiting]})
    forger.send_task("a.task.that.nobody.knows", args=["default", [waiting]])
    until(lambda: refusals(unswept) == before + len(forged), "each forged message to be refused")
    unswept.remembered(unswept.teach(picture("disc"), labels=["x"]))
    image = unswept.client.image(waiting)
    assert (image.state, image.attempts) == (State.WAITING, 0)
    assert unswept.child("worker").pid == worker.pid


def test_no_log_holds_what_was_sent_nor_a_key(unswept: Stack, forger: Celery) -> None:
    marker = unique("marker")
    secret = unswept.new_key("default", "classify", "remember", "remove")
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
        held = [image.content_hash for image in client.images(where)]
        client.preview(RemovalRequest(filter=where, reason=f"{marker}-reason"))
        client.remove(RemovalRequest(filter=where, reason=f"{marker}-reason", block=True))
        with pytest.raises(Blocked):
            client.add([(picture("disc"), said)])
    assert len(held) == 2
    with unswept.caller(secret) as http:
        http.get(f"/{marker}/nowhere", params={"filter": marker}, headers={"X-Request-Id": f"{marker} not safe"})
        http.post("/v1/images", content=f'{{"{marker}": 1}}', headers={"content-type": "application/json"})
        http.request("PUT", f"/v1/images/{marker}")
    forger.send_task(REMEMBER, args=["default", [f"{marker}-id"]])
    forger.send_task(REMEMBER, args=[f"{marker}-tenant", [f"{marker}-id"], marker], kwargs={marker: marker})
    forger.send_task(f"{marker}.task", args=[marker])
    until(lambda: any("unregistered" in line["message"] for line in lines(unswept, "worker")), "the last message")

    written = {path.name: path.read_text() for path in (unswept.data / "logs").iterdir()}
    written["audit.jsonl"] = (unswept.data / "audit.jsonl").read_text()
    assert {"api.log", "worker.log", "beat.log", "engine.log", "redis.log"} <= written.keys()
    for name, text in written.items():
        for never in (marker, secret[16:], *held, *(each[:16] for each in held)):
            assert never not in text, f"{never} is in {name}"
    told = {line["message"] for line in lines(unswept, "worker")}
    assert {"remembered 1", "rejected", REFUSED} <= told, "the log is not empty-handed"


def test_lines_of_one_image_can_be_put_together(unswept: Stack) -> None:
    with unswept.caller(unswept.new_key()) as http:
        answer = http.post(
            "/v1/images",
            files=[("files", ("p", picture("cross")))],
            data={"fields": json.dumps({"labels": ["x"], "image_id": unique("followed")})},
            headers={"X-Request-Id": "follow-me"},
        )
    assert answer.headers["x-request-id"] == "follow-me"
    unswept.remembered([each["image_id"] for each in answer.json()])
    ours = [line for line in lines(unswept, "api") if line.get("request") == "follow-me"]
    assert [(line["message"], line.get("route"), line.get("status")) for line in ours] == [
        ("accepted 1", None, None),
        ("request", "/v1/images", 202),
    ]
    [point] = ours[0]["points"]
    worked = until(lambda: [line for line in lines(unswept, "worker") if point in line.get("points", [])], "its line")
    assert [line["message"] for line in worked] == ["remembered 1"]
