"""The swarm: it keeps the listeners and connections of one host, and every task that serves them.

A connection is one task here. Its end, however it comes, frees its slots, tells the notifiees and touches no other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.core.muxer import MuxedConnection
from py_p2pstack.core.network import Notifiee
from py_p2pstack.core.notifications import PeerConnected, PeerDisconnected
from py_p2pstack.core.peerstore import CONNECTED_TTL, RECENTLY_CONNECTED_TTL, Peerstore
from py_p2pstack.core.stream import StreamHandler
from py_p2pstack.core.transport import Listener, Transport
from py_p2pstack.core.types import Connectedness, Direction, ProtocolId
from py_p2pstack.errors import (
    ConnectionClosed,
    DialError,
    Gated,
    ListenError,
    NetworkError,
    NotConnected,
    P2PError,
    ResourceLimitExceeded,
)
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.network.config import SwarmConfig
from py_p2pstack.network.connection import SwarmConnection
from py_p2pstack.network.connection_manager import ConnectionManager
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.network.departures import Departures
from py_p2pstack.network.dial_sync import DialSync
from py_p2pstack.network.dialer import Dialer
from py_p2pstack.network.gater import ConnectionGater
from py_p2pstack.network.interfaces import expand_unspecified
from py_p2pstack.network.resolver import Resolver
from py_p2pstack.network.resources import ConnectionScope, ResourceManager
from py_p2pstack.network.router import Router
from py_p2pstack.network.stream import SwarmStream
from py_p2pstack.workers import WorkerPool

logger = logging.getLogger(__name__)


class Swarm:
    """Implements `core.network.Network`. `async with` is its lifetime: leaving the block ends every connection."""

    def __init__(
        self,
        *,
        local_peer: PeerId,
        transports: Sequence[Transport],
        peerstore: Peerstore,
        router: Router,
        events: EventBus,
        resources: ResourceManager,
        conn_manager: ConnectionManager,
        gater: ConnectionGater,
        resolver: Resolver,
        config: SwarmConfig,
    ) -> None:
        self.local_peer = local_peer
        self.peerstore = peerstore
        self.resources = resources
        self.conn_manager = conn_manager
        self.config = config
        self._transports = tuple(transports)
        self._router = router
        self._events = events
        self._gater = gater
        self._dialer = Dialer(
            local_peer=local_peer,
            transports=transports,
            peerstore=peerstore,
            resolver=resolver,
            gater=gater,
            resources=resources,
            config=config,
        )
        self._listeners: dict[Multiaddr, Listener] = {}
        self._connections: dict[PeerId, list[SwarmConnection]] = {}
        self._departures = Departures(config.forget_after, config.max_departures)
        self._notifiees: list[Notifiee] = []
        self._raw_handler: StreamHandler | None = None
        self._deadlines = Deadlines(config.negotiation_timeout)
        self._open = False

    def __repr__(self) -> str:
        return f"<Swarm {self.local_peer} {len(self._listeners)} listeners, {len(self._connections)} peers>"

    # --- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._tasks = await stack.enter_async_context(OwnTasks())
            self._workers = WorkerPool(self._tasks, self.config.max_idle_workers)
            self._drivers = WorkerPool(self._tasks, self.config.max_idle_workers)
            self._dials = DialSync(self._drivers, self._dial)
            self._tasks.start_soon(self._deadlines.run)
            self._tasks.start_soon(self._keep_house)
            self._stack = stack.pop_all()
        self._open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        finally:
            await self._stack.aclose()

    async def aclose(self) -> None:
        """Stop listening and close every connection, giving go-aways `close_timeout` seconds to leave. Idempotent."""
        self._open = False
        for address in list(self._listeners):
            self._close_listener(address)
        with anyio.move_on_after(self.config.close_timeout):
            async with anyio.create_task_group() as closing:
                for connection in self.conns():
                    closing.start_soon(connection.aclose)

    # --- listening --------------------------------------------------------------------------------

    async def listen(self, *addresses: Multiaddr) -> None:
        """Listen on all addresses; raises ListenError for the first that fails, those before it stay."""
        for address in addresses:
            transport = next((each for each in self._transports if each.can_listen(address)), None)
            if transport is None:
                raise ListenError(address, "no transport for this kind of address")
            listener = await transport.listen(address)
            self._listeners[listener.address] = listener
            self._tasks.start_soon(self._serve_listener, listener)
            self._notify("listening", listener.address)

    def listen_addresses(self) -> list[Multiaddr]:
        """Where we listen, as bound (port 0 resolved, 0.0.0.0 as it is)."""
        return list(self._listeners)

    def interface_listen_addresses(self) -> list[Multiaddr]:
        """Listen addresses with 0.0.0.0 and :: spelled out as the machine's interface addresses."""
        return expand_unspecified(self._listeners)

    async def _serve_listener(self, listener: Listener) -> None:
        try:
            await listener.serve(self)
        finally:
            self._close_listener(listener.address)

    def _close_listener(self, address: Multiaddr) -> None:
        listener = self._listeners.pop(address, None)
        if listener is not None:
            listener.close()
            self._notify("listen_closed", address)

    # --- inbound: the gate of every listener ------------------------------------------------------

    def admit(self, local: Multiaddr, remote: Multiaddr) -> ConnectionScope:
        """Reserve a place for an arriving connection, before its handshake. Raises Gated or ResourceLimitExceeded."""
        if not self._gater.intercept_accept(local, remote):
            raise Gated(f"the connection gater refused {remote}")
        return self.resources.reserve_connection(Direction.INBOUND, remote)

    async def serve(self, connection: MuxedConnection, admission: ConnectionScope) -> None:
        """Serve an inbound connection until it ends."""
        try:
            admitted = self._take_in(connection, admission)
        except P2PError as refusal:
            logger.debug("refused %s: %s", connection.info.remote_peer, refusal)
            return
        await self._run(admitted)

    # --- dialling ---------------------------------------------------------------------------------

    async def dial_peer(self, peer: PeerId) -> SwarmConnection:
        """Return a live connection to `peer`, made if need be; concurrent calls share one dial. Raises DialError."""
        connection = self._best_connection(peer)
        if connection is not None:
            return connection
        if not self._open:
            raise NetworkError("the network is closed")
        return await self._dials.dial(peer)

    async def _dial(self, peer: PeerId) -> SwarmConnection:
        muxed, scope = await self._dialer.dial(peer)
        try:
            connection = self._take_in(muxed, scope)
        except P2PError as refusal:
            raise DialError(peer, [(muxed.info.remote_address, refusal)]) from None
        self.peerstore.add_addresses(peer, (muxed.info.remote_address,), CONNECTED_TTL)
        self._drivers.run(self._run, connection)
        return connection

    def can_dial(self, peer: PeerId, address: Multiaddr) -> bool:
        """Whether a transport of ours knows this kind of address, and the peer is not ourselves."""
        return peer != self.local_peer and self._dialer.transport_for(address) is not None

    # --- connections ------------------------------------------------------------------------------

    def _take_in(self, muxed: MuxedConnection, scope: ConnectionScope) -> SwarmConnection:
        """Enter a finished connection into the books, or close it with the reason as its go-away code."""
        info = muxed.info
        try:
            if info.remote_peer == self.local_peer:
                raise Gated("that is ourselves")
            if not self._gater.intercept_secured(info) or not self._gater.intercept_upgraded(info):
                raise Gated(f"the connection gater refused {info.remote_peer}")
            if not self._open:
                raise ConnectionClosed("the network is closed")
            scope.set_peer(info.remote_peer)
        except BaseException as refusal:  # a fault of the application's gater, too, must not keep the place
            full = isinstance(refusal, ResourceLimitExceeded)
            muxed.close(ConnectionCode.RESOURCE_LIMIT_EXCEEDED if full else ConnectionCode.GATED)
            scope.done()
            raise
        now = anyio.current_time()
        connection = SwarmConnection(self, muxed, scope, now)
        peer = info.remote_peer
        first = peer not in self._connections
        self._connections.setdefault(peer, []).append(connection)
        self._departures.came(peer)
        self.peerstore.add_public_key(peer, info.remote_public_key)
        self.conn_manager.connected(connection, now)
        self._notify("connected", connection)
        if first:
            self._events.publish(PeerConnected(peer))
        return connection

    async def _run(self, connection: SwarmConnection) -> None:
        try:
            await connection.serve()
        except Exception:  # the boundary that keeps one connection's fault from all others
            logger.exception("%r failed", connection)
        finally:
            self._let_go(connection)

    def _let_go(self, connection: SwarmConnection) -> None:
        peer = connection.remote_peer
        now = anyio.current_time()
        rest = [other for other in self._connections[peer] if other is not connection]
        if rest:
            self._connections[peer] = rest
        else:
            del self._connections[peer]
            self._departures.went(peer, now)
            self.peerstore.update_ttl(peer, CONNECTED_TTL, RECENTLY_CONNECTED_TTL)
        connection.scope.done()
        self.conn_manager.disconnected(connection, now)
        self._notify("disconnected", connection)
        if not rest:
            self._events.publish(PeerDisconnected(peer))

    def _best_connection(self, peer: PeerId) -> SwarmConnection | None:
        """The live connection with the most streams: traffic gathers, idle duplicates can be trimmed."""
        connections = self._connections.get(peer)
        if connections is None:
            return None
        if len(connections) == 1:
            return None if connections[0].closed else connections[0]
        live = [connection for connection in connections if not connection.closed]
        return max(live, key=lambda connection: len(connection.streams), default=None)

    async def close_peer(self, peer: PeerId) -> None:
        """Close every connection to `peer` and wait until they are gone."""
        for connection in self.conns_to_peer(peer):
            await connection.aclose()

    def connectedness(self, peer: PeerId) -> Connectedness:
        """Whether we have a live connection to `peer`."""
        for connection in self._connections.get(peer, ()):
            if not connection.closed:
                return Connectedness.CONNECTED
        return Connectedness.NOT_CONNECTED

    def peers(self) -> list[PeerId]:
        """The peers we have connections to."""
        return list(self._connections)

    def conns(self) -> list[SwarmConnection]:
        """Every connection."""
        return [connection for connections in self._connections.values() for connection in connections]

    def conns_to_peer(self, peer: PeerId) -> list[SwarmConnection]:
        """Every connection to `peer`, oldest first."""
        return list(self._connections.get(peer, ()))

    async def _keep_house(self) -> None:
        """Tick every connection, forget who is long gone, and now and then close what the connection manager values
        least, if there are too many.
        """
        next_trim = anyio.current_time() + self.config.trim_interval
        while True:
            await anyio.sleep(self.config.tick_interval)
            now = anyio.current_time()
            self._tick(now)
            for peer in self._departures.take_due(now):
                self.peerstore.remove_peer(peer)
            if now >= next_trim:
                next_trim = now + self.config.trim_interval
                self._trim(now)

    def _tick(self, now: float) -> None:  # a loop of its own: one that sleeps would keep its last connection alive
        for connection in self.conns():
            connection.tick(now)

    def _trim(self, now: float) -> None:
        for surplus in self.conn_manager.connections_to_trim(now):
            surplus.close(ConnectionCode.GARBAGE_COLLECTED)

    # --- streams ----------------------------------------------------------------------------------

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId], *, dial: bool = True) -> SwarmStream:
        """Open a stream to `peer` for the first of `protocols` it speaks, dialling first unless `dial` is False.

        Raises NotConnected, DialError, NegotiationError, ConnectionClosed, ResourceLimitExceeded, OperationTimeout.
        """
        connection = self._best_connection(peer)
        if connection is None:
            if not dial:
                raise NotConnected(f"not connected to {peer}")
            connection = await self.dial_peer(peer)
        return await connection.new_stream(protocols)

    def set_stream_handler(self, handler: StreamHandler | None) -> None:
        """Give every inbound stream to `handler` as it comes, un-negotiated; None: back to the protocol router."""
        self._raw_handler = handler

    def serve_stream(self, stream: SwarmStream) -> None:
        """Start serving an inbound stream."""
        self._workers.run(self._serve_stream, stream)

    async def _serve_stream(self, stream: SwarmStream) -> None:
        if self._raw_handler is not None:
            await self._raw_handler(stream)
        else:
            await self._router.serve(stream, self._deadlines)

    # --- notifications ----------------------------------------------------------------------------

    def notify(self, notifiee: Notifiee) -> None:
        """Call `notifiee` for whatever happens from now on."""
        self._notifiees.append(notifiee)

    def stop_notify(self, notifiee: Notifiee) -> None:
        """Call it no longer; unknown ones are ignored."""
        self._notifiees = [other for other in self._notifiees if other is not notifiee]

    def _notify(self, what: str, subject: object) -> None:
        for notifiee in self._notifiees:
            call: Callable[[object], None] = getattr(notifiee, what)
            try:
                call(subject)
            except Exception:  # a notifiee's fault stays its own
                logger.exception("notifiee %r failed in %s", notifiee, what)
