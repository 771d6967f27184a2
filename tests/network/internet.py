"""An internet in memory beneath the production transports: addresses as they are, latency by host, hosts that are dead.

`connect` and `bind` stand in for those of `transports.sockets`, so TCP, WebSocket and all above them run unchanged, in
virtual time.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.transports import tcp
from py_p2pstack.transports.memory_network import Latency, MemoryNetwork
from py_p2pstack.transports.memory_pipe import MemoryConnection, connection_pair
from py_p2pstack.transports.sockets import Endpoint, SocketConfig, tcp_multiaddr
from py_p2pstack.transports.websocket import transport as websocket

HOME = "192.0.2.1"
"""From where everybody dials."""


class Internet:
    """Hosts by IP address. Where nobody listens a connection is refused."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.dialled: list[tuple[float, str]] = []
        """When, in virtual seconds, which attempt began."""
        self.unreachable: set[str] = set()
        """Hosts without a route to them: one hears of it at once."""
        self.silent: set[str] = set()
        """Addresses that swallow what they are sent."""
        self.listeners: dict[Multiaddr, Listener] = {}
        self._ends: list[MemoryConnection] = []

    @property
    def open(self) -> int:
        """Ends of connections that nobody has closed."""
        return sum(not end._closed for end in self._ends)

    async def connect(self, endpoint: Endpoint, config: SocketConfig | None = None) -> MemoryConnection:
        """See `sockets.connect`."""
        return await self.dial(endpoint.host, _tcp(endpoint), round_trip=True)

    async def dial(self, host: str, address: Multiaddr, *, round_trip: bool) -> MemoryConnection:
        """A connection to whoever listens there: known of a round trip later, or at once."""
        self.dialled.append((anyio.current_time(), str(address)))
        if host in self.unreachable:
            raise OSError(errno.ENETUNREACH, "network is unreachable")
        if str(address) in self.silent:
            await anyio.sleep_forever()
        trip = self.network.latency_between(HOME, host) if round_trip else 0
        await anyio.sleep(trip)
        listener = self.listeners.get(address)
        if listener is None:
            await anyio.sleep(trip)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        port = 50_000 + len(self._ends)
        local = Multiaddr.parse(f"/ip4/{HOME}/" + (f"tcp/{port}" if round_trip else f"udp/{port}/quic-v1"))
        ours, theirs = connection_pair(self.network, HOME, host, local, listener.address)
        self._ends += (ours, theirs)
        listener.arrive(theirs)
        try:
            await anyio.sleep(trip)
        except BaseException:
            ours.close()
            raise
        return ours

    def bind(self, endpoint: Endpoint | None, address: Multiaddr, config: SocketConfig | None = None) -> Listener:
        """See `sockets.bind`."""
        if endpoint is not None:
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


class OneTripTransport:
    """Plays QUIC's part in a race: raw bytes whose first flight needs no answer, so a dial takes one round trip."""

    name = "quic"

    def __init__(self, internet: Internet) -> None:
        self._internet = internet

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether it is a QUIC address."""
        return address.protocols[1:] == ("udp", "quic-v1")

    can_listen = can_dial

    async def dial(self, address: Multiaddr) -> MemoryConnection:
        """See `RawTransport.dial`."""
        host = address.value(address.protocols[0])
        assert host is not None
        return await self._internet.dial(host, address, round_trip=False)

    async def listen(self, address: Multiaddr) -> Listener:
        """See `RawTransport.listen`."""
        return self._internet.bind(None, address)


@asynccontextmanager
async def internet(latency: Latency) -> AsyncIterator[Internet]:
    """Sockets lead into memory while it lives; `latency`: seconds one way."""
    async with MemoryNetwork(latency=latency) as network:
        world = Internet(network)
        with pytest.MonkeyPatch.context() as patch:
            for module in (tcp, websocket):
                patch.setattr(module, "connect", world.connect)
                patch.setattr(module, "bind", world.bind)
            yield world
