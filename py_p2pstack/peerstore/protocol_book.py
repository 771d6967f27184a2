"""Which protocols each peer speaks, as identify told or negotiation showed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from sys import intern

from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import PeerId
from py_p2pstack.peerstore.peer_map import PeerMap

_NONE: frozenset[ProtocolId] = frozenset()


class ProtocolBook:
    """Implements `core.peerstore.ProtocolBook`.

    What passes the bounds is left out, not refused: it only costs a round trip later.
    """

    __slots__ = ("_max_length", "_max_per_peer", "_protocols")

    def __init__(self, protocols: PeerMap[frozenset[ProtocolId]], *, max_per_peer: int, max_length: int) -> None:
        self._protocols = protocols
        self._max_per_peer = max_per_peer
        self._max_length = max_length

    def set_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Replace what the peer speaks."""
        self._put(peer, protocols)

    def add_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Add to what the peer speaks."""
        known = self.protocols(peer)
        new = [protocol for protocol in protocols if protocol not in known]
        if new:
            self._put(peer, (*known, *new))

    def remove_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Take away from what the peer speaks."""
        known = self.protocols(peer)
        rest = known.difference(protocols)
        if len(rest) != len(known):
            self._put(peer, rest)

    def protocols(self, peer: PeerId) -> frozenset[ProtocolId]:
        """What the peer is known to speak."""
        return self._protocols.get(peer) or _NONE

    def first_supported(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> ProtocolId | None:
        """The first of `protocols` the peer is known to speak."""
        known = self._protocols.get(peer)
        if known is not None:
            for protocol in protocols:
                if protocol in known:
                    return protocol
        return None

    def peers(self) -> list[PeerId]:
        """The peers with a known protocol."""
        return list(self._protocols)

    def remove_peer(self, peer: PeerId) -> None:
        """Forget what the peer speaks."""
        self._protocols.pop(peer)

    def _put(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        kept: set[ProtocolId] = set()
        weight = 0
        for protocol in protocols:
            if len(kept) == self._max_per_peer:
                break
            if len(protocol) <= self._max_length and protocol not in kept:
                kept.add(intern(protocol))  # thousands of peers speak the same few
                weight += len(protocol)
        if kept:
            self._protocols.put(peer, frozenset(kept), weight)
        else:
            self._protocols.pop(peer)
