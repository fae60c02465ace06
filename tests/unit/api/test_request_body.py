"""Promise 7: a body is counted and timed as it arrives, whatever its headers say."""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from visual_memory.schemas.errors import RateLimited, TooLarge, TooSlow, Unavailable, VisualMemoryError
from visual_memory.services.api import request_body as module
from visual_memory.services.api.admission_control import AdmissionControl
from visual_memory.services.api.request_body import CHARGE_BYTES, LimitedBody

MOST = 10**6


class Sender:
    """A client that sends parts, each after a while, and then waits for its answer."""

    def __init__(self, *parts: bytes, pause: float = 0.0, last: bool = True) -> None:
        ends = [*[True] * (len(parts) - 1), not last]
        self.messages = [
            {"type": "http.request", "body": part, "more_body": more} for part, more in zip(parts, ends, strict=True)
        ]
        self.pause = pause

    async def __call__(self) -> Message:
        await asyncio.sleep(self.pause if self.messages else 60)
        return self.messages.pop(0)


class Account:
    """What a key is charged."""

    def __init__(self, most: int = 10**9) -> None:
        self.most = most
        self.charged: list[int] = []

    async def __call__(self, number: int) -> None:
        self.charged.append(number)
        if sum(self.charged) > self.most:
            raise RateLimited("too many")


def read(
    sender: Sender, headers: Sequence[tuple[bytes, bytes]] = (), seconds: float = 60, room: int = 2 * MOST, **given: Any
) -> bytes | VisualMemoryError:
    """The body, or why it was not read."""
    control = AdmissionControl(4, room, 9)

    async def test() -> bytes:
        request = Request({"type": "http", "method": "POST", "headers": list(headers)}, sender)
        with control.admit("a") as admission:
            body = LimitedBody(request, MOST, seconds, given.get("account", Account()), admission)
            return await Request(request.scope, body).body()

    try:
        return asyncio.run(asyncio.wait_for(test(), 60))
    except VisualMemoryError as error:
        return error
    finally:
        with control.admit("a") as whole:
            whole.reserve_bytes(room * 3 // 4)  # everything was given back


def test_a_body_is_read_as_it_was_sent() -> None:
    account = Account()
    parts = [bytes([number]) * (CHARGE_BYTES // 2) for number in range(5)]
    assert read(Sender(*parts), account=account) == b"".join(parts)
    assert account.charged == [CHARGE_BYTES, CHARGE_BYTES, CHARGE_BYTES // 2]


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"5")], [(b"content-length", b"nonsense")]])
def test_a_body_over_the_limit_is_refused_when_it_is_over_it(headers: list[tuple[bytes, bytes]]) -> None:
    sender = Sender(*[b"x" * (MOST // 4)] * 8)
    fault = read(sender, headers)
    assert isinstance(fault, TooLarge)
    assert len(sender.messages) == 3, "it stops there"


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    sender = Sender(b"x")
    fault = read(sender, [(b"content-length", b"%d" % (MOST + 1))])
    assert isinstance(fault, TooLarge)
    assert len(sender.messages) == 1


def test_a_body_that_does_not_end_is_not_waited_for() -> None:
    fault = read(Sender(b"x", last=False), seconds=0.1)
    assert isinstance(fault, TooSlow)


def test_a_body_that_trickles_is_not_waited_for() -> None:
    fault = read(Sender(*[b"x"] * 100, pause=0.02), seconds=0.1)
    assert isinstance(fault, TooSlow)
    assert "did not arrive within 0.1 s" in fault.message


def test_a_long_body_has_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of its own: each part takes 0.9 seconds, in which more than a second is gained."""
    moments = count(0.0, 0.9)
    moment = [next(moments)]

    class Slow(Sender):
        async def __call__(self) -> Message:
            moment[0] = next(moments)
            await asyncio.sleep(0)  # what is due by now is done
            return await super().__call__()

    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda _loop: moment[0])
    monkeypatch.setattr(module, "MIN_BYTES_PER_SECOND", 9)
    assert read(Slow(*[b"x" * 10] * 30), seconds=1) == b"x" * 300
    assert isinstance(read(Slow(*[b"x" * 7] * 30), seconds=1), TooSlow)


def test_after_its_end_nothing_is_timed() -> None:
    """What comes then is the news that the client went away."""

    async def test() -> None:
        sender = Sender(b"x", b"gone", pause=0.0)
        sender.messages[0]["more_body"] = False
        with AdmissionControl(4, MOST, 9).admit("a") as admission:
            body = LimitedBody(Request({"type": "http", "headers": []}, sender), MOST, 0.5, Account(), admission)
            assert (await body())["body"] == b"x"
            sender.pause = 0.6
            assert (await body())["body"] == b"gone"

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_body_for_which_there_is_no_room_is_refused() -> None:
    fault = read(Sender(*[b"x" * 1000] * 9), room=4000)
    assert isinstance(fault, Unavailable)


def test_a_key_that_may_send_no_more_is_refused() -> None:
    fault = read(Sender(b"x" * 100), account=Account(most=99))
    assert isinstance(fault, RateLimited)
