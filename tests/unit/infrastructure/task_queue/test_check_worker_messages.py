"""What is in Redis cannot be trusted: of a message stays what one of ours holds, and all else is dropped."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.celery_messages import MALFORMED, message, read
from visual_memory.services.infrastructure.task_queue.check_worker_messages import MAX_BYTES, checked_message
from visual_memory.services.infrastructure.task_queue.task_names import REMEMBER

KEPT = {"lang", "task", "id", "expires", "ignore_result"}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_one_of_ours_is_dropped(raw: bytes) -> None:
    assert checked_message(raw, "remember") is None


def test_of_a_message_stays_what_the_workers_go_by() -> None:
    sent = message(
        ["tenant"],
        id="one",
        expires="2030-01-01T00:00:00+00:00",
        eta="2999-01-01T00:00:00+00:00",
        timelimit=[0.001, 0.001],
        compression="gzip",
        root_id="another",
        stamps={"a": "b"},
    )
    headers, body = read(checked_message(sent, "remember"))
    assert headers.keys() == KEPT
    assert (headers["task"], headers["id"], headers["expires"]) == (REMEMBER, "one", "2030-01-01T00:00:00+00:00")
    assert body == [["tenant"], {}, {}], "and no callback, nor what else is to be done afterwards"


@pytest.mark.parametrize("expires", ["2030-01-01T01:00:30+01:00:30", "2030-01-01T00:00:00Z", "20300101T00+00"])
def test_a_moment_is_written_as_celery_reads_it(expires: str) -> None:
    headers, _ = read(checked_message(message(["tenant"], expires=expires), "remember"))
    assert headers["expires"] == "2030-01-01T00:00:00+00:00"


def test_a_message_goes_back_only_to_the_queue_that_it_came_from() -> None:
    sent = json.loads(message(["tenant"]))
    sent["properties"]["delivery_info"] = {"exchange": "elsewhere", "routing_key": "elsewhere"}
    sent["properties"]["delivery_tag"] = "another's"
    written = json.loads(checked_message(json.dumps(sent).encode(), "remember") or b"")["properties"]
    assert written["delivery_info"] == {"exchange": "", "routing_key": "remember"}
    assert written["delivery_tag"] != "another's"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise(raw: bytes) -> None:
    assert checked_message(raw, "remember") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(["headers", "body", "properties", "content-type", "content-encoding"]), JSON)
def test_no_value_of_a_part_raises(part: str, value: object) -> None:
    sent = json.dumps({**json.loads(message(["tenant"])), part: value}).encode()
    if (checked := checked_message(sent, "remember")) is not None:
        assert read(checked)[1][0] == ["tenant"]


@given(JSON)
def test_no_body_raises(value: object) -> None:
    sent = {**json.loads(message([])), "body": base64.b64encode(json.dumps(value).encode()).decode()}
    if (checked := checked_message(json.dumps(sent).encode(), "remember")) is not None:
        assert value == [read(checked)[1][0], {}, {}]


def test_a_large_message_is_not_even_read() -> None:
    assert checked_message(message(["t" * MAX_BYTES]), "remember") is None
