"""What a running operation finds: taken, cancelled, left, forgotten."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest

from py_p2pstack.errors import DhtClosed, LookupFailure, P2PError
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.protocols.dht.found import Found
from tests.protocols.dht.nodes import in_virtual_time


class Counting:
    """An operation that finds 0, 1, 2 …, one a second."""

    def __init__(self, count: int = 3, failure: P2PError | None = None) -> None:
        self.found = 0
        self.running = False
        self._count = count
        self._failure = failure

    async def __call__(self, give: Callable[[int], None]) -> None:
        self.running = True
        try:
            while self.found < self._count:
                await anyio.sleep(1)
                give(self.found)
                self.found += 1
            if self._failure is not None:
                raise self._failure
        finally:
            self.running = False


@asynccontextmanager
async def begun(operation: Counting, buffer: int = 100) -> AsyncIterator[Found[int]]:
    async with OwnTasks() as tasks:
        yield Found(operation, tasks, buffer=buffer)


@in_virtual_time
async def test_everything_comes_as_it_is_found_and_then_the_end() -> None:
    times = []
    async with begun(Counting()) as found:
        async for item in found:
            times.append((item, anyio.current_time()))
    assert times == [(0, 1), (1, 2), (2, 3)]


@in_virtual_time
async def test_nothing_begins_before_the_first_step() -> None:
    operation = Counting()
    async with begun(operation) as found:
        await anyio.sleep(5)
        assert operation.found == 0
        assert repr(found) == "<Found 0 waiting, not begun>"
        async with found:
            await anyio.sleep(5)
            assert operation.found == 3
            assert repr(found) == "<Found 3 waiting, ended>"


@in_virtual_time
async def test_a_failure_is_raised_once_behind_what_was_found() -> None:
    async with begun(Counting(2, LookupFailure("nobody"))) as found:
        assert [await anext(found), await anext(found)] == [0, 1]
        with pytest.raises(LookupFailure, match="nobody"):
            await anext(found)
        assert [item async for item in found] == []


@in_virtual_time
async def test_a_cancelled_step_loses_nothing() -> None:
    async with begun(Counting()) as found:
        taken: list[int] = []
        while len(taken) < 3:
            with anyio.move_on_after(0.3):
                taken.append(await anext(found))
        assert taken == [0, 1, 2]


@in_virtual_time
async def test_leaving_the_block_ends_the_operation_at_once() -> None:
    operation = Counting(100)
    async with begun(operation) as found:
        async with found:
            async for item in found:
                if item == 1:
                    break
        await anyio.sleep(0.5)
        assert not operation.running
        assert [item async for item in found] == []


@in_virtual_time
async def test_closing_wakes_whoever_waits_and_may_come_first_and_twice() -> None:
    async with begun(Counting()) as found, anyio.create_task_group() as tasks:
        taken: list[int] = []

        async def iterate() -> None:
            taken.extend([item async for item in found])

        tasks.start_soon(iterate)
        await anyio.sleep(1.5)
        found.close()
        found.close()
        await anyio.sleep(0.1)
        assert taken == [0]
    operation = Counting()
    async with begun(operation) as found, aclosing(found):
        found.close()
        assert [item async for item in found] == []
    assert operation.found == 0


@in_virtual_time
async def test_a_forgotten_operation_ends_with_the_next_thing_it_finds() -> None:
    operation = Counting(100)
    async with begun(operation) as found:
        async for item in found:
            if item == 1:
                break
    assert not operation.running  # its tasks are over
    operation = Counting(100)
    async with OwnTasks() as tasks:

        async def forget() -> None:
            async for item in Found(operation, tasks, buffer=100):
                if item == 1:
                    return

        await forget()
        gc.collect()
        await anyio.sleep(5)
        assert not operation.running
        assert operation.found <= 3


@in_virtual_time
async def test_the_end_of_the_dht_ends_the_iteration_with_an_error() -> None:
    failures = []
    async with anyio.create_task_group() as outside, begun(Counting(100)) as found:

        async def iterate() -> None:
            with pytest.raises(DhtClosed, match="left"):
                async for _ in found:
                    pass
            failures.append(True)

        outside.start_soon(iterate)
        await anyio.sleep(1.5)
    assert failures == [True]
    async with begun(Counting()) as late:
        pass
    with pytest.raises(DhtClosed, match="left"):
        await anext(late)


@in_virtual_time
async def test_what_nobody_takes_is_bounded_and_counted() -> None:
    async with begun(Counting(10), buffer=4) as found, found:
        await anyio.sleep(20)
        assert found.dropped == 6
        assert [item async for item in found] == [6, 7, 8, 9]


@in_virtual_time
async def test_two_tasks_cannot_wait_at_once() -> None:
    async with begun(Counting()) as found, anyio.create_task_group() as tasks:
        tasks.start_soon(anext, found)
        await anyio.sleep(0.5)
        with pytest.raises(anyio.BusyResourceError):
            await anext(found)
