"""Health: every part by name, and metrics that count what happened."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.running_service import OF_TENANT, SETTINGS, Stack, fields, suspended, unique
from tests.support.shape_pictures import picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.removal import RemovalRequest

STAGES = ("accept", "decode", "encode", "remember", "search", "forget")
PARTS = {"store": True, "records": True, "clock": True, "pictures": True, "broker": False, "intake": False}


def test_alive(stack: Stack) -> None:
    answer = stack.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_ready_names_every_part(stack: Stack) -> None:
    answer = stack.http.get("/readyz")
    assert answer.status_code == 200
    expected = {name: {"ok": True, "needed": needed, "detail": ""} for name, needed in PARTS.items()}
    assert answer.json() == {"ready": True, "degraded": False, "parts": expected}


def test_a_silent_broker_is_named_but_stops_nobody(victim: Stack) -> None:
    with suspended(victim.child("redis")):
        answer = victim.http.get("/readyz")
    assert (answer.status_code, answer.json()["ready"], answer.json()["degraded"]) == (200, True, True)
    assert down(answer) == ["broker"]


@pytest.mark.one_machine
def test_a_silent_store_marks_itself_alone_however_often_it_is_asked(victim: Stack) -> None:
    with suspended(victim.child("engine")), ThreadPoolExecutor(16) as strangers:
        for _ in range(3):
            for answer in strangers.map(lambda _: victim.http.get("/readyz"), range(16)):
                assert answer.status_code == 503
                assert down(answer) == ["store"]
    victim.until_ready()


@pytest.mark.one_machine
def test_a_missing_store_makes_it_not_ready(victim: Stack) -> None:
    with suspended(victim.child("engine")):
        answer = victim.http.get("/readyz")
        assert victim.http.get("/healthz").status_code == 200
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert [name for name, part in parts.items() if not part["ok"] and part["needed"]] == ["store"]
    assert "no answer within 2 s" in parts["store"]["detail"]


@pytest.mark.one_machine
@pytest.mark.parametrize("route", ["images", "classify"])
def test_a_store_that_hangs_is_said_soon(victim: Stack, route: str) -> None:
    said = {"fields": fields(labels=["disc"])} if route == "images" else {}
    with suspended(victim.child("engine")):
        answer = victim.http.post(f"/v1/{route}", files=[("files", ("p", picture("disc")))], data=said)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert f"did not answer within {SETTINGS['STORE__REQUEST_TIMEOUT']} s" in answer.json()["detail"]


def test_metrics_count_what_happened(stack: Stack) -> None:
    counters = ("accepted", "remembered", "removed", "classified", "rejected")
    stages = {stage: stack.metric("visual_memory_stage_seconds_count", stage=stage) for stage in STAGES}
    before = {name: stack.metric(f"visual_memory_{name}_total") for name in counters}
    images, encoded = stack.metric("visual_memory_images", state="remembered"), _encoded(stack)
    source = unique("metrics")

    stack.remembered(stack.teach(*(picture("disc") for _ in range(3)), labels=["x"], source=source))
    stack.http.post("/v1/classify", files=[("files", ("p", picture("disc")))], data={"options": fields(k=1)})
    assert stack.metric("visual_memory_images", state="remembered") == images + 3
    assert _encoded(stack) == encoded + 4
    stack.client.remove(RemovalRequest(filter=Filter.model_validate({"source": source}), reason="the test's end"))

    after = {name: stack.metric(f"visual_memory_{name}_total") for name in counters}
    assert {name: after[name] - before[name] for name in counters} == {
        "accepted": 3,
        "remembered": 3,
        "removed": 3,
        "classified": 1,
        "rejected": 0,
    }
    assert stack.metric("visual_memory_images", state="remembered") == images
    assert stack.metric("visual_memory_images", state="waiting") == 0
    for stage in STAGES:
        count = stack.metric("visual_memory_stage_seconds_count", stage=stage)
        assert count > stages[stage], stage
        assert 0 < stack.metric("visual_memory_stage_seconds_sum", stage=stage) < 600, stage
        assert stack.metric("visual_memory_stage_seconds_bucket", stage=stage, le="+Inf") == count
    assert stack.metric("visual_memory_batch_size_bucket", le="16.0") == stack.metric("visual_memory_batch_size_count")


def test_metrics_are_in_prometheus_text_format(stack: Stack) -> None:
    answer = stack.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    names = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")}
    assert "visual_memory_images" in names
    assert names <= set(OF_TENANT), "how busy all tenants are is the operator's to know"
    operators = stack.http.get(f"http://127.0.0.1:{stack.metrics_port}/metrics").text
    assert "visual_memory_accepted_total" in operators
    assert "tenant=" not in operators


def down(answer: httpx.Response) -> list[str]:
    return [name for name, part in answer.json()["parts"].items() if not part["ok"]]


def _encoded(stack: Stack) -> float:
    return stack.metric("visual_memory_batch_size_sum")
