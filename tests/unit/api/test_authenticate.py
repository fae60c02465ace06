"""Promise 7: keys that nobody has cost few threads, and hold up no key that somebody has."""

import asyncio
import math
import threading
from collections.abc import Collection, Coroutine
from typing import Any

import pytest

from visual_memory.schemas.api_key import KeyRequest, Scope
from visual_memory.schemas.errors import NotAuthorized
from visual_memory.services.access import api_keys
from visual_memory.services.access.api_keys import ApiKeys, Found
from visual_memory.services.api.batched_check import BatchedCheck
from visual_memory.services.infrastructure.records.database import Database


class Gated(ApiKeys):
    """Keys that answer once they are opened; counts how often they were asked, for how many, by how many at once."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.opened = threading.Event()
        self.opened.set()
        self.asked: list[int] = []
        self.waiting = self.most = 0
        self._lock = threading.Lock()

    def look(self, texts: Collection[str]) -> Found:
        with self._lock:
            self.asked.append(len(texts))
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        assert self.opened.wait(60)
        with self._lock:
            self.waiting -= 1
        return super().look(texts)

    def close(self) -> None:
        self.opened.clear()
        self.asked.clear()
        self.most = 0


@pytest.fixture
def gated(database: Database, monkeypatch: pytest.MonkeyPatch) -> Gated:
    monkeypatch.setattr(api_keys, "FRESH", math.inf)  # on a busy machine a test takes longer than a second
    return Gated(database)


def made(gated: Gated) -> str:
    return gated.make(KeyRequest(name="camera", tenant="north", scopes=[Scope.CLASSIFY])).text


def unknown(number: int) -> str:
    return f"vm_{number:012x}_{'A' * 43}"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def until_asked(gated: Gated) -> None:
    while not gated.waiting:  # noqa: ASYNC110 - it is a thread that asks
        await asyncio.sleep(0.01)


def test_two_hundred_unknown_keys_at_once_take_one_thread_and_hold_up_no_key_that_is_known(gated: Gated) -> None:
    async def test() -> None:
        text, check = made(gated), BatchedCheck(gated)
        key = await check(text)
        gated.close()
        strangers = [asyncio.create_task(check(unknown(number))) for number in range(200)]
        await until_asked(gated)
        assert await check(text) == key, "it is at hand"
        gated.opened.set()
        ended = await asyncio.gather(*strangers, return_exceptions=True)
        assert {type(each) for each in ended} == {NotAuthorized}
        assert (sum(gated.asked), gated.most) == (200, 1)
        assert len(gated.asked) <= 2, "those who come together are looked for together"

    run(test())


def test_a_key_that_was_made_meanwhile_is_found(gated: Gated) -> None:
    async def test() -> None:
        check = BatchedCheck(gated)
        gated.close()
        stranger = asyncio.create_task(check(unknown(0)))
        await until_asked(gated)
        text = made(gated)
        found = asyncio.create_task(check(text))
        await asyncio.sleep(0)
        gated.opened.set()
        assert (await found).name == "camera"
        with pytest.raises(NotAuthorized):
            await stranger

    run(test())


def test_requests_of_many_keys_that_come_together_are_looked_for_together(gated: Gated) -> None:
    async def test() -> None:
        texts, check = [made(gated) for _ in range(12)], BatchedCheck(gated)
        checks = [asyncio.create_task(check(text)) for text in texts * 20]
        assert {key.tenant for key in await asyncio.gather(*checks)} == {"north"}
        assert gated.most == 1
        assert len(gated.asked) <= 2

    run(test())


def test_a_key_whose_reading_took_longer_than_it_is_fresh_opens_all_the_same(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_keys, "FRESH", 0.0)

    async def test() -> None:
        assert (await BatchedCheck(gated)(made(gated))).name == "camera"

    run(test())


def test_a_wrong_secret_of_a_key_that_is_known_is_refused(gated: Gated) -> None:
    async def test() -> None:
        text, check = made(gated), BatchedCheck(gated)
        for _ in range(2):
            with pytest.raises(NotAuthorized):
                await check(text[:-1] + ("A" if text[-1] != "A" else "B"))
        assert (await check(text)).name == "camera"

    run(test())


@pytest.mark.parametrize("text", ["", "vm_", "vm_0123456789ab_short", "secret"])
def test_what_is_no_key_is_not_looked_for(gated: Gated, text: str) -> None:
    async def test() -> None:
        with pytest.raises(NotAuthorized):
            await BatchedCheck(gated)(text)
        assert gated.asked == []

    run(test())
