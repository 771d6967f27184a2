"""An internet in memory beneath the production transports: addresses as they are, latency by host, hosts that are dead.

`connect` and `bind` stand in for those of `transports.sockets` and `quic.sockets`, so TCP, WebSocket, QUIC and all
above them run unchanged, in virtual time.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.testing.datagrams import DatagramNetwork, SimulatedSocket
from py_p2pstack.transports import tcp
from py_p2pstack.transports.memory_network import Latency, MemoryNetwork
from py_p2pstack.transports.memory_pipe import MemoryConnection, connection_pair
from py_p2pstack.transports.quic import sockets as quic
from py_p2pstack.transports.quic.address import SocketAddress, quic_multiaddr
from py_p2pstack.transports.sockets import Endpoint, SocketConfig, tcp_multiaddr
from py_p2pstack.transports.websocket import transport as websocket

HOME, HOME6 = "192.0.2.1", "2001:db8::1"
"""From where everybody dials."""


class Internet:
    """Hosts by IP address. Where nobody listens a connection is refused."""

    def __init__(self, network: MemoryNetwork, tasks: TaskGroup) -> None:
        self.network = network
        self.dialled: list[tuple[float, str]] = []
        """When, in virtual seconds, which attempt began."""
        self.unreachable: set[str] = set()
        """Hosts without a route to them: one hears of it at once."""
        self.silent: set[str] = set()
        """Addresses that swallow what they are sent."""
        self.listeners: dict[Multiaddr, Listener] = {}
        self.datagrams = Datagrams(self, tasks)
        self._ends: list[MemoryConnection] = []

    @property
    def open(self) -> int:
        """Ends of TCP connections, and UDP sockets at home, that nobody has closed."""
        return sum(not end._closed for end in self._ends) + self.datagrams.open

    async def connect(self, endpoint: Endpoint, config: SocketConfig | None = None) -> MemoryConnection:
        """See `sockets.connect`."""
        host, address = endpoint.host, _tcp(endpoint)
        self.dialled.append((anyio.current_time(), str(address)))
        if host in self.unreachable:
            raise OSError(errno.ENETUNREACH, "network is unreachable")
        if str(address) in self.silent:
            await anyio.sleep_forever()
        trip = self.network.latency_between(HOME, host)
        await anyio.sleep(trip)
        listener = self.listeners.get(address)
        if listener is None:
            await anyio.sleep(trip)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        local = tcp_multiaddr((HOME, 50_000 + len(self._ends)))
        ours, theirs = connection_pair(self.network, HOME, host, local, listener.address)
        self._ends += (ours, theirs)
        listener.arrive(theirs)
        try:
            await anyio.sleep(trip)
        except BaseException:
            ours.close()
            raise
        return ours

    def bind(self, endpoint: Endpoint, address: Multiaddr, config: SocketConfig | None = None) -> Listener:
        """See `sockets.bind`."""
        address = _tcp(endpoint)
        listener = self.listeners[address] = Listener(address)
        return listener


def _tcp(endpoint: Endpoint) -> Multiaddr:
    return tcp_multiaddr((endpoint.host, endpoint.port, *((0, 0) if ":" in endpoint.host else ())))


class Listener:
    """Implements `core.transport.RawListener`."""

    def __init__(self, address: Multiaddr) -> None:
        self.address = address
        self._waiting: deque[MemoryConnection] = deque()
        self._changed = anyio.Event()
        self._closed = False

    def arrive(self, connection: MemoryConnection) -> None:
        """Queue a connection for `accept`."""
        self._waiting.append(connection)
        self._changed.set()

    async def accept(self) -> MemoryConnection:
        """See `RawListener.accept`."""
        await checkpoint()
        while not self._waiting and not self._closed:
            self._changed = anyio.Event()
            await self._changed.wait()
        if self._closed:
            raise anyio.ClosedResourceError
        return self._waiting.popleft()

    def close(self) -> None:
        """See `RawListener.close`."""
        self._closed = True
        self._changed.set()


class Datagrams(DatagramNetwork):
    """The same for datagrams. Where nobody listens they are lost."""

    def __init__(self, world: Internet, tasks: TaskGroup) -> None:
        super().__init__(tasks)
        self._world = world
        self._conversations: set[tuple[SocketAddress, SocketAddress]] = set()

    @property
    def open(self) -> int:
        """Sockets at home that nobody has closed."""
        return sum(name[0] in (HOME, HOME6) for name in self._sockets)

    def bind(self, endpoint: Endpoint, address: Multiaddr) -> SimulatedSocket:
        """See `quic.sockets.bind`."""
        host = {"0.0.0.0": HOME, "::": HOME6}.get(endpoint.host, endpoint.host)
        return super().bind(endpoint._replace(host=host), address)

    def check_route(self, target: Endpoint) -> None:
        """See `quic.sockets.check_route`."""
        if target.host in self._world.unreachable:
            raise OSError(errno.ENETUNREACH, "network is unreachable")

    def send(self, data: bytes, sender: SocketAddress, to: SocketAddress) -> None:
        """Carry a datagram, or lose it."""
        world, there = self._world, quic_multiaddr(to)
        if sender[0] in (HOME, HOME6) and (sender, to) not in self._conversations:
            self._conversations.add((sender, to))
            world.dialled.append((anyio.current_time(), str(there)))
        host = to[0] if sender[0] in (HOME, HOME6) else sender[0]
        self.latency = world.network.latency_between(HOME, host)
        if str(there) not in world.silent:
            super().send(data, sender, to)


@asynccontextmanager
async def internet(latency: Latency) -> AsyncIterator[Internet]:
    """Sockets lead into memory while it lives; `latency`: seconds one way."""
    async with MemoryNetwork(latency=latency) as network, anyio.create_task_group() as tasks:
        world = Internet(network, tasks)
        with pytest.MonkeyPatch.context() as patch:
            for module in (tcp, websocket):
                patch.setattr(module, "connect", world.connect)
                patch.setattr(module, "bind", world.bind)
            patch.setattr(quic, "bind", world.datagrams.bind)
            patch.setattr(quic, "check_route", world.datagrams.check_route)
            yield world
        tasks.cancel_scope.cancel()
