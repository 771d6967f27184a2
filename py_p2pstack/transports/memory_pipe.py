"""One direction of an in-process connection, and the connection made of two of them."""

from __future__ import annotations

import errno

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Buffer
from py_p2pstack.transports.memory_network import MemoryNetwork


class Pipe:
    """One direction: a writer at `source`, a reader at `target`, a bounded number of bytes between them."""

    __slots__ = (
        "_network",
        "_stalled",
        "abandoned",
        "arrived",
        "broken",
        "busy_until",
        "ended",
        "held",
        "last_chunk",
        "last_chunk_tick",
        "last_due",
        "latency",
        "reader",
        "reverse",
        "source",
        "target",
        "writer",
    )

    def __init__(self, network: MemoryNetwork, source: str, target: str, latency: float) -> None:
        self._network = network
        self.source = source
        self.target = target
        self.latency = latency
        self.arrived = bytearray()
        self.held = 0
        """Bytes in flight and unread; at most the network's capacity."""
        self.ended = False
        """The writer's end has arrived at the reader."""
        self.broken = False
        """The reader's goodbye has arrived at the writer."""
        self.abandoned = False
        """The reader has gone."""
        self.reader: anyio.Event | None = None
        self.writer: anyio.Event | None = None
        self.reverse = self
        self._stalled: list[bytearray | None] = []
        # for the network's calendar
        self.busy_until = 0.0
        self.last_due = 0.0
        self.last_chunk: bytearray | None = None
        self.last_chunk_tick = -1

    @property
    def has_room(self) -> bool:
        """Whether `write` would take a byte."""
        return self.held < self._network.capacity

    def write(self, data: Buffer) -> int:
        """Take what fits. Raises BrokenPipeError."""
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "the other end has closed")
        network = self._network
        count = len(data)
        room = network.capacity - self.held
        if count > room:
            count = room
            data = memoryview(data)[:room]
        if not count:
            return 0
        self.held += count
        if network.delayed:
            network.send(self, bytearray(data))
        elif network.severed or self._stalled:
            self.deliver(bytearray(data))
        elif self.abandoned:
            self.held -= count
        else:
            self.arrived += data
            if self.reader is not None:
                self.reader.set()
        return count

    def write_end(self) -> None:
        """Send the end, behind all that was taken."""
        if self._network.delayed:
            self._network.send(self, None)
        else:
            self.deliver(None)

    def read(self, buffer: memoryview) -> int | None:
        """Read what has arrived: the count, 0 at the end, None when there is nothing yet."""
        arrived = self.arrived
        count = len(arrived)
        if not count:
            return 0 if self.ended else None
        size = len(buffer)
        limit = self._network.max_read
        if limit is not None and limit < size:
            size = limit
        if count <= size:
            buffer[:count] = arrived
            arrived.clear()
        else:
            count = size
            with memoryview(arrived) as view:
                buffer[:count] = view[:count]
            del arrived[:count]
        self.held -= count
        # As a kernel does it: a writer is woken for a worthwhile piece of room, not for a byte.
        if self.writer is not None and self.held * 2 <= self._network.capacity:
            self.writer.set()
        return count

    def abandon(self) -> None:
        """The reader goes: what has arrived and will arrive is thrown away."""
        self.abandoned = True
        self.arrived.clear()

    def deliver(self, chunk: bytearray | None) -> None:
        """A chunk has come through the network: let it in, or hold it while the nodes are apart.

        An empty chunk lets in what was held.
        """
        network = self._network
        apart = network.severed and not network.reachable(self.source, self.target)
        if apart or self._stalled:
            if chunk is None or chunk:
                self._stalled.append(chunk)
            if apart:
                network.stall(self)
            else:
                self.release()
        elif chunk is None or chunk:
            self._arrive(chunk)

    def release(self) -> None:
        """Let in what was held."""
        stalled, self._stalled = self._stalled, []
        for chunk in stalled:
            self._arrive(chunk)

    def _arrive(self, chunk: bytearray | None) -> None:
        if chunk is None:
            self.ended = True
            reverse = self.reverse
            reverse.broken = True
            if reverse.writer is not None:
                reverse.writer.set()
        elif self.abandoned:
            self.held -= len(chunk)
        else:
            self.arrived += chunk
        if self.reader is not None:
            self.reader.set()


class MemoryConnection:
    """One end of a pair of pipes, as a `RawConnection`."""

    __slots__ = ("_closed", "_in", "_out", "local_address", "remote_address")

    def __init__(self, inward: Pipe, outward: Pipe, local: Multiaddr, remote: Multiaddr) -> None:
        self._in = inward
        self._out = outward
        self._closed = False
        self.local_address = local
        self.remote_address = remote

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<MemoryConnection {self.local_address} – {self.remote_address}{state}>"

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """Read into `buffer`: the count, 0 at the end of input, None if there is nothing. Raises OSError."""
        if self._closed:
            raise _closed()
        return self._in.read(buffer)

    def send_nowait(self, data: Buffer) -> int:
        """Write what fits.

        Raises OSError: BrokenPipeError when the other end has closed, also after `close`.
        """
        if self._closed:
            raise _closed()
        return self._out.write(data)

    async def wait_readable(self) -> None:
        """Return when input or its end is there, or the connection is closed here."""
        pipe = self._in
        if self._closed or pipe.arrived or pipe.ended:
            await checkpoint()
            return
        if pipe.reader is not None:
            raise anyio.BusyResourceError("reading from")
        pipe.reader = anyio.Event()
        try:
            await pipe.reader.wait()
        finally:
            pipe.reader = None

    async def wait_writable(self) -> None:
        """Return when there is room, or the connection is closed at either end."""
        pipe = self._out
        if self._closed or pipe.broken or pipe.has_room:
            await checkpoint()
            return
        if pipe.writer is not None:
            raise anyio.BusyResourceError("writing to")
        pipe.writer = anyio.Event()
        try:
            await pipe.writer.wait()
        finally:
            pipe.writer = None

    def close(self) -> None:
        """End both directions; wakes both waiters.

        What was taken by `send_nowait` still arrives. Idempotent.
        """
        if self._closed:
            return
        self._closed = True
        self._in.abandon()
        if not self._out.broken:
            self._out.write_end()
        for waiter in (self._in.reader, self._out.writer):
            if waiter is not None:
                waiter.set()


def connection_pair(
    network: MemoryNetwork, source: str, target: str, local: Multiaddr, remote: Multiaddr
) -> tuple[MemoryConnection, MemoryConnection]:
    """Both ends of a new connection: the dialling one at `source`, the accepting one at `target`."""
    latency = network.latency_between(source, target)
    there, back = Pipe(network, source, target, latency), Pipe(network, target, source, latency)
    there.reverse, back.reverse = back, there
    return MemoryConnection(back, there, local, remote), MemoryConnection(there, back, remote, local)


def _closed() -> OSError:
    return OSError(errno.EBADF, "the connection is closed")
