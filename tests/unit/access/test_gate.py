"""Promise 7: what one tenant sends at once costs the others nothing, and all of it together has bounds."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

from schemas.errors import Unavailable
from services.api import gate as module
from services.api.gate import Gate, Visit

MANY = 8


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)


def test_one_tenant_holds_three_quarters_and_others_find_the_rest() -> None:
    gate = Gate(MANY, 1000)
    with ExitStack() as visits:
        one, more, other = (visits.enter_context(gate.visit(tenant)) for tenant in ("a", "a", "b"))
        one.hold(700)
        more.hold(50)
        with pytest.raises(Unavailable, match="too much is being sent at once"):
            more.hold(1)
        other.hold(250)
        with pytest.raises(Unavailable):
            other.hold(1)
    with gate.visit("a") as again:
        again.hold(750)


def test_one_tenant_has_three_quarters_of_the_turns_and_others_find_the_rest() -> None:
    async def test() -> None:
        gate = Gate(MANY, 1000)
        with ExitStack() as visits:
            for tenant, turns in (("a", 6), ("b", 2)):
                for _ in range(turns):
                    await visits.enter_context(gate.visit(tenant)).begin()
                with pytest.raises(Unavailable, match="no turn came within"), gate.visit(tenant) as late:
                    await late.begin()
        with gate.visit("b") as again:
            await again.begin()

    run(test())


def test_turns_come_in_order_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 60)
    at_once, most, order = 0, 0, []

    async def visit(gate: Gate, number: int) -> None:
        nonlocal at_once, most
        with gate.visit("a" if number % 2 else "b") as visit:
            await visit.begin()
            order.append(number)
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1

    async def test() -> None:
        gate = Gate(MANY, 1000)
        await asyncio.gather(*(visit(gate, number) for number in range(100)))
        assert gate.held == 0
        with ExitStack() as visits:
            for number in range(MANY):
                await visits.enter_context(gate.visit(f"tenant-{number}")).begin()

    run(test())
    assert order == sorted(order)
    assert most == MANY


def test_who_gives_up_while_waiting_takes_nothing() -> None:
    async def waiting(visit: Visit) -> None:
        await visit.begin()

    async def test() -> None:
        gate = Gate(MANY, 1000)
        with ExitStack() as visits:
            for number in range(MANY):
                await visits.enter_context(gate.visit(f"tenant-{number}")).begin()
            with gate.visit("late") as late:
                task = asyncio.create_task(waiting(late))
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        with ExitStack() as visits:
            for number in range(MANY):
                await visits.enter_context(gate.visit(f"tenant-{number}")).begin()

    run(test())


def test_nothing_is_kept_of_tenants_that_are_gone() -> None:
    gate = Gate(MANY, 1000)
    for number in range(100):
        with gate.visit(f"tenant-{number}") as visit:
            visit.hold(1)
    del visit
    assert len(gate._shares) == 0
