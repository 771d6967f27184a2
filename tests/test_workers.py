"""Claims about the pool of handler tasks."""

from __future__ import annotations

import gc
import logging
import weakref

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.workers import WorkerPool

pytestmark = pytest.mark.anyio


async def test_an_idle_task_takes_the_next_job() -> None:
    seen: list[int] = []

    async def job(_: int) -> None:
        seen.append(anyio.get_current_task().id)

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=4)
        for number in range(10):
            pool.run(job, number)
            await anyio.wait_all_tasks_blocked()
            assert (pool.idle, pool.running) == (1, 0)
        tasks.cancel_scope.cancel()
    assert len(seen) == 10
    assert len(set(seen)) == 1


async def test_no_more_tasks_idle_than_allowed() -> None:
    async def job(_: int) -> None:
        await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=3)
        for number in range(50):
            pool.run(job, number)
        assert pool.idle == 0
        await anyio.wait_all_tasks_blocked()
        assert pool.idle == 3
        tasks.cancel_scope.cancel()


async def test_a_failing_job_is_logged_and_its_task_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    async def job(number: int) -> None:
        if number == 0:
            raise ZeroDivisionError
        done.append(number)

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=1)
        with caplog.at_level(logging.ERROR, logger="py_p2pstack.workers"):
            for number in range(3):
                pool.run(job, number)
                await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert done == [1, 2]
    assert "ZeroDivisionError" in caplog.text


async def test_a_job_given_to_a_task_that_just_fell_idle_is_not_lost() -> None:
    order: list[str] = []

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=1)

        async def second(_: object) -> None:
            order.append("second")

        async def first(_: object) -> None:
            order.append("first")

        pool.run(first, None)
        await anyio.wait_all_tasks_blocked()
        pool.run(second, None)
        pool.run(first, None)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert sorted(order) == ["first", "first", "second"]


async def test_an_idle_task_keeps_nothing_of_its_last_job_alive() -> None:
    class Job:
        pass

    async def work(_: Job) -> None:
        await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=4)
        job = Job()
        gone = weakref.ref(job)
        pool.run(work, job)
        del job
        await anyio.wait_all_tasks_blocked()
        assert pool.idle == 1
        gc.collect()
        assert gone() is None
        tasks.cancel_scope.cancel()


async def test_a_job_given_to_an_idle_task_is_begun_even_if_that_is_cancelled_first() -> None:
    begun: list[str] = []
    ended: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            ended.append(name)

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=2)
        pool.run(work, "first")
        pool.run(work, "second")
        await anyio.wait_all_tasks_blocked()
        pool.run(work, "last")
        tasks.cancel_scope.cancel()
    assert sorted(begun) == sorted(ended) == ["first", "last", "second"]


async def test_a_job_given_after_the_idle_tasks_were_cancelled_is_begun_all_the_same() -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        pool = WorkerPool(tasks, max_idle=2)
        pool.run(work, "first")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            while pool.idle:
                await anyio.lowlevel.checkpoint()
        pool.run(work, "late")
    assert begun == ["first", "late"]


async def test_a_closed_pool_keeps_no_task() -> None:
    async def work(gate: anyio.Event) -> None:
        await gate.wait()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            pool = WorkerPool(tasks, max_idle=4)
            open_gate, gate = anyio.Event(), anyio.Event()
            open_gate.set()
            pool.run(work, open_gate)
            pool.run(work, gate)
            await anyio.wait_all_tasks_blocked()
            assert (pool.idle, pool.running) == (1, 1)
            pool.close()
            await anyio.wait_all_tasks_blocked()
            assert (pool.idle, pool.running) == (0, 1)
            gate.set()
        assert (pool.idle, pool.running) == (0, 0)
