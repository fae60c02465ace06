"""Promise 7: keys that nobody has cost few threads, and hold up no key that somebody has."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import NotAuthorized
from schemas.key import KeyRequest, Scope
from services.access.keys import Keys
from services.api.caller import READS, KeyCheck
from services.memory.ledger import Ledger


class Gated(Ledger):
    """A ledger that answers once it is opened; counts how often it was asked, and by how many at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened = threading.Event()
        self.opened.set()
        self.asked = self.waiting = self.most = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        self._wait()
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        self._wait()
        return super().list(prefix)

    def _wait(self) -> None:
        with self._lock:
            self.asked += 1
            self.waiting += 1
            self.most = max(self.most, self.waiting)
        assert self.opened.wait(60)
        with self._lock:
            self.waiting -= 1


@pytest.fixture
def ledger(tmp_path: Path) -> Gated:
    return Gated(tmp_path)


def made(ledger: Gated) -> str:
    return Keys(ledger).make(KeyRequest(name="camera", tenant="north", scopes=[Scope.CLASSIFY])).text


def unknown(number: int) -> str:
    return f"vm_{number:012x}_{'A' * 43}"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def until_asked(ledger: Gated, number: int) -> None:
    while ledger.waiting < number:  # noqa: ASYNC110 - it is a thread that asks
        await asyncio.sleep(0.01)


def test_two_hundred_unknown_keys_at_once_take_one_thread_and_hold_up_no_key_that_is_known(ledger: Gated) -> None:
    async def test() -> None:
        text = made(ledger)
        check = KeyCheck(Keys(ledger))
        key = await check(text)
        ledger.opened.clear()
        ledger.asked = ledger.most = 0
        strangers = [asyncio.create_task(check(unknown(number))) for number in range(200)]
        await until_asked(ledger, 1)
        assert await check(text) == key, "it is at hand"
        ledger.opened.set()
        ended = await asyncio.gather(*strangers, return_exceptions=True)
        assert {type(each) for each in ended} == {NotAuthorized}
        assert (ledger.asked, ledger.most) == (1, 1)

    run(test())


def test_a_key_that_was_made_meanwhile_is_found(ledger: Gated) -> None:
    async def test() -> None:
        check = KeyCheck(Keys(ledger))
        ledger.opened.clear()
        stranger = asyncio.create_task(check(unknown(0)))
        await until_asked(ledger, 1)
        text = made(ledger)
        found = asyncio.create_task(check(text))
        await asyncio.sleep(0)
        ledger.opened.set()
        assert (await found).name == "camera"
        with pytest.raises(NotAuthorized):
            await stranger

    run(test())


def test_requests_of_one_key_read_it_once_and_those_of_many_keys_a_few_at_once(ledger: Gated) -> None:
    async def test() -> None:
        texts = [made(ledger) for _ in range(3 * READS)]
        check = KeyCheck(Keys(ledger))
        with pytest.raises(NotAuthorized):
            await check(unknown(0))  # now all are known
        ledger.opened.clear()
        ledger.asked = ledger.most = 0
        checks = [asyncio.create_task(check(text)) for text in texts * 20]
        await until_asked(ledger, READS)
        ledger.opened.set()
        assert {key.tenant for key in await asyncio.gather(*checks)} == {"north"}
        assert ledger.most == READS

    run(test())


def test_a_wrong_secret_of_a_key_that_is_known_is_refused(ledger: Gated) -> None:
    async def test() -> None:
        text = made(ledger)
        check = KeyCheck(Keys(ledger))
        for _ in range(2):
            with pytest.raises(NotAuthorized):
                await check(text[:-1] + ("A" if text[-1] != "A" else "B"))
        assert (await check(text)).name == "camera"

    run(test())


@pytest.mark.parametrize("text", ["", "vm_", "vm_0123456789ab_short", "secret"])
def test_what_is_no_key_is_not_looked_for(ledger: Gated, text: str) -> None:
    async def test() -> None:
        with pytest.raises(NotAuthorized):
            await KeyCheck(Keys(ledger))(text)
        assert ledger.asked == 0

    run(test())
