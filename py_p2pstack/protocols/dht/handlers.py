"""What a DHT server answers without waiting: a pure function of the request, the routing table and the address book.

What needs a store is answered elsewhere, with `closer_peers` of these handlers in the answer.
"""

from __future__ import annotations

from typing import Protocol

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import InvalidPeerId, RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import RoutingTable, key_of
from py_p2pstack.protocols.dht.codec import ConnectionType, KadPeer, Message, MessageType

TOLD_FOR = 5.0  # seconds; what an answer says of others is no fresher when they are looked up anew for each


class Neighbourhood(Protocol):
    """What the answers are made of, besides the routing table."""

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """Where `peer` can be dialled; our own addresses for ourselves."""
        ...

    def connectedness(self, peer: PeerId) -> Connectedness: ...


class Handlers:
    """Answers requests. `now` and the sender come with each; nothing here waits."""

    __slots__ = ("_before", "_k", "_neighbourhood", "_recent", "_recent_until", "_table")

    def __init__(self, local: PeerId, table: RoutingTable[PeerId], neighbourhood: Neighbourhood, *, k: int) -> None:
        self._table = table
        self._neighbourhood = neighbourhood
        self._k = k
        self._recent: dict[PeerId, tuple[KadPeer, ...]] = {}  # no more than the table has in TOLD_FOR
        self._before = self._recent
        self._recent_until = 0.0

    def answer(self, request: Message, sender: PeerId, now: float) -> Message | None:
        """The answer to a request; None if none is due.

        Raises RemoteProtocolError for what is not served here, and for a FIND_NODE without a key.
        """
        if request.type is MessageType.FIND_NODE:
            return self._find_node(request, sender, now)
        if request.type is MessageType.PING:
            return Message(type=MessageType.PING, key=request.key, cluster_level=request.cluster_level)
        raise RemoteProtocolError(f"{request.type.name} is not served here")

    def _find_node(self, request: Message, sender: PeerId, now: float) -> Message:
        """The k nearest of the table, neither us nor the sender among them.

        But whom the key names exactly comes first if its addresses are known, even if it is us, the sender or no
        server at all: that is how peers outside of routing tables are found (libp2p/specs kad-dht, FIND_NODE).
        """
        if not request.key:
            raise RemoteProtocolError("FIND_NODE without a key")
        told = self.closer_peers(request.key, sender, now)
        target = _peer_named(request.key)
        if target is not None:
            if told and told[0].info.peer_id == target:  # at distance 0 nobody is nearer
                told = told[1:]
            told = (*self._with_addresses(self._tell(target)), *told)
        return Message(type=MessageType.FIND_NODE, closer_peers=told, cluster_level=request.cluster_level)

    def closer_peers(self, key: bytes, sender: PeerId, now: float) -> tuple[KadPeer, ...]:
        """The k nearest to `key` of the table, neither us nor the sender among them, as an answer tells them.

        What was told of a peer within the last TOLD_FOR seconds is told again; if it is still so then, in the bytes of
        before.
        """
        if now >= self._recent_until:
            self._before, self._recent = self._recent, {}
            self._recent_until = now + TOLD_FOR
        told: list[KadPeer] = []
        for peer in self._table.nearest(key_of(key), self._k, without=sender):  # we are never in our own table
            known = self._recent.get(peer)
            if known is None:
                known = self._with_addresses(self._tell(peer))
                before = self._before.get(peer)
                self._recent[peer] = known = before if before == known else known
            told += known
        return tuple(told)

    def _tell(self, peer: PeerId) -> KadPeer:
        connected = self._neighbourhood.connectedness(peer) is Connectedness.CONNECTED
        info = PeerInfo(peer, tuple(self._neighbourhood.addresses(peer)))
        return KadPeer(info, ConnectionType.CONNECTED if connected else ConnectionType.NOT_CONNECTED)

    def _with_addresses(self, peer: KadPeer) -> tuple[KadPeer, ...]:
        """The peer, or nobody if there is no way to reach it."""
        return (peer,) if peer.info.addresses else ()


def _peer_named(key: bytes) -> PeerId | None:
    """The peer whose id the key is, if it is one."""
    try:
        return PeerId(key)
    except InvalidPeerId:
        return None
