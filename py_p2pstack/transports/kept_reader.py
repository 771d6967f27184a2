"""Waiting for input on one socket, over and over: asyncio's loop is told of the socket once, not at each wait.

`anyio.wait_readable` registers with the loop and takes the socket out again each time, which costs twice as much
(11 µs) as the wait itself. Where the loop cannot watch sockets (Windows' own), and on trio, that is what is used.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import anyio

from py_p2pstack.event_loop import asyncio_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future


class KeptReader:
    """Waits until a socket has input. `close` it before the socket."""

    __slots__ = ("_loop", "_refused", "_sock", "_unheeded", "_waiter")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop: AbstractEventLoop | None = None  # that watches the socket now
        self._refused = False
        self._waiter: Future[None] | None = None
        self._unheeded = False

    async def wait(self) -> None:
        """Return when there is input, or an end or error; now and then without cause. One task at a time.

        Raises anyio.BusyResourceError, and after `anyio.notify_closing` maybe anyio.ClosedResourceError.
        """
        if self._waiter is not None:
            raise anyio.BusyResourceError("reading from")
        loop = self._loop or self._watch()
        if loop is None:
            await anyio.wait_readable(self._sock)
            return
        self._unheeded = False
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def close(self) -> None:
        """Wake who waits by asyncio's loop, which forgets the socket; for others there is `anyio.notify_closing`."""
        self._forget()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self) -> AbstractEventLoop | None:
        """Have asyncio's loop watch the socket; None if there is no such loop."""
        if self._refused:
            return None
        loop = asyncio_loop()
        if loop is not None:
            try:
                loop.add_reader(self._sock.fileno(), self._tell)
            except NotImplementedError:
                pass
            else:
                self._loop = loop
                return loop
        self._refused = True
        return None

    def _forget(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop = None

    def _tell(self) -> None:
        """The loop saw input. It does so in each turn until all is read, which takes who waited at least one."""
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self._unheeded:
            self._forget()
        else:
            self._unheeded = True
