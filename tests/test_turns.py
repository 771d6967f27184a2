"""The queue of waiting tasks."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from py_p2pstack.turns import Turns

pytestmark = pytest.mark.anyio


def never() -> None:
    raise AssertionError("there is no turn to pass on")


async def waiting(turns: Turns, name: str, done: list[str], pass_on: Callable[[], None] = never) -> None:
    """Wait, and tell."""
    await turns.wait(pass_on)
    done.append(name)


async def test_who_came_first_goes_on_first() -> None:
    turns, done = Turns(), list[str]()
    async with anyio.create_task_group() as tasks:
        for name in "abcd":
            tasks.start_soon(waiting, turns, name, done)
            await anyio.wait_all_tasks_blocked()
        for number in range(1, 5):
            turns.let_go()
            await anyio.wait_all_tasks_blocked()
            assert done == list("abcd")[:number]
    assert not turns


async def test_release_lets_all_go_on() -> None:
    turns, done = Turns(), list[str]()
    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(waiting, turns, name, done)
        await anyio.wait_all_tasks_blocked()
        turns.release()
    assert sorted(done) == ["a", "b", "c"]
    assert not turns


async def test_who_is_cancelled_leaves_the_queue() -> None:
    turns, done = Turns(), list[str]()
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0):
            await turns.wait(never)
        assert not turns
        tasks.start_soon(waiting, turns, "b", done)
        await anyio.wait_all_tasks_blocked()
        turns.let_go()
    assert done == ["b"]


async def test_a_turn_that_came_to_somebody_cancelled_is_passed_on() -> None:
    turns, done = Turns(), list[str]()
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:

            async def doom() -> None:
                scope.cancel()
                turns.let_go()  # before the other ran

            async def behind() -> None:
                tasks.start_soon(doom)
                await waiting(turns, "b", done)

            tasks.start_soon(behind)
            await turns.wait(turns.let_go)
        assert scope.cancelled_caught
    assert done == ["b"]


async def test_who_leaves_learns_whether_the_turn_had_come() -> None:
    turns = Turns()
    first, second = turns.join(), turns.join()
    turns.let_go()
    assert not turns.leave(first)
    assert turns.leave(second)
    assert not turns
