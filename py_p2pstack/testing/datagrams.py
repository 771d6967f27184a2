"""A network of datagrams in memory: delay, loss, reordering and a bound on what waits, all from a seed.

    network = DatagramNetwork(tasks, latency=0.05, loss=0.01, seed=1)
    transport = QuicTransport(make_identity, bind=network.bind)

Run in virtual time (`testing.virtual_time`), a handshake over it takes exactly its round trips.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError
from py_p2pstack.testing.virtual_time import alarm
from py_p2pstack.transports.quic.address import SocketAddress
from py_p2pstack.transports.sockets import Endpoint

_FIRST_PORT = 30000


class DatagramNetwork:
    """Where simulated sockets find each other, by their names."""

    def __init__(
        self,
        tasks: TaskGroup,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        capacity: int = 1000,
        seed: int = 0,
    ) -> None:
        """`latency` one way and `jitter` on top in seconds; `loss` of one; `capacity` of a socket in datagrams."""
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.capacity = capacity
        self.carried: list[tuple[float, int]] = []
        """When each datagram was sent, and its bytes."""
        self.lost = 0
        self.tap: Callable[[bytes, SocketAddress], None] | None = None
        """Told each datagram that is sent, and to whom."""
        self._random = random.Random(seed)  # noqa: S311 - a simulation's chance
        self._sockets: dict[SocketAddress, SimulatedSocket] = {}
        self._ports = itertools.count(_FIRST_PORT)
        self._alarm = alarm(tasks)
        self._on_way: list[tuple[float, int, bytes, SocketAddress, SocketAddress]] = []
        self._numbers = itertools.count()

    def bind(self, endpoint: Endpoint, address: Multiaddr) -> SimulatedSocket:
        """A socket of this name; port 0 is the next free one. Raises ListenError for a name that is taken."""
        sockaddr = endpoint._replace(port=endpoint.port or next(self._ports)).sockaddr()
        if sockaddr in self._sockets:
            raise ListenError(address, "address already in use")
        self._sockets[sockaddr] = SimulatedSocket(self, sockaddr)
        return self._sockets[sockaddr]

    def send(self, data: bytes, sender: SocketAddress, to: SocketAddress) -> None:
        """Carry a datagram, or lose it."""
        self.carried.append((anyio.current_time(), len(data)))
        if self.tap is not None:
            self.tap(data, to)
        if self._random.random() < self.loss:
            self.lost += 1
            return
        number = next(self._numbers)
        when = anyio.current_time() + self.latency + self._random.random() * self.jitter
        heapq.heappush(self._on_way, (when, number, data, sender, to))
        self._alarm(when, self._deliver, number)

    def _deliver(self, _number: int) -> None:
        """The next arrives; among those of one moment the first sent, whatever the order of alarms."""
        _, _, data, sender, to = heapq.heappop(self._on_way)
        self._arrive(data, sender, to)

    def _arrive(self, data: bytes, sender: SocketAddress, to: SocketAddress) -> None:
        sock = self._sockets.get(to)
        if sock is None or len(sock.inbox) >= self.capacity:
            self.lost += 1
        else:
            sock.put(data, sender)

    def forget(self, name: SocketAddress) -> None:
        """The socket is closed."""
        self._sockets.pop(name, None)


class SimulatedSocket:
    """Implements `transports.quic.sockets.DatagramSocket`."""

    def __init__(self, network: DatagramNetwork, name: SocketAddress) -> None:
        self.name = name
        self.inbox: deque[tuple[bytes, SocketAddress]] = deque()
        self._network = network
        self._arrived = anyio.Event()
        self._closed = False

    def put(self, data: bytes, sender: SocketAddress) -> None:
        """A datagram has come."""
        self.inbox.append((data, sender))
        self._arrived.set()

    def receive_nowait(self) -> tuple[bytes, int, SocketAddress] | None:
        """See `DatagramSocket`."""
        if not self.inbox:
            return None
        data, sender = self.inbox.popleft()
        return data, len(data), sender

    def send_nowait(self, datagrams: list[bytes], to: SocketAddress) -> int:
        """See `DatagramSocket`."""
        for data in datagrams:
            self._network.send(data, self.name, to)
        return len(datagrams)

    async def wait_readable(self) -> None:
        """See `DatagramSocket`."""
        if not self.inbox and not self._closed:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        else:
            await anyio.lowlevel.checkpoint()

    async def wait_writable(self) -> None:
        """See `DatagramSocket`."""
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """See `DatagramSocket`."""
        self._closed = True
        self._arrived.set()
        self._network.forget(self.name)
