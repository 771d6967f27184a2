"""The event loop that runs us, where going through anyio each time is too dear.

anyio looks for the loop at every call; on asyncio that asks the kernel for the process id (0.4 µs, and more where
system calls are watched). What is done at every message looks once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def asyncio_loop() -> AbstractEventLoop | None:
    """asyncio's running loop; None on trio. Raises anyio.NoEventLoopError outside of both."""
    asyncio = sys.modules.get("asyncio")  # trio does without
    if asyncio is None or anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return None
    loop: AbstractEventLoop = asyncio.get_running_loop()
    return loop


def clock() -> Callable[[], float]:
    """`anyio.current_time` of the running loop, in a tenth of its time."""
    loop = asyncio_loop()
    if loop is not None:
        return loop.time
    import trio

    return trio.lowlevel.current_clock().current_time


class Signal(Protocol):
    """What one task waits for, once. Set before or while it is waited for; cancelling the wait uses it up."""

    def set(self) -> None: ...

    async def wait(self) -> None: ...


class _LoopSignal:
    __slots__ = ("_future",)

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._future = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self) -> None:
        await self._future


def signals() -> Callable[[], Signal]:
    """What makes signals for the running loop: an `anyio.Event` does all they do, in three times their time."""
    loop = asyncio_loop()
    return anyio.Event if loop is None else partial(_LoopSignal, loop)
