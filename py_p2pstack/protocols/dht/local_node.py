"""Our own node as the parts of the DHT see it: the host, the routing table, the line to other peers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anyio

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.host import ConnectionManager
from py_p2pstack.core.peerstore import TEMPORARY_TTL, Peerstore
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import Connectedness, ProtocolId
from py_p2pstack.errors import OperationTimeout
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import IpDiversity, RoutingTable, cached_keys
from py_p2pstack.protocols.dht.admission import Admission
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.messenger import Messenger
from py_p2pstack.protocols.dht.queries import ip_groups

KEY_CACHE = 16384  # peers whose key is remembered: a few lookups' worth, 3 MB


class DhtNetwork(Protocol):
    """What the DHT needs of a host's network."""

    def connectedness(self, peer: PeerId) -> Connectedness: ...

    def peers(self) -> list[PeerId]: ...

    def conns_to_peer(self, peer: PeerId) -> Sequence[Connection]: ...

    def interface_listen_addresses(self) -> list[Multiaddr]: ...

    async def dial_peer(self, peer: PeerId) -> Connection: ...


class DhtHost(Protocol):
    """What the DHT needs of a host."""

    @property
    def id(self) -> PeerId: ...

    @property
    def addrs(self) -> list[Multiaddr]: ...

    @property
    def network(self) -> DhtNetwork: ...

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


class LocalNode:
    """What lookups, checks, refreshes and answers are made of."""

    admission: Admission
    """Who enters the table; set when the DHT is entered."""

    def __init__(self, host: DhtHost, config: DhtConfig) -> None:
        self.host = host
        self.config = config
        self.key_of = cached_keys(PeerId.to_bytes, KEY_CACHE)
        """The key of a peer, remembered."""
        self.table: RoutingTable[PeerId] = RoutingTable(
            self.key_of(host.id),
            self.key_of,
            bucket_size=config.lookup.k,
            replacements=config.lookup.k,
            diversity=IpDiversity(
                self.groups_of,
                max_per_cpl=config.max_peers_per_ip_group_and_cpl,
                max_per_table=config.max_peers_per_ip_group,
            ),
        )
        self.messenger = Messenger(host, config)

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
        """Where `peer` can be dialled, as far as we tell others; our own addresses for ourselves."""
        return self.filtered(self.host.addrs if peer == self.host.id else self.host.peerstore.addresses(peer))

    def filtered(self, addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
        """Those that the config's address filter lets pass."""
        wanted = self.config.address_filter
        return list(addresses) if wanted is None else [address for address in addresses if wanted(address)]

    def speaks_dht(self, peer: PeerId) -> bool:
        """Whether identify told that `peer` serves our protocol."""
        return self.host.peerstore.first_supported(peer, (self.config.protocol,)) is not None

    def belongs_in_table(self, peer: PeerId) -> bool:
        """Whether `peer` serves our protocol, and the config's table filter lets it pass."""
        wanted = self.config.table_filter
        return self.speaks_dht(peer) and (wanted is None or wanted(self._connected_at(peer)))

    def admits(self, peer: PeerInfo) -> bool:
        """Whether the config's query filter lets a peer take part in lookups."""
        return self.config.query_filter is None or self.config.query_filter(peer)

    async def connect(self, peer: PeerInfo) -> None:
        """Connect the host to a peer. Raises DialError."""
        await self.host.connect(peer)

    async def dial(self, peer: PeerId) -> None:
        """Connect to a peer of a lookup within `dial_timeout`. Raises DialError or OperationTimeout."""
        with anyio.move_on_after(self.config.dial_timeout):
            await self.host.network.dial_peer(peer)
            return
        raise OperationTimeout(f"no connection to {peer} within {self.config.dial_timeout:g} s")

    async def request(self, peer: PeerId, message: Message) -> Message:
        """Ask one peer of a lookup; see `Messenger.request`."""
        with self.admission.awaited(peer):
            return await self.messenger.request(peer, message)

    async def find_node(self, peer: PeerId, key: bytes) -> list[PeerInfo]:
        """Ask one peer whom it knows nearest to `key`; its answer as it came, at most 2k peers."""
        answer = await self.messenger.request(peer, Message(type=MessageType.FIND_NODE, key=key))
        return [each.info for each in answer.closer_peers]

    def take_addresses(self, peer: PeerInfo) -> bool:
        """Remember for two minutes where a stranger says a peer is; what we know of connected peers is better.

        Returns whether the peer can be dialled, or is connected.
        """
        if self.is_connected(peer.peer_id):
            return True
        addresses = self.filtered(peer.addresses)
        if addresses:
            self.host.peerstore.add_addresses(peer.peer_id, addresses, TEMPORARY_TTL)
        return bool(self.host.peerstore.addresses(peer.peer_id))

    def answered(self, peer: PeerId) -> None:
        """A peer answered a lookup: it belongs into the table, unless the filter is against it."""
        wanted = self.config.table_filter
        if wanted is None or wanted(self._connected_at(peer)):
            self.admission.answered(peer)

    def failed(self, peer: PeerId) -> None:
        """A peer failed in a lookup: it leaves the table."""
        self.admission.failed(peer)

    def groups_of(self, peer: PeerId) -> frozenset[str]:
        """The IP groups of the addresses we are connected to `peer` at, which it cannot invent."""
        return ip_groups(self._connected_at(peer))

    def _connected_at(self, peer: PeerId) -> PeerInfo:
        connections = self.host.network.conns_to_peer(peer)
        return PeerInfo(peer, tuple(each.info.remote_address for each in connections))
