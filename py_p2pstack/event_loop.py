"""The event loop that runs us, where going through anyio each time is too dear.

anyio looks for the loop at every call; on asyncio that asks the kernel for the process id (0.4 µs, and more where system
calls are watched). What is done at every message looks once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

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
