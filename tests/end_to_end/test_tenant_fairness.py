"""Every tenant has its turn: whose pictures came first holds nobody up."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.running_service import Stack, suspended, unique, until
from tests.support.shape_pictures import picture
from visual_memory.schemas.filter import Filter
from visual_memory.schemas.image import ImageFields
from visual_memory.schemas.removal import RemovalRequest
from visual_memory.services.client.http_client import Client

PICTURES = 320
AT_ONCE = 40


def remembered(stack: Stack, *tenants: str) -> list[tuple[str, int]]:
    """What the worker has remembered of these tenants, in its order: whose, and how many at once."""
    lines: list[dict[str, Any]] = [*map(json.loads, (stack.data / "logs" / "worker.log").read_text().splitlines())]
    ours = [line for line in lines if line.get("tenant") in tenants and line["message"].startswith("remembered ")]
    return [(line["tenant"], int(line["message"].split()[1])) for line in ours]


def test_320_pictures_of_one_tenant_do_not_hold_up_another_s_one(victim: Stack) -> None:
    many, one = unique("many"), unique("one")
    said = ImageFields(labels=["x"])
    sent = [[(picture("disc"), said) for _ in range(AT_ONCE)] for _ in range(PICTURES // AT_ONCE)]
    with (
        Client(victim.url, victim.new_key(many)) as theirs,
        Client(victim.url, victim.new_key(one)) as ours,
        ThreadPoolExecutor(4) as threads,
    ):
        with suspended(victim.child("worker")):
            list(threads.map(theirs.add, sent))
            ours.add([(picture("bars"), said)])
        until(lambda: (one, 1) in remembered(victim, one), "the one picture")
        order = remembered(victim, many, one)
        theirs.remove(RemovalRequest(filter=Filter({"labels": "x"}), reason="what still waits would delay other tests"))
    before = sum(number for _, number in order[: order.index((one, 1))])
    assert before <= PICTURES / 6, "most of the others waited still"
