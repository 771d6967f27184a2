"""What is known about peers: addresses, keys, protocols, metadata, latency. All calls are synchronous and in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import Envelope, PeerId, PublicKey

# Lifetimes of addresses in seconds, by where they come from (go-libp2p core/peerstore).
TEMPORARY_TTL = 120.0
RECENTLY_CONNECTED_TTL = 900.0
DISCOVERED_TTL = 600.0
PERMANENT_TTL = float("inf")
CONNECTED_TTL = 1e15  # forever too, but told apart: the disconnect turns it into RECENTLY_CONNECTED_TTL


class AddressBook(Protocol):
    """Addresses by peer, each with a lifetime; bounded (see its config)."""

    def add_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Add, or lengthen the life of, addresses (without their `/p2p` part). Never shortens a life."""
        ...

    def set_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Like add, but the given `ttl` replaces the old one; 0 removes."""
        ...

    def update_ttl(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        """Give all addresses that were added with `old_ttl` the life `new_ttl`, from now."""
        ...

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """The unexpired addresses, best-lived first."""
        ...

    def clear_addresses(self, peer: PeerId) -> None: ...

    def consume_peer_record(self, envelope: Envelope, ttl: float) -> bool:
        """Take in a signed peer record: verified, newer than the one held (by seq). Returns whether it was taken."""
        ...

    def peer_record(self, peer: PeerId) -> Envelope | None: ...


class KeyBook(Protocol):
    def add_public_key(self, peer: PeerId, key: PublicKey) -> None:
        """Raises InvalidKey if the key is not the peer's."""
        ...

    def public_key(self, peer: PeerId) -> PublicKey | None:
        """The key, also when it is inlined in the peer id."""
        ...


class ProtocolBook(Protocol):
    def set_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None: ...

    def add_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None: ...

    def remove_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None: ...

    def protocols(self, peer: PeerId) -> frozenset[ProtocolId]: ...

    def first_supported(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> ProtocolId | None:
        """The first of `protocols` the peer is known to speak."""
        ...


class Metadata(Protocol):
    def put(self, peer: PeerId, key: str, value: object) -> None: ...

    def get(self, peer: PeerId, key: str) -> object | None: ...


class Metrics(Protocol):
    def record_latency(self, peer: PeerId, seconds: float) -> None:
        """Mix a measured round-trip time into the peer's moving average (EWMA, smoothing 0.1)."""
        ...

    def latency(self, peer: PeerId) -> float | None: ...


class Peerstore(AddressBook, KeyBook, ProtocolBook, Metadata, Metrics, Protocol):
    """The whole book."""

    def peers(self) -> list[PeerId]:
        """Every peer anything is known of."""
        ...

    def peer_info(self, peer: PeerId) -> PeerInfo: ...

    def remove_peer(self, peer: PeerId) -> None:
        """Forget keys, protocols, metadata and latency (addresses go by their own TTL)."""
        ...
