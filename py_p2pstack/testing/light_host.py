"""A host for simulations of thousands: everything above the network is real, what is below is a message that arrives.

The peerstore, the event bus, the connection manager, the dial backoff and the sharing of dials are those of production.
Dials take two round trips and identify one more, peers that crash are silent until keepalives notice, watermarks close
connections. There is no cryptography, no multiplexer, no negotiation, and no resource manager.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from copy import copy

import anyio

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.notifications import LocalProtocolsUpdated, PeerConnected, PeerDisconnected, PeerIdentified
from py_p2pstack.core.peerstore import CONNECTED_TTL, RECENTLY_CONNECTED_TTL, TEMPORARY_TTL
from py_p2pstack.core.stream import StreamHandler
from py_p2pstack.core.types import Connectedness, Direction, ProtocolId
from py_p2pstack.errors import (
    ConnectionClosed,
    DialBackoff,
    DialError,
    NegotiationError,
    NetworkError,
    OperationTimeout,
    P2PError,
)
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId, PublicKey
from py_p2pstack.lifetime import Entered, OwnTasks
from py_p2pstack.network.backoff import AddressBackoff
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.connection_manager import ConnectionManager
from py_p2pstack.network.dial_sync import DialSync
from py_p2pstack.network.router import handle
from py_p2pstack.peerstore import MemoryPeerstore
from py_p2pstack.testing.light_network import LightNetwork
from py_p2pstack.testing.light_stream import LightStream
from py_p2pstack.workers import WorkerPool


class LightConnection:
    """One end of a connection; implements `core.connection.Connection`."""

    __slots__ = ("_opened", "close_reason", "host", "identified", "identify_over", "info", "latency", "light_network",
                 "other", "remote", "remote_peer", "streams")  # fmt: skip

    def __init__(self, host: LightHost, remote: LightHost, direction: Direction) -> None:
        """For the swarm; see `pair`."""
        self.host = host
        self.remote = remote
        self.remote_peer = remote.id
        self.light_network = host.light_network
        self.latency = host.light_network.latency(host, remote)
        self.info = ConnectionInfo(
            direction=direction,
            local_peer=host.id,
            remote_peer=remote.id,
            remote_public_key=remote.public_key,
            local_address=host.address,
            remote_address=remote.address,
            transport="light",
            security="/none",
            muxer="/none",
        )
        self.streams: dict[LightStream, None] = {}
        self.identified = False
        self.identify_over = anyio.Event()
        self.close_reason: ConnectionClosed | None = None
        self._opened = 0
        self.other: LightConnection

    @classmethod
    def pair(cls, host: LightHost, remote: LightHost) -> LightConnection:
        """Both ends of a new connection; returns that of `host`, which dialled."""
        near, far = cls(host, remote, Direction.OUTBOUND), cls(remote, host, Direction.INBOUND)
        near.other, far.other = far, near
        return near

    def __repr__(self) -> str:
        return f"<LightConnection {self.info.direction.value} {self.remote.name}>"

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.close_reason is not None

    async def new_stream(self, protocols: Sequence[ProtocolId]) -> LightStream:
        """Open a stream; no round trip if identify told of one of the protocols, else a refusal takes one."""
        if self.close_reason is not None:
            raise copy(self.close_reason)
        protocol = self.host.peerstore.first_supported(self.remote_peer, protocols)
        handler = None if protocol is None else self.remote.handlers.get(protocol)
        if protocol is None or handler is None:
            await anyio.sleep(2 * self.latency)
            raise NegotiationError(f"{self.remote_peer} speaks none of {', '.join(protocols)}")
        self._opened += 1
        return LightStream.pair(self, 2 * self._opened + (self.info.direction is Direction.OUTBOUND), protocol, handler)

    def close(self, code: int = 0) -> None:
        """End it here, and there when word arrives."""
        if self.close_reason is None:
            self._end(ConnectionClosed(code=code))
            if self.light_network.reachable(self.host.name, self.remote.name):
                self.light_network.post(self.latency, self.other._end, ConnectionClosed(code=code, remote=True))

    async def aclose(self, code: int = 0) -> None:
        """The same."""
        self.close(code)

    def fall_silent(self) -> None:
        """A keepalive went unanswered, if nothing has come through again by now."""
        if not self.light_network.reachable(self.host.name, self.remote.name):
            self._end(ConnectionClosed("the peer fell silent"))

    def identify(self) -> None:
        """Learn what the peer's identify tells."""
        self.identify_over.set()
        if self.close_reason is not None:
            return
        host, remote = self.host, self.remote
        protocols = tuple(sorted(remote.handlers))
        self.identified = True
        host.peerstore.add_addresses(remote.id, (remote.address,), CONNECTED_TTL)
        host.peerstore.set_protocols(remote.id, protocols)
        host.events.publish(
            PeerIdentified(remote.id, self, frozenset(protocols), (remote.address,), "light", "light/1", host.address)
        )

    def _end(self, reason: ConnectionClosed) -> None:
        if self.close_reason is None:
            self.close_reason = reason
            self.identify_over.set()
            for stream in list(self.streams):
                stream.lose(reason)
            self.host.network.let_go(self)


class LightSwarm:
    """The network of a light host, as far as protocols see it."""

    def __init__(self, host: LightHost) -> None:
        """For the host, which enters it."""
        self._host = host
        self._light_network = host.light_network
        self._config = SwarmConfig()
        self._backoff = AddressBackoff()
        self._connections: dict[PeerId, list[LightConnection]] = {}

    @property
    def local_peer(self) -> PeerId:
        """Who we are."""
        return self._host.id

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin; everything ends with the stack."""
        tasks = await stack.enter_async_context(OwnTasks())
        self._workers = WorkerPool(tasks, self._config.max_idle_workers)
        self._dials = DialSync(self._workers, self._dial)
        stack.callback(self._close)

    def _close(self) -> None:
        for connection in self.conns():
            connection.close(ConnectionCode.SHUTDOWN)

    # --- who is there -----------------------------------------------------------------------------

    def connectedness(self, peer: PeerId) -> Connectedness:
        """Whether we have a live connection to `peer`."""
        return Connectedness.CONNECTED if peer in self._connections else Connectedness.NOT_CONNECTED

    def peers(self) -> list[PeerId]:
        """The peers we have connections to."""
        return list(self._connections)

    def conns(self) -> list[LightConnection]:
        """Every connection."""
        return [connection for connections in self._connections.values() for connection in connections]

    def conns_to_peer(self, peer: PeerId) -> list[LightConnection]:
        """Every connection to `peer`, oldest first."""
        return list(self._connections.get(peer, ()))

    def listen_addresses(self) -> list[Multiaddr]:
        """Where others can dial us."""
        return self._host.addrs

    def interface_listen_addresses(self) -> list[Multiaddr]:
        """The same."""
        return self._host.addrs

    def trim(self) -> None:
        """Close what the connection manager values least, if there are too many."""
        for surplus in self._host.conn_manager.connections_to_trim(self._light_network.clock()):
            surplus.close(ConnectionCode.GARBAGE_COLLECTED)

    # --- dialling ---------------------------------------------------------------------------------

    async def dial_peer(self, peer: PeerId) -> LightConnection:
        """Return a live connection, made if need be; concurrent calls share one dial. Raises DialError."""
        connections = self._connections.get(peer)
        if connections:
            return connections[0]
        connection: object = await self._dials.dial(peer)
        assert isinstance(connection, LightConnection)
        return connection

    async def _dial(self, peer: PeerId) -> LightConnection:
        now = self._light_network.clock
        attempts: list[tuple[object, BaseException]] = []
        for address in self._host.peerstore.addresses(peer):
            wait = self._backoff.retry_after(peer, address, now())
            if wait > 0:
                attempts.append((address, DialBackoff(wait)))
                continue
            start = now()
            try:
                connection = await self._dial_address(peer, address)
            except anyio.get_cancelled_exc_class():
                if now() - start >= self._config.given_up_after:
                    self._backoff.add(peer, address, now())
                raise
            except P2PError as fault:
                attempts.append((address, fault.with_traceback(None)))
                self._backoff.add(peer, address, now())
            else:
                self._backoff.clear(peer, address)
                return connection
        raise DialError(peer, attempts, "" if attempts else "no known addresses")

    async def _dial_address(self, peer: PeerId, address: Multiaddr) -> LightConnection:
        """Two round trips to whoever listens there; nobody, or nobody within reach, is silent until the timeout."""
        network, host = self._light_network, self._host
        remote = network.hosts.get(address)
        if remote is None and address in network.refusing:
            await anyio.sleep(2 * network.nearest)
            raise NetworkError("refused")
        if remote is not None and network.reachable(host.name, remote.name):
            delay = network.draw_handshake(network.latency(host, remote))
            if delay < self._config.dial_timeout:
                await anyio.sleep(delay)
                if network.hosts.get(address) is not remote or not network.reachable(host.name, remote.name):
                    raise NetworkError("reset during the handshake")
                if remote.id != peer:
                    raise NetworkError(f"somebody else is there: {remote.id}")
                return self._take_in(remote)
        await anyio.sleep(self._config.dial_timeout)
        raise OperationTimeout(f"no connection within {self._config.dial_timeout:g} s")

    def _take_in(self, remote: LightHost) -> LightConnection:
        connection = LightConnection.pair(self._host, remote)
        for end in (connection, connection.other):
            end.host.network._admit(end)
            self._light_network.post(2 * connection.latency, end.identify)
        return connection

    def _admit(self, connection: LightConnection) -> None:
        peer = connection.remote_peer
        first = peer not in self._connections
        self._connections.setdefault(peer, []).append(connection)
        self._host.conn_manager.connected(connection, self._light_network.clock())
        self._host.peerstore.add_addresses(peer, (connection.remote.address,), CONNECTED_TTL)
        if first:
            self._host.events.publish(PeerConnected(peer))

    def let_go(self, connection: LightConnection) -> None:
        """A connection has ended."""
        peer = connection.remote_peer
        rest = [other for other in self._connections.get(peer, ()) if other is not connection]
        if rest:
            self._connections[peer] = rest
        else:
            del self._connections[peer]
            self._host.peerstore.update_ttl(peer, CONNECTED_TTL, RECENTLY_CONNECTED_TTL)
        self._host.conn_manager.disconnected(connection, self._light_network.clock())
        if not rest:
            self._host.events.publish(PeerDisconnected(peer))

    # --- streams ----------------------------------------------------------------------------------

    def serve(self, stream: LightStream, handler: StreamHandler) -> None:
        """Start serving an inbound stream, of which something has arrived."""
        self._workers.run(self._serve, (stream, handler))

    async def _serve(self, job: tuple[LightStream, StreamHandler]) -> None:
        stream, handler = job
        await handle(handler, stream)


class LightHost(Entered):
    """What protocols need of a host. `async with` is its lifetime: leaving it says goodbye to every peer."""

    def __init__(
        self, network: LightNetwork, name: str, public_key: PublicKey, address: Multiaddr, rng: random.Random
    ) -> None:
        """A host called `name` at a random place of the network's map."""
        self.light_network = network
        self.name = name
        self.public_key = public_key
        self.id = public_key.peer_id()
        self.address = address
        self.place = (rng.random(), rng.random())
        """Where on the map it lies."""
        self.peerstore = MemoryPeerstore(clock=network.clock)
        self.events = EventBus()
        self.conn_manager = ConnectionManager()
        self.handlers: dict[ProtocolId, StreamHandler] = {}
        """Who serves which protocol."""
        self.network = LightSwarm(self)

    def __repr__(self) -> str:
        return f"<LightHost {self.name} {self.id} {len(self.network.peers())} peers>"

    async def _enter(self, stack: AsyncExitStack) -> None:
        await self.network.start(stack)
        self.light_network.hosts[self.address] = self
        stack.callback(self._hang_up)

    def _hang_up(self) -> None:
        if self.light_network.hosts.get(self.address) is self:  # else it was cut off
            del self.light_network.hosts[self.address]
            self.light_network.refusing.add(self.address)

    @property
    def addrs(self) -> list[Multiaddr]:
        """Where others can dial us."""
        return [self.address]

    @property
    def peer_info(self) -> PeerInfo:
        """Our id and address."""
        return PeerInfo(self.id, (self.address,))

    async def connect(self, peer: PeerInfo) -> None:
        """Connect if not connected, and wait until identify has told what the peer speaks. Raises DialError."""
        self.peerstore.add_addresses(peer.peer_id, peer.addresses, TEMPORARY_TTL)
        connection = await self.network.dial_peer(peer.peer_id)
        await connection.identify_over.wait()

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None:
        """Serve inbound streams of `protocol`."""
        self.handlers[protocol] = handler
        self.events.publish(LocalProtocolsUpdated(frozenset((protocol,)), frozenset()))

    def remove_stream_handler(self, protocol: ProtocolId) -> None:
        """Serve `protocol` no longer."""
        if self.handlers.pop(protocol, None) is not None:
            self.events.publish(LocalProtocolsUpdated(frozenset(), frozenset((protocol,))))

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> LightStream:
        """Open a stream to `peer`, connecting first if need be, after identify."""
        connection = await self.network.dial_peer(peer)
        await connection.identify_over.wait()
        return await connection.new_stream(protocols)
