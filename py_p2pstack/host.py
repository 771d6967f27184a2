"""The host facade: network, peerstore, protocol router, identify and ping in one hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.notifications import LocalAddressesUpdated
from py_p2pstack.core.peerstore import TEMPORARY_TTL, Peerstore
from py_p2pstack.core.stream import StreamHandler
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import ConnectionClosed, DialError
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.lifetime import Entered
from py_p2pstack.network.connection_manager import ConnectionManager
from py_p2pstack.network.router import Router
from py_p2pstack.network.stream import SwarmStream
from py_p2pstack.network.swarm import Swarm
from py_p2pstack.protocols.identify import IdentifyConfig, IdentifyService, ObservedAddresses
from py_p2pstack.protocols.ping import PingService

PeerAddress = PeerInfo | Multiaddr | str
"""Where a peer is: a PeerInfo, or a multiaddr (text or value) that ends in `/p2p/<peer id>`."""


class BasicHost(Entered):
    """Implements `core.host.Host` over parts given to it. `async with` is its lifetime."""

    def __init__(
        self,
        *,
        private_key: PrivateKey,
        network: Swarm,
        peerstore: Peerstore,
        router: Router,
        conn_manager: ConnectionManager,
        events: EventBus,
        listen: Sequence[Multiaddr],
        announce: Sequence[Multiaddr],
        identify: IdentifyConfig,
        ping_timeout: float,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.id: PeerId = private_key.public_key.peer_id()
        self.peerstore = peerstore
        self.network = network
        self.mux = router
        self.conn_manager = conn_manager
        self.events = events
        self._listen = tuple(listen)
        self._announce = tuple(announce)
        self._observed = ObservedAddresses()
        self._identify = IdentifyService(
            self, private_key, config=identify, observed=self._observed, wall_clock=wall_clock
        )
        self._ping = PingService(self, timeout=ping_timeout, clock=clock)

    def __repr__(self) -> str:
        return f"<Host {self.id} {', '.join(map(str, self.network.listen_addresses())) or 'not listening'}>"

    # --- lifetime ---------------------------------------------------------------------------------

    async def _enter(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(self.network)
        await stack.enter_async_context(self._identify)
        self.network.notify(self)
        stack.callback(self.network.stop_notify, self)
        await self.network.listen(*self._listen)

    async def aclose(self) -> None:
        """Stop listening and close every connection; the host takes part in nothing from then on. Idempotent.

        Leaving the `async with` block does this, and waits for every task.
        """
        await self.network.aclose()

    # --- who and where ----------------------------------------------------------------------------

    @property
    def addrs(self) -> list[Multiaddr]:
        """Where others can dial us (without the /p2p part): announced, or else listening and observed addresses."""
        if self._announce:
            return list(self._announce)
        return list(dict.fromkeys((*self.network.interface_listen_addresses(), *self._observed.believed())))

    @property
    def peer_info(self) -> PeerInfo:
        """Our id and addresses, as another host's `connect` takes them."""
        return PeerInfo(self.id, tuple(self.addrs))

    @property
    def full_addresses(self) -> list[Multiaddr]:
        """Our addresses with `/p2p/<our id>` behind each."""
        return [address.with_peer(self.id) for address in self.addrs]

    # --- connections ------------------------------------------------------------------------------

    async def connect(self, peer: PeerAddress) -> None:
        """Connect to a peer if not connected, and wait until identify has told what it speaks.

        The addresses given are remembered for two minutes beside those already known. Raises DialError, which tells
        for each address why it did not do, and InvalidAddress for text that names no peer.
        """
        info = PeerInfo.parse(peer)
        self.peerstore.add_addresses(info.peer_id, info.addresses, TEMPORARY_TTL)
        connection = await self.network.dial_peer(info.peer_id)
        await self._identify.wait(connection)
        if connection.closed:
            reason = connection.close_reason or ConnectionClosed()
            raise DialError(info.peer_id, [(connection.info.remote_address, reason)], "closed at once")

    async def ping(self, peer: PeerId) -> float:
        """Return one round-trip time to `peer` in seconds, connecting first if need be; see `PingService.ping`."""
        return await self._ping.ping(peer)

    def pings(self, peer: PeerId) -> AsyncGenerator[float, None]:
        """Ping over and over on one stream; see `PingService.pings`."""
        return self._ping.pings(peer)

    # --- streams ----------------------------------------------------------------------------------

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None:
        """Serve inbound streams of `protocol`, each in a task of its own.

        The stream is closed when the handler returns and reset when it raises.
        """
        self.mux.add_handler(protocol, handler)

    def set_stream_handler_match(
        self, protocol: ProtocolId, match: Callable[[ProtocolId], bool], handler: StreamHandler
    ) -> None:
        """Serve every protocol id that `match` accepts; `protocol` is the name identify tells."""
        self.mux.add_handler_match(protocol, match, handler)

    def remove_stream_handler(self, protocol: ProtocolId) -> None:
        """Serve `protocol` no longer."""
        self.mux.remove_handler(protocol)

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId] | ProtocolId) -> SwarmStream:
        """Open a stream for the first of `protocols` that `peer` speaks, connecting first if need be.

        On a new connection that waits until identify has told what the peer speaks, which is faster than to try one
        after the other. Then no round trip is spent; nor for a single protocol that an earlier connection told. Should
        the peer have given it up meanwhile, the first receive raises NegotiationError. Raises DialError,
        NegotiationError, ConnectionClosed, ResourceLimitExceeded, OperationTimeout.
        """
        wanted = (protocols,) if isinstance(protocols, str) else protocols
        connection = await self.network.dial_peer(peer)
        if len(wanted) != 1 or self.peerstore.first_supported(peer, wanted) is None:
            await self._identify.wait(connection)
        return await connection.new_stream(wanted)

    # --- what the network tells (core.network.Notifiee) -------------------------------------------

    def connected(self, connection: Connection) -> None:
        """Nothing to do: identify has its own notifiee."""

    def disconnected(self, connection: Connection) -> None:
        """Nothing to do."""

    def listening(self, address: Multiaddr) -> None:
        """Tell that our addresses changed."""
        self.events.publish(LocalAddressesUpdated(tuple(self.addrs)))

    def listen_closed(self, address: Multiaddr) -> None:
        """Tell that our addresses changed."""
        self.events.publish(LocalAddressesUpdated(tuple(self.addrs)))
