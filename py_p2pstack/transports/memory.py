"""The in-process transport: `/memory/N` addresses on a `MemoryNetwork`."""

from __future__ import annotations

import errno
from collections import deque

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError, UnsupportedAddress
from py_p2pstack.transports.memory_network import MemoryNetwork as MemoryNetwork
from py_p2pstack.transports.memory_pipe import MemoryConnection, connection_pair


class MemoryTransport:
    """Dials and listens on a shared network, as one of its nodes."""

    name = "memory"

    def __init__(self, network: MemoryNetwork, node: str = "") -> None:
        """`node`: the name by which the network knows who dials and listens here."""
        self._network = network
        self._node = node

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether it is a memory address with a number."""
        return bool(_port(address))

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether it is a memory address."""
        return _port(address) is not None

    async def dial(self, address: Multiaddr) -> MemoryConnection:
        """Connect; takes a round trip. Raises ConnectionRefusedError if nobody accepts, UnsupportedAddress.

        Across a partition it waits for its end; the caller bounds the time. Cancelling leaves nothing open.
        """
        port = _port(address)
        if not port:
            raise UnsupportedAddress(f"not a memory address to dial: {address}")
        network = self._network
        network.require_running()
        listener = network.listeners.get(port)
        target = self._node if listener is None else listener.node
        await self._travel(target)
        listener = network.listeners.get(port)  # as it is when the call arrives
        if listener is None or len(listener.waiting) >= network.backlog:
            await self._travel(target)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody accepts at {address}")
        local = Multiaddr.parse(f"/memory/{network.ephemeral_port()}")
        ours, theirs = connection_pair(network, self._node, listener.node, local, listener.address)
        listener.arrive(theirs)
        try:
            await self._travel(target)
        except BaseException:
            ours.close()
            raise
        return ours

    async def _travel(self, target: str) -> None:
        network = self._network
        if network.delayed:
            await anyio.sleep(network.draw_delay(network.latency_between(self._node, target)))
        else:
            await checkpoint()
        await network.wait_reachable(self._node, target)

    async def listen(self, address: Multiaddr) -> MemoryListener:
        """Bind; `/memory/0` picks a free number. Raises ListenError, also for a number that is taken."""
        port = _port(address)
        if port is None:
            raise ListenError(address, "not a memory address")
        self._network.require_running()
        if port == 0:
            port = self._network.free_port()
        if port in self._network.listeners:
            raise ListenError(address, "address already in use")
        listener = MemoryListener(self._network, self._node, port)
        self._network.listeners[port] = listener
        return listener


class MemoryListener:
    """A number on the network where connections arrive."""

    def __init__(self, network: MemoryNetwork, node: str, port: int) -> None:
        self.address = Multiaddr.parse(f"/memory/{port}")
        self.node = node
        self.waiting: deque[MemoryConnection] = deque()
        """Not accepted yet; at most the network's backlog."""
        self._network = network
        self._port = port
        self._closed = False
        self._arrived: anyio.Event | None = None

    def __repr__(self) -> str:
        return f"<MemoryListener {self.address}{' closed' if self._closed else ''}>"

    def arrive(self, connection: MemoryConnection) -> None:
        """Queue a connection for `accept`."""
        self.waiting.append(connection)
        if self._arrived is not None:
            self._arrived.set()

    async def accept(self) -> MemoryConnection:
        """Wait for the next connection.

        Always yields once. Raises anyio.ClosedResourceError after `close`.
        """
        await checkpoint()
        while not self._closed:
            if self.waiting:
                return self.waiting.popleft()
            self._arrived = anyio.Event()
            await self._arrived.wait()
        raise anyio.ClosedResourceError

    def close(self) -> None:
        """Stop listening, hang up on those who wait; wakes `accept`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        del self._network.listeners[self._port]
        if self._arrived is not None:
            self._arrived.set()
        for connection in self.waiting:
            connection.close()
        self.waiting.clear()


def _port(address: Multiaddr) -> int | None:
    if address.protocols != ("memory",):
        return None
    return int(address.value("memory") or 0)
