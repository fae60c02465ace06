"""Promise 7: what one tenant sends at once costs the others nothing, and all of it together has bounds."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.api import admission_control as module
from visual_memory.services.api.admission_control import PART, Answering, Gate, Visit

MANY = 8


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def begun(visits: ExitStack, gate: Gate, tenant: str) -> Visit:
    visit = visits.enter_context(gate.visit(tenant))
    await visit.begin()
    return visit


def most_held(gate: Gate, tenant: str) -> int:
    """How many bytes more a tenant could hold."""
    number = 0
    with gate.visit(tenant) as visit, suppress(Unavailable):
        while True:
            visit.hold(1)
            number += 1
    return number


def test_a_tenant_alone_holds_three_quarters_and_of_several_each_as_much() -> None:
    gate = Gate(MANY, 1000, 100)
    assert most_held(gate, "a") == 750
    with gate.visit("a") as one, gate.visit("b") as other:
        one.hold(750)
        assert most_held(gate, "a") == 0
        assert most_held(gate, "b") == 187
        one.end()
        one.hold(428)
        other.hold(428)
        assert most_held(gate, "c") == 108
    assert most_held(gate, "a") == 750, "everything was given back"


def test_a_tenant_has_three_quarters_of_the_requests_and_others_find_the_rest() -> None:
    gate = Gate(MANY, 1000, 100)
    with ExitStack() as visits:
        for _ in range(75):
            visits.enter_context(gate.visit("a"))
        with pytest.raises(Unavailable, match="too many requests"):
            visits.enter_context(gate.visit("a"))
        visits.enter_context(gate.visit("b"))


def test_one_tenant_has_three_quarters_of_the_turns_and_others_find_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def test() -> None:
        gate = Gate(MANY, 1000, 100)
        with ExitStack() as visits:
            for tenant, turns in (("a", 6), ("b", 2)):
                for _ in range(turns):
                    await begun(visits, gate, tenant)
                with pytest.raises(Unavailable, match="no turn came within"), gate.visit(tenant) as late:
                    await late.begin()
        with gate.visit("b") as again:
            await again.begin()

    run(test())


def test_a_turn_goes_to_the_tenant_that_has_the_fewest() -> None:
    async def test() -> None:
        gate = Gate(MANY, 1000, 100)
        with ExitStack() as visits:
            working = [await begun(visits, gate, tenant) for tenant in "aaaaaacc"]
            waiting = [asyncio.create_task(begun(visits, gate, tenant)) for tenant in "aaaacccb"]
            await asyncio.sleep(0)
            working[0].end()
            await waiting[-1]
            assert not any(each.done() for each in waiting[:-1])
            for each in working:
                each.end()
            await asyncio.gather(*waiting)

    run(test())


def test_who_gives_up_while_waiting_takes_nothing() -> None:
    async def test() -> None:
        gate = Gate(MANY, 1000, 100)
        with ExitStack() as visits:
            working = [await begun(visits, gate, f"tenant-{number}") for number in range(MANY)]
            with gate.visit("late") as late:
                task = asyncio.create_task(late.begin())
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            for each in working:
                each.end()
            for number in range(MANY):
                await begun(visits, gate, f"tenant-{number}")

    run(test())


def test_a_long_answer_is_sent_in_parts_and_held_until_it_is_taken() -> None:
    async def test() -> None:
        gate, sent = Gate(MANY, 10 * PART, 100), list[Message]()
        taken, all_but_one = asyncio.Semaphore(6), asyncio.Event()
        whole = bytes(range(256)) * (PART // 256 * 5 + 1)

        async def app(scope: Scope, _receive: Receive, send: Send) -> None:
            scope["state"]["visits"].enter_context(gate.visit("a")).hold(len(whole))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": whole})

        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message) -> None:
            await taken.acquire()
            sent.append(message)
            if len(sent) == 6:
                all_but_one.set()

        answering = asyncio.create_task(Answering(app)({"type": "http"}, receive, send))
        await all_but_one.wait()
        assert most_held(gate, "a") < 7 * PART
        taken.release()
        await answering
        assert most_held(gate, "a") == 7.5 * PART
        assert b"".join(message.get("body", b"") for message in sent) == whole
        assert [message.get("more_body", False) for message in sent[1:]] == [True] * 5 + [False]

    run(test())
