"""What goes on in an object that is entered ends with its block."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import anyio
import pytest

from py_p2pstack.lifetime import OwnCalls

pytestmark = pytest.mark.anyio


class Closed(Exception):
    """The shop is closed."""


class Shop:
    """Something that can be entered and called."""

    def __init__(self) -> None:
        self.calls = OwnCalls(Closed)
        self.left = 0

    async def __aenter__(self) -> Self:
        self.calls.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.calls.aclose()

    async def stay(self) -> None:
        with self.calls.call():
            try:
                await anyio.sleep_forever()
            finally:
                self.left += 1
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                self.left += 1


async def test_leaving_ends_the_calls_under_way_and_waits_for_their_end() -> None:
    ends = 0

    async def customer() -> None:
        nonlocal ends
        with pytest.raises(Closed):
            await shop.stay()
        ends += 1

    async with anyio.create_task_group() as tasks:
        async with Shop() as shop:
            for _ in range(3):
                tasks.start_soon(customer)
            await anyio.wait_all_tasks_blocked()
        assert shop.left == 6
    assert ends == 3


async def test_calls_before_and_after_are_refused() -> None:
    shop = Shop()
    with pytest.raises(Closed):
        await shop.stay()
    async with shop:
        pass
    with pytest.raises(Closed):
        await shop.stay()
    assert shop.left == 0


async def test_a_call_cancelled_by_its_caller_is_just_cancelled() -> None:
    async with Shop() as shop:
        with anyio.move_on_after(0.01) as scope:
            await shop.stay()
        assert scope.cancelled_caught


async def test_leaving_by_cancellation_ends_the_calls_too() -> None:
    shop = Shop()
    entered = anyio.Event()

    async def keeper(scope: anyio.CancelScope) -> None:
        with scope:
            async with shop:
                entered.set()
                await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(keeper, scope)
        await entered.wait()
        tasks.start_soon(_stays_out, shop)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    assert shop.left == 2


async def _stays_out(shop: Shop) -> None:
    with pytest.raises(Closed):
        await shop.stay()
