"""The DHT as a service of a host: what an application calls, and the streams and tasks behind it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from types import TracebackType
from typing import Protocol, Self

import anyio

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.host import ConnectionManager
from py_p2pstack.core.network import Network
from py_p2pstack.core.notifications import (
    LocalAddressesUpdated,
    PeerDisconnected,
    PeerIdentified,
    PeerProtocolsUpdated,
)
from py_p2pstack.core.peerstore import TEMPORARY_TTL, Peerstore
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import Connectedness, ProtocolId
from py_p2pstack.errors import LookupFailure, OperationTimeout, PeerNotFound
from py_p2pstack.events import EventBus, Subscription
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import (
    IpDiversity,
    Lookup,
    LookupResult,
    PeerState,
    RoutingTable,
    cached_keys,
    key_of,
)
from py_p2pstack.lifetime import OwnTasks
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.admission import Admission
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.events import EVENT_TYPES, FinalPeer, OnEvent, QueryError, QueryEvent, listeners, tell
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.messenger import Messenger
from py_p2pstack.protocols.dht.queries import Query, ip_groups
from py_p2pstack.protocols.dht.refresh import Refresher
from py_p2pstack.protocols.dht.server import Server

logger = logging.getLogger(__name__)

KEY_CACHE = 16384  # peers whose key is remembered: a few lookups' worth, 3 MB


class DhtHost(Protocol):
    """What the DHT needs of a host."""

    @property
    def id(self) -> PeerId: ...

    @property
    def addrs(self) -> list[Multiaddr]: ...

    @property
    def network(self) -> Network: ...

    @property
    def peerstore(self) -> Peerstore: ...

    @property
    def conn_manager(self) -> ConnectionManager: ...

    @property
    def events(self) -> EventBus: ...

    async def connect(self, peer: PeerInfo) -> None: ...

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None: ...

    def remove_stream_handler(self, protocol: ProtocolId) -> None: ...

    async def new_stream(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> Stream: ...


class Dht:
    """A node of the DHT. `async with` is its lifetime, inside that of its host.

        async with Host(listen=["/ip4/127.0.0.1/tcp/0"]) as host, Dht(host) as dht:
            await host.connect(somebody)
            await dht.bootstrap()
            found = await dht.find_peer(peer_id)

    Every operation may be cancelled and bounded by time from outside (`anyio.fail_after`), besides its own `timeout`.
    """

    def __init__(self, host: DhtHost, config: DhtConfig | None = None, *, rng: Random | None = None) -> None:
        """Build a DHT on `host`; nothing happens until it is entered. `rng` picks the keys that refreshes look up."""
        self.host = host
        self.config = config = config or DhtConfig()
        self._key_of = cached_keys(PeerId.to_bytes, KEY_CACHE)
        self.routing_table: RoutingTable[PeerId] = RoutingTable(
            self._key_of(host.id),
            self._key_of,
            bucket_size=config.lookup.k,
            replacements=config.lookup.k,
            diversity=IpDiversity(
                self._groups_of,
                max_per_cpl=config.max_peers_per_ip_group_and_cpl,
                max_per_table=config.max_peers_per_ip_group,
            ),
        )
        """Who is known to serve the DHT."""
        self._rng = rng or Random()  # noqa: S311 - spreads refreshes, protects nothing
        self._messenger = Messenger(host, config)
        self._watchers = EventBus()
        self._query_ids = itertools.count(1)
        self._server = Server(Handlers(host.id, self.routing_table, self, k=config.lookup.k), config)

    def __repr__(self) -> str:
        return f"<Dht {self.config.protocol} {self.config.mode} {len(self.routing_table)} peers>"

    # --- lifetime ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(OwnTasks())
            changes = stack.enter_context(
                self.host.events.subscribe(
                    PeerIdentified, PeerProtocolsUpdated, PeerDisconnected, LocalAddressesUpdated, buffer=1024
                )
            )
            self._admission = Admission(self, self.routing_table, self.config, tasks)
            self._refresher = Refresher(
                self, self.routing_table, self._admission, self.config, self._rng, self._look_up_for_refresh
            )
            stack.callback(self._admission.close)
            stack.callback(self._messenger.close)
            if self.config.mode == "server":
                self.host.set_stream_handler(self.config.protocol, self._server.serve)
                stack.callback(self._server.close)
                stack.callback(self.host.remove_stream_handler, self.config.protocol)
                tasks.start_soon(self._server.watch_deadlines)
            tasks.start_soon(self._follow, changes)
            if self.config.auto_refresh:
                tasks.start_soon(self._refresher.run_periodically)
                tasks.start_soon(self._refresher.run_repairs)
                tasks.start_soon(self._refresher.keep_addresses)
            for peer in self.connected_peers():
                self._admission.found(peer)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _follow(
        self, changes: Subscription[PeerIdentified | PeerProtocolsUpdated | PeerDisconnected | LocalAddressesUpdated]
    ) -> None:
        """Keep up with what the host learns of its peers."""
        async for change in changes:
            if isinstance(change, PeerDisconnected):
                self._messenger.forget(change.peer)
            elif isinstance(change, LocalAddressesUpdated):
                # Looking ourselves up makes us meet those who should know where we are now.
                self._refresher.refresh_soon()
            elif self.speaks_dht(change.peer):
                self._admission.found(change.peer)
            else:
                self._admission.failed(change.peer)

    # --- what an application asks -----------------------------------------------------------------

    async def bootstrap(self) -> int:
        """Fill the routing table: from the peers connected, else from the bootstrap peers, then by a whole refresh.

        Returns how many peers are in the table then; 0 means that there is nobody to ask.
        """
        await self._refresher.gather()
        await self._refresher.refresh(force=True)
        return len(self.routing_table)

    async def find_peer(
        self, peer: PeerId, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> PeerInfo:
        """Find a peer and connect to it; at once if we are connected already.

        Args:
            peer: whom to find; it need not serve the DHT.
            timeout: seconds; the config's `lookup_timeout` by default.
            on_event: called with every step.

        Raises:
            PeerNotFound: nobody knew the peer, or it cannot be reached.
            LookupFailure: there is nobody to ask.
            OperationTimeout: it took too long.
        """
        if peer == self.host.id:
            return PeerInfo(peer, tuple(self.host.addrs))
        if self.is_connected(peer):
            self._tell_shortcut(peer, on_event)
            return self.host.peerstore.peer_info(peer)
        query, result = await self._run(peer.to_bytes(), timeout, on_event, stop=lambda: self.is_connected(peer))
        state = query.lookup.state(peer)
        if self.is_connected(peer) or state is PeerState.QUERIED:
            query.final([peer])
            return self.host.peerstore.peer_info(peer)
        if state is None:
            raise PeerNotFound(f"none of the {result.queried} peers asked knows {peer}")
        raise PeerNotFound(f"{peer} is known, but cannot be reached")

    async def get_closest_peers(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> list[PeerId]:
        """Return the k peers nearest to `key`, nearest first: every one of them answered just now.

        Raises LookupFailure (nobody to ask, or nobody answered), OperationTimeout, ValueError (no key).
        """
        result = await self.look_up(key, timeout=timeout, on_event=on_event)
        if not result.peers:
            raise LookupFailure(f"none of the {result.unreachable} peers known answered")
        return list(result.peers)

    async def look_up(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> LookupResult[PeerId]:
        """Like `get_closest_peers`, with all that is to be told about how it went."""
        if not 0 < len(key) <= codec.MAX_KEY:
            raise ValueError(f"a key has 1..{codec.MAX_KEY} bytes")
        query, result = await self._run(key, timeout, on_event)
        query.final(result.peers)
        if result.completed:
            self.routing_table.mark_refreshed(result.target, anyio.current_time())
        return result

    async def ping(self, peer: PeerId) -> float:
        """Return the seconds a PING of the DHT took there and back. Raises as `find_node` does."""
        start = anyio.current_time()
        await self._messenger.request(peer, Message(type=MessageType.PING))
        return anyio.current_time() - start

    async def find_node(self, peer: PeerId, key: bytes) -> list[PeerInfo]:
        """Ask one peer whom it knows nearest to `key`; its answer as it came, at most 2k peers.

        Raises OperationTimeout, RemoteProtocolError, DialError, NegotiationError, ConnectionClosed, StreamError,
        ResourceLimitExceeded.
        """
        answer = await self._messenger.request(peer, Message(type=MessageType.FIND_NODE, key=key))
        return [each.info for each in answer.closer_peers]

    @asynccontextmanager
    async def watch(self, buffer: int = 1024) -> AsyncIterator[Subscription[QueryEvent]]:
        """Listen to every step of every operation: `async with dht.watch() as events: async for event in events: …`.

        At most `buffer` events wait, the oldest being dropped (the subscription counts them).
        """
        with self._watchers.subscribe(*EVENT_TYPES, buffer=buffer) as subscription:
            yield subscription

    # --- lookups ----------------------------------------------------------------------------------

    async def _run(
        self,
        key: bytes,
        timeout: float | None,
        on_event: OnEvent | None,
        *,
        stop: Callable[[], bool] | None = None,
    ) -> tuple[Query, LookupResult[PeerId]]:
        """Look `key` up within the time; an empty table is filled first. Raises LookupFailure, OperationTimeout."""
        seconds = self.config.lookup_timeout if timeout is None else timeout
        with anyio.move_on_after(seconds):
            if not len(self.routing_table):
                await self._refresher.gather()
            query = self._begin(key, on_event, stop)
            result = await query.run()
            self._mark_useful(query)
            return query, result
        raise OperationTimeout(f"the lookup did not end within {seconds:g} s")

    def _begin(self, key: bytes, on_event: OnEvent | None, stop: Callable[[], bool] | None) -> Query:
        config, target = self.config.lookup, key_of(key)
        query_id, heard_by = next(self._query_ids), listeners(self._watchers, on_event)
        seeds = self.routing_table.nearest(target, config.k)
        if not seeds:
            reason = "the routing table is empty: connect to a peer that serves the DHT"
            tell(heard_by, QueryError(query_id=query_id, at=0.0, peer=None, reason=reason))
            raise LookupFailure(reason)
        lookup = Lookup(target, seeds, self._key_of, config=config, exclude=self.host.id, stop=stop)
        limit = self.config.max_peers_per_ip_group
        return Query(query_id, key, seeds, lookup, self, heard_by, max_per_group=limit)

    def _tell_shortcut(self, peer: PeerId, on_event: OnEvent | None) -> None:
        heard_by = listeners(self._watchers, on_event)
        if heard_by:
            tell(heard_by, FinalPeer(query_id=next(self._query_ids), at=0.0, peer=peer, distance=0))

    async def _look_up_for_refresh(self, key: bytes) -> None:
        await self.look_up(key)

    def _mark_useful(self, query: Query) -> None:
        """Seeds that answered at most twice as slowly as the quickest were useful (go: recordValuablePeers)."""
        rtts = {peer: query.rtts[peer] for peer in query.seeds if peer in query.rtts}
        for peer, rtt in rtts.items():
            if rtt <= 2 * min(rtts.values()):
                self.routing_table.mark_useful(peer, anyio.current_time())

    # --- what lookups, checks and answers are made of ---------------------------------------------

    @property
    def local_peer(self) -> PeerId:
        """Who we are."""
        return self.host.id

    @property
    def peerstore(self) -> Peerstore:
        """The host's peerstore."""
        return self.host.peerstore

    @property
    def conn_manager(self) -> ConnectionManager:
        """The host's connection manager."""
        return self.host.conn_manager

    def connectedness(self, peer: PeerId) -> Connectedness:
        """Whether we have a connection to `peer`."""
        return self.host.network.connectedness(peer)

    def is_connected(self, peer: PeerId) -> bool:
        """Whether we have a connection to `peer`."""
        return self.connectedness(peer) is Connectedness.CONNECTED

    def connected_peers(self) -> list[PeerId]:
        """The peers we have connections to."""
        return self.host.network.peers()

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """Where `peer` can be dialled; our own addresses for ourselves."""
        return self.host.addrs if peer == self.host.id else self.host.peerstore.addresses(peer)

    def speaks_dht(self, peer: PeerId) -> bool:
        """Whether identify told that `peer` serves our protocol."""
        return self.host.peerstore.first_supported(peer, (self.config.protocol,)) is not None

    async def connect(self, peer: PeerInfo) -> None:
        """Connect the host to a peer. Raises DialError."""
        await self.host.connect(peer)

    async def dial(self, peer: PeerId) -> None:
        """Connect to a peer of a lookup within `dial_timeout`. Raises DialError or OperationTimeout."""
        with anyio.move_on_after(self.config.dial_timeout):
            await self.host.network.dial_peer(peer)
            return
        raise OperationTimeout(f"no connection to {peer} within {self.config.dial_timeout:g} s")

    def take_addresses(self, peer: PeerInfo) -> bool:
        """Remember for two minutes where a stranger says a peer is; what we know of connected peers is better.

        Returns whether the peer can be dialled, or is connected.
        """
        if self.is_connected(peer.peer_id):
            return True
        if peer.addresses:
            self.host.peerstore.add_addresses(peer.peer_id, peer.addresses, TEMPORARY_TTL)
        return bool(self.host.peerstore.addresses(peer.peer_id))

    def answered(self, peer: PeerId) -> None:
        """A peer answered a lookup: it belongs into the table."""
        self._admission.answered(peer)

    def failed(self, peer: PeerId) -> None:
        """A peer failed in a lookup: it leaves the table."""
        self._admission.failed(peer)

    def _groups_of(self, peer: PeerId) -> set[str]:
        """The IP groups of the addresses we are connected to `peer` at, which it cannot invent."""
        connections = self.host.network.conns_to_peer(peer)
        return ip_groups(PeerInfo(peer, tuple(each.info.remote_address for each in connections)))
