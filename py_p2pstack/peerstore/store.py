"""The whole book: every part of the peerstore under one roof."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.identity import Envelope, PeerId, PublicKey
from py_p2pstack.peerstore.address_book import AddressBook
from py_p2pstack.peerstore.config import PeerstoreConfig
from py_p2pstack.peerstore.key_book import KeyBook
from py_p2pstack.peerstore.metadata import Metadata
from py_p2pstack.peerstore.metrics import Metrics
from py_p2pstack.peerstore.peer_map import PeerMap
from py_p2pstack.peerstore.protocol_book import ProtocolBook


class MemoryPeerstore:
    """Implements `core.peerstore.Peerstore` in memory, within the bounds of its config."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, config: PeerstoreConfig | None = None) -> None:
        """`clock` tells monotonic time in seconds."""
        config = config or PeerstoreConfig()
        self._addresses = AddressBook(config, clock)
        spare = self._addresses.is_connected
        self._keys = KeyBook(PeerMap(config.max_keys, spare=spare))
        self._protocols = ProtocolBook(
            PeerMap(config.max_protocol_peers, config.max_protocol_characters, spare=spare),
            max_per_peer=config.max_protocols_per_peer,
            max_length=config.max_protocol_length,
        )
        self._metadata = Metadata(
            PeerMap(config.max_metadata_peers, config.max_metadata_size, spare=spare),
            max_per_peer=config.max_metadata_per_peer,
            max_value=config.max_metadata_value,
        )
        self._metrics = Metrics(PeerMap(config.max_latencies, spare=spare))

    def __repr__(self) -> str:
        return f"<MemoryPeerstore {len(self.peers())} peers>"

    # --- the whole ----------------------------------------------------------------------------------

    def peers(self) -> list[PeerId]:
        """Every peer anything is known of."""
        books = (self._addresses, self._keys, self._protocols, self._metadata, self._metrics)
        return list(dict.fromkeys(peer for book in books for peer in book.peers()))

    def peer_info(self, peer: PeerId) -> PeerInfo:
        """The peer with its unexpired addresses."""
        return PeerInfo(peer, tuple(self._addresses.addresses(peer)))

    def remove_peer(self, peer: PeerId) -> None:
        """Forget keys, protocols, metadata and latency (addresses go by their own TTL)."""
        for book in (self._keys, self._protocols, self._metadata, self._metrics):
            book.remove_peer(peer)

    def collect(self, now: float, limit: int | None = None) -> int:
        """Clear away a bounded number of expired addresses; every change does some of it by the way."""
        return self._addresses.collect(now, limit)

    # --- addresses ----------------------------------------------------------------------------------

    def add_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Add, or lengthen the life of, addresses; see `AddressBook.add_addresses`."""
        self._addresses.add_addresses(peer, addresses, ttl)

    def set_addresses(self, peer: PeerId, addresses: Iterable[Multiaddr], ttl: float) -> None:
        """Like add, but the given `ttl` replaces the old one; 0 removes."""
        self._addresses.set_addresses(peer, addresses, ttl)

    def update_ttl(self, peer: PeerId, old_ttl: float, new_ttl: float) -> None:
        """Give all addresses that were added with `old_ttl` the life `new_ttl`, from now; 0 removes them."""
        self._addresses.update_ttl(peer, old_ttl, new_ttl)

    def addresses(self, peer: PeerId) -> list[Multiaddr]:
        """The unexpired addresses, best-lived first."""
        return self._addresses.addresses(peer)

    def clear_addresses(self, peer: PeerId) -> None:
        """Forget the peer's addresses and its signed record."""
        self._addresses.clear_addresses(peer)

    def consume_peer_record(self, envelope: Envelope, ttl: float) -> bool:
        """Take in a signed peer record; see `AddressBook.consume_peer_record`."""
        return self._addresses.consume_peer_record(envelope, ttl)

    def peer_record(self, peer: PeerId) -> Envelope | None:
        """The newest signed record."""
        return self._addresses.peer_record(peer)

    # --- keys ---------------------------------------------------------------------------------------

    def add_public_key(self, peer: PeerId, key: PublicKey) -> None:
        """Remember the key. Raises InvalidKey if it is not the peer's."""
        self._keys.add_public_key(peer, key)

    def public_key(self, peer: PeerId) -> PublicKey | None:
        """The key, also when it is inlined in the peer id."""
        return self._keys.public_key(peer)

    # --- protocols ----------------------------------------------------------------------------------

    def set_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Replace what the peer speaks."""
        self._protocols.set_protocols(peer, protocols)

    def add_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Add to what the peer speaks."""
        self._protocols.add_protocols(peer, protocols)

    def remove_protocols(self, peer: PeerId, protocols: Iterable[ProtocolId]) -> None:
        """Take away from what the peer speaks."""
        self._protocols.remove_protocols(peer, protocols)

    def protocols(self, peer: PeerId) -> frozenset[ProtocolId]:
        """What the peer is known to speak."""
        return self._protocols.protocols(peer)

    def first_supported(self, peer: PeerId, protocols: Sequence[ProtocolId]) -> ProtocolId | None:
        """The first of `protocols` the peer is known to speak."""
        return self._protocols.first_supported(peer, protocols)

    # --- metadata and metrics -----------------------------------------------------------------------

    def put(self, peer: PeerId, key: str, value: object) -> None:
        """Set a value. Raises ResourceLimitExceeded: too long a key or value, or too many of one peer."""
        self._metadata.put(peer, key, value)

    def get(self, peer: PeerId, key: str) -> object | None:
        """The value under `key`; None if there is none."""
        return self._metadata.get(peer, key)

    def record_latency(self, peer: PeerId, seconds: float) -> None:
        """Mix a measured round-trip time into the peer's moving average (EWMA, smoothing 0.1)."""
        self._metrics.record_latency(peer, seconds)

    def latency(self, peer: PeerId) -> float | None:
        """The average round-trip time in seconds; None if nothing was measured."""
        return self._metrics.latency(peer)
