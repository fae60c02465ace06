"""An image that a plain Celery producer sends by the task's name is remembered, and said to be, by the task's id."""

import base64

from celery import Celery

from tests.support.running_service import Stack, unique, until
from tests.support.shape_pictures import picture
from visual_memory.services.bootstrap.wiring.wire_intake import streams_of
from visual_memory.services.infrastructure.processes.private_redis import redis_url
from visual_memory.services.infrastructure.redis_streams.stream_commands import Streams
from visual_memory.services.infrastructure.storage.data_paths import DataPaths

TASK = "visual_memory.remember_image"


def test_what_celery_sends_is_remembered(stack: Stack) -> None:
    image_id = unique("by-celery")
    named = {"tenant": stack.tenant, "labels": ["disc"], "image_id": image_id, "source": "camera"}
    with Celery("a-camera", broker=redis_url(DataPaths(stack.data))) as app:
        app.conf.broker_transport_options = {"global_keyprefix": stack.key_in_redis(""), "priority_steps": [0]}
        app.send_task(TASK, kwargs={"labels": ["disc"]}, queue="intake")  # names no tenant, and stops nothing
        sent = app.send_task(
            TASK, kwargs={**named, "picture": base64.b64encode(picture("disc")).decode()}, queue="intake"
        )
    image = stack.remembered([image_id])[image_id]
    assert (image.labels, image.source) == (["disc"], "camera")
    streams = streams_of(stack.settings)
    try:
        until(lambda: "remembered" in said(streams, stack.tenant, sent.id), "the result by the task's id")
    finally:
        streams.close()


def said(streams: Streams, tenant: str, event_id: str) -> set[str]:
    """What results say of an event."""
    return {fields["status"] for _, fields in streams.results(tenant) if fields.get("id") == event_id}
