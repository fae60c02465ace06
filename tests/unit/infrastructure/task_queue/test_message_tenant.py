"""Who can write to Redis sends what they like: it is checked before it becomes part of a key or a filter."""

import pytest

from visual_memory.schemas.errors import InvalidRequest
from visual_memory.services.infrastructure.task_queue.check_worker_messages import tenant_of

NO_TENANTS: list[object] = ["", "North", "a" * 64, "../north", "north/..", "a\n", "é", 7, None, ["north"], {"a": 1}]


def test_what_a_message_says_is_read() -> None:
    assert tenant_of(["north"]) == "north"


@pytest.mark.parametrize("message", [[], ["north", "south"], *([name] for name in NO_TENANTS)], ids=ascii)
def test_what_is_no_tenant_is_refused(message: list[object]) -> None:
    with pytest.raises(InvalidRequest, match="names no tenant"):
        tenant_of(message)
