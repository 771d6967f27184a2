"""A pair of raw connections in memory that can be as awkward as a socket may be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Buffer


class _Way:
    """One direction."""

    def __init__(self, capacity: int) -> None:
        self.buffer = bytearray()
        self.capacity = capacity
        self.ended = False  # by its writer
        self.gone = False  # its reader
        self.changed = anyio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class PipeEnd:
    """A `RawConnection`. `chunk` bounds what one receive or send moves; `capacity` what is under way."""

    def __init__(self, name: int, inbound: _Way, outbound: _Way, chunk: int) -> None:
        self.local_address = Multiaddr.parse(f"/memory/{name}")
        self.remote_address = Multiaddr.parse(f"/memory/{3 - name}")
        self.closed = False
        self.sent = bytearray()
        """All that went out."""
        self.on_wait: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
        """Awaited before each wait for input."""
        self._in = inbound
        self._out = outbound
        self._chunk = chunk

    def receive_nowait(self, buffer: memoryview) -> int | None:
        if self.closed:
            raise OSError("closed")
        count = min(len(buffer), len(self._in.buffer), self._chunk)
        if not count:
            return 0 if self._in.ended else None
        buffer[:count] = self._in.buffer[:count]
        del self._in.buffer[:count]
        self._in.notify()
        return count

    def send_nowait(self, data: Buffer) -> int:
        if self.closed or self._out.gone:
            raise BrokenPipeError("broken pipe")
        count = max(0, min(len(data), self._chunk, self._out.capacity - len(self._out.buffer)))
        self._out.buffer += data[:count]
        self.sent += data[:count]
        self._out.notify()
        return count

    async def wait_readable(self) -> None:
        await self.on_wait()
        while not (self.closed or self._in.buffer or self._in.ended):
            await self._in.changed.wait()

    async def wait_writable(self) -> None:
        while not (self.closed or self._out.gone or len(self._out.buffer) < self._out.capacity):
            await self._out.changed.wait()

    def end_output(self) -> None:
        """Half-close, as a socket's shutdown does."""
        self._out.ended = True
        self._out.notify()

    def close(self) -> None:
        self.closed = True
        self._in.gone = True
        self._in.notify()
        self.end_output()


def raw_pair(*, chunk: int = 65536, capacity: int = 65536) -> tuple[PipeEnd, PipeEnd]:
    """Two ends: alice's and bob's."""
    there, back = _Way(capacity), _Way(capacity)
    return PipeEnd(1, back, there, chunk), PipeEnd(2, there, back, chunk)
