"""Runs a command on an event loop, and ends it well: on Ctrl-C, on SIGTERM, and when it fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from py_p2pstack.cli.failures import Failure

BY_SIGNAL = 128  # a shell's code of a process ended by signal n is 128 + n


def run_async(command: Callable[[], Awaitable[None]], *, backend: str) -> int:
    """Run a command to its end; return 0, or 128 + n if signal n ended it.

    The first Ctrl-C or SIGTERM cancels the command, which so takes leave of its peers; the second one ends the process
    at once. What the command raises comes through, out of its exception group if it is alone in it.
    """
    if backend == "trio":
        try:
            import trio  # noqa: F401
        except ModuleNotFoundError:
            raise Failure(1, "trio is not installed", 'pip install "py-p2pstack[trio]"') from None
    try:
        return anyio.run(_run, command, backend=backend)
    except KeyboardInterrupt:  # where signals cannot be received (Windows), or before they can
        return BY_SIGNAL + signal.SIGINT


async def _run(command: Callable[[], Awaitable[None]]) -> int:
    got: list[int] = []
    failure: Exception | None = None
    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        if sys.platform != "win32":
            await tasks.start(_watch_signals, scope, got)
        with scope:
            try:
                await command()
            except Exception as fault:  # noqa: BLE001 - raised below, outside of the group
                failure = fault
        tasks.cancel_scope.cancel()
    if got:
        return BY_SIGNAL + got[0]
    if failure is not None:
        raise _alone(failure)
    return 0


async def _watch_signals(
    scope: anyio.CancelScope, got: list[int], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if got:
                os._exit(BY_SIGNAL + number)
            got.append(number)
            scope.cancel()


def _alone(fault: Exception) -> Exception:
    while isinstance(fault, ExceptionGroup) and len(fault.exceptions) == 1:
        fault = fault.exceptions[0]
    return fault
