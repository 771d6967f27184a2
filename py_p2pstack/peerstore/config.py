"""The bounds of the peerstore."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerstoreConfig:
    """How much is remembered. The first three figures are go-libp2p's; it leaves the others open."""

    max_unconnected_addresses: int = 1_000_000
    """Addresses in all, but for those of live connections, which other limits bound."""
    max_addresses_per_peer: int = 64
    """Addresses of one peer, those of live connections included."""
    max_signed_records: int = 100_000
    """Peers with a signed record."""
    max_signed_record_size: int = 8192
    """Bytes of one signed record."""
    max_signed_record_bytes: int = 64 << 20
    """Bytes of all signed records together."""
    max_keys: int = 65_536
    """Peers with a key."""
    max_protocols_per_peer: int = 128
    """Protocols of one peer (go-libp2p: maxProtos); the first ones told are kept."""
    max_protocol_length: int = 256
    """Characters of a protocol id; longer ones are not remembered."""
    max_protocol_peers: int = 65_536
    """Peers with protocols."""
    max_protocol_characters: int = 32 << 20
    """Characters of all protocol ids together."""
    max_metadata_per_peer: int = 64
    """Values of one peer."""
    max_metadata_value: int = 4096
    """Characters or bytes of a value that is text or bytes, and of a key."""
    max_metadata_peers: int = 65_536
    """Peers with values."""
    max_metadata_size: int = 64 << 20
    """Characters and bytes of all values together; other objects count as 64."""
    max_latencies: int = 65_536
    """Peers with a latency."""
    collected_per_call: int = 64
    """Expired addresses cleared away with each change of the address book, at most."""
