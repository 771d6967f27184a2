"""Claims about the lock: one at a time, in order, and never lost."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.locks import Lock

pytestmark = pytest.mark.anyio


async def test_one_holds_it_at_a_time_in_the_order_of_asking() -> None:
    lock, order, holding = Lock(), list[int](), 0

    async def work(number: int) -> None:
        nonlocal holding
        async with lock:
            holding += 1
            assert holding == 1
            await checkpoint()
            order.append(number)
            holding -= 1

    async with lock, anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(work, number)
            await anyio.wait_all_tasks_blocked()
        assert order == []
        assert lock.held
        lock.release()
        await anyio.wait_all_tasks_blocked()
        await lock.acquire()
    assert order == list(range(10))
    assert not lock.held


async def test_a_free_lock_is_taken_at_once() -> None:
    lock = Lock()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await lock.acquire()  # no checkpoint: nothing is cancelled here
    assert lock.held
    assert not scope.cancelled_caught


async def test_whoever_gives_up_waiting_is_passed_over() -> None:
    lock, got = Lock(), list[str]()

    async def take(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with lock:
                got.append(name)

    await lock.acquire()
    early, late, rest = anyio.CancelScope(), anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        for name, scope in (("early", early), ("late", late), ("rest", rest)):
            tasks.start_soon(take, name, scope)
            await anyio.wait_all_tasks_blocked()
        early.cancel()
        await anyio.wait_all_tasks_blocked()
        lock.release()  # handed to "late"…
        late.cancel()  # …which is cancelled before it runs
    assert got[-1] == "rest"
    assert "early" not in got
    assert not lock.held
