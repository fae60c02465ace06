"""Promise 7: whoever asks for much of what there is too little of holds up nobody but itself."""

import asyncio
from concurrent.futures import Future

import pytest

from visual_memory.services.infrastructure.processes.fair_queue import FairQueue


def test_nobody_waits_while_something_is_free() -> None:
    queue = FairQueue("xyz", limit=3)
    requests = [queue.request("a") for _ in range(4)]
    assert [each.done() for each in requests] == [True, True, True, False]
    assert sorted(each.result() for each in requests[:3]) == ["x", "y", "z"]
    queue.release("a", requests[1])
    assert requests[3].result() == requests[1].result(), "what was given back"


def test_what_was_used_last_is_used_first() -> None:
    queue = FairQueue("xyz", limit=3)
    first, second = queue.request("a"), queue.request("a")
    for each in (second, first):
        queue.release("a", each)
    assert queue.request("b").result() == first.result()


def test_an_owner_may_hold_no_more_than_its_part() -> None:
    queue = FairQueue(range(3), limit=2)
    requests = [queue.request("a") for _ in range(16)]
    assert sum(each.done() for each in requests) == 2
    assert queue.request("b").done()


def test_owners_that_hold_as_many_are_served_in_turn() -> None:
    queue = FairQueue([0], limit=1)
    order: list[str] = []
    waiting: list[tuple[str, Future[int]]] = [(owner, queue.request(owner)) for owner in "aaaabbcaa"]
    while waiting:
        [(owner, handed)] = [each for each in waiting if each[1].done()]
        order.append(owner)
        waiting.remove((owner, handed))
        queue.release(owner, handed)
    assert "".join(order) == "aabcabaaa"


def test_two_owners_that_ask_for_much_do_not_hold_up_a_third() -> None:
    queue = FairQueue(range(4), limit=3)
    held = [(owner, queue.request(owner)) for owner in "ac" for _ in range(16)]
    third = queue.request("b")
    assert not third.done()
    queue.release(*next(each for each in held if each[1].done()))
    assert third.done()


def test_who_waits_no_longer_takes_nothing() -> None:
    queue = FairQueue([0], limit=1)
    held, given_up, next_one = queue.request("a"), queue.request("b"), queue.request("c")
    queue.release("b", given_up)
    queue.release("a", held)
    assert next_one.done()
    queue.release("c", next_one)
    assert queue.request("d").done()


def test_a_thread_gives_its_item_back_however_it_ends() -> None:
    queue = FairQueue([0], limit=1)
    with pytest.raises(KeyboardInterrupt), queue.item("a"):
        raise KeyboardInterrupt
    with queue.item("b") as item:
        assert item == 0


def test_a_task_that_is_cancelled_while_it_waits_takes_nothing() -> None:
    async def test() -> None:
        queue = FairQueue([0], limit=1)
        held, waiting = queue.request("a"), queue.request("b")
        task = asyncio.ensure_future(asyncio.wrap_future(waiting))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        queue.release("a", held)  # before the task has said that it gave up
        queue.release("b", waiting)
        assert queue.request("c").done()

    asyncio.run(asyncio.wait_for(test(), 60))
