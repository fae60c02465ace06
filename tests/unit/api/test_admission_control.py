"""Promise 7: what one tenant sends at once costs the others nothing, and all of it together has bounds."""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from visual_memory.schemas.errors import Unavailable
from visual_memory.services.api import admission_control as module
from visual_memory.services.api.admission_control import CHUNK_BYTES, Admission, AdmissionControl, ChunkedResponses

MANY = 8


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def admitted(admissions: ExitStack, control: AdmissionControl, tenant: str) -> Admission:
    admission = admissions.enter_context(control.admit(tenant))
    await admission.wait_for_slot()
    return admission


def most_held(control: AdmissionControl, tenant: str) -> int:
    """How many bytes more a tenant could hold."""
    number = 0
    with control.admit(tenant) as admission, suppress(Unavailable):
        while True:
            admission.reserve_bytes(1)
            number += 1
    return number


def test_a_tenant_alone_holds_three_quarters_and_of_several_each_as_much() -> None:
    control = AdmissionControl(MANY, 1000, 100)
    assert most_held(control, "a") == 750
    with control.admit("a") as one, control.admit("b") as other:
        one.reserve_bytes(750)
        assert most_held(control, "a") == 0
        assert most_held(control, "b") == 187
        one.release()
        one.reserve_bytes(428)
        other.reserve_bytes(428)
        assert most_held(control, "c") == 108
    assert most_held(control, "a") == 750, "everything was given back"


def test_a_tenant_has_three_quarters_of_the_requests_and_others_find_the_rest() -> None:
    control = AdmissionControl(MANY, 1000, 100)
    with ExitStack() as admissions:
        for _ in range(75):
            admissions.enter_context(control.admit("a"))
        with pytest.raises(Unavailable, match="too many requests"):
            admissions.enter_context(control.admit("a"))
        admissions.enter_context(control.admit("b"))


def test_one_tenant_has_three_quarters_of_the_slots_and_others_find_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOT_TIMEOUT", 0.05)

    async def test() -> None:
        control = AdmissionControl(MANY, 1000, 100)
        with ExitStack() as admissions:
            for tenant, slots in (("a", 6), ("b", 2)):
                for _ in range(slots):
                    await admitted(admissions, control, tenant)
                with pytest.raises(Unavailable, match="the service was busy for"), control.admit(tenant) as late:
                    await late.wait_for_slot()
        with control.admit("b") as again:
            await again.wait_for_slot()

    run(test())


def test_a_slot_goes_to_the_tenant_that_has_the_fewest() -> None:
    async def test() -> None:
        control = AdmissionControl(MANY, 1000, 100)
        with ExitStack() as admissions:
            working = [await admitted(admissions, control, tenant) for tenant in "aaaaaacc"]
            waiting = [asyncio.create_task(admitted(admissions, control, tenant)) for tenant in "aaaacccb"]
            await asyncio.sleep(0)
            working[0].release()
            await waiting[-1]
            assert not any(each.done() for each in waiting[:-1])
            for each in working:
                each.release()
            await asyncio.gather(*waiting)

    run(test())


def test_who_gives_up_while_waiting_takes_nothing() -> None:
    async def test() -> None:
        control = AdmissionControl(MANY, 1000, 100)
        with ExitStack() as admissions:
            working = [await admitted(admissions, control, f"tenant-{number}") for number in range(MANY)]
            with control.admit("late") as late:
                task = asyncio.create_task(late.wait_for_slot())
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            for each in working:
                each.release()
            for number in range(MANY):
                await admitted(admissions, control, f"tenant-{number}")

    run(test())


def test_a_long_answer_is_sent_in_parts_and_held_until_it_is_taken() -> None:
    async def test() -> None:
        control, sent = AdmissionControl(MANY, 10 * CHUNK_BYTES, 100), list[Message]()
        taken, all_but_one = asyncio.Semaphore(6), asyncio.Event()
        whole = bytes(range(256)) * (CHUNK_BYTES // 256 * 5 + 1)

        async def app(scope: Scope, _receive: Receive, send: Send) -> None:
            scope["state"]["admissions"].enter_context(control.admit("a")).reserve_bytes(len(whole))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": whole})

        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message) -> None:
            await taken.acquire()
            sent.append(message)
            if len(sent) == 6:
                all_but_one.set()

        answering = asyncio.create_task(ChunkedResponses(app)({"type": "http"}, receive, send))
        await all_but_one.wait()
        assert most_held(control, "a") < 7 * CHUNK_BYTES
        taken.release()
        await answering
        assert most_held(control, "a") == 7.5 * CHUNK_BYTES
        assert b"".join(message.get("body", b"") for message in sent) == whole
        assert [message.get("more_body", False) for message in sent[1:]] == [True] * 5 + [False]

    run(test())
