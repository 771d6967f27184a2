"""Claims about what is made for the running event loop."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack.event_loop import clock, signals

pytestmark = pytest.mark.anyio


async def test_the_clock_is_that_of_the_loop() -> None:
    now = clock()
    before, told, after = anyio.current_time(), now(), anyio.current_time()
    assert before <= told <= after


async def test_a_signal_wakes_who_waits() -> None:
    signal = signals()()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signal.wait)
        await anyio.wait_all_tasks_blocked()
        signal.set()
        signal.set()


async def test_a_signal_set_before_is_not_waited_for() -> None:
    signal = signals()()
    signal.set()
    with anyio.fail_after(5):
        await signal.wait()


async def test_a_cancelled_wait_ends_and_a_signal_then_harms_nobody() -> None:
    signal = signals()()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signal.wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    signal.set()
