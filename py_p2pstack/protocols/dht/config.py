"""The knobs of the DHT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.kademlia import LookupConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtConfig:
    """Everything about a DHT that may differ between networks and nodes; times in seconds, sizes in bytes."""

    prefix: str = "/p2pstack"
    """Which network: the protocol is the prefix + `/kad/1.0.0` (`/ipfs` is the public one)."""
    mode: Literal["client", "server"] = "server"
    """A server answers and is in others' tables; a client only asks."""
    bootstrap_peers: tuple[PeerInfo, ...] = ()
    """Whom to connect to when the routing table is empty."""

    lookup: LookupConfig = field(default_factory=LookupConfig)
    """k = 20, α = 10, β = 3 as in go-libp2p-kad-dht."""
    lookup_timeout: float = 60.0
    """For a whole lookup (rust-libp2p: query timeout)."""
    dial_timeout: float = 10.0
    """For reaching one peer in a lookup."""
    request_timeout: float = 10.0
    """For one answer (go-libp2p-kad-dht: dhtReadMessageTimeout)."""

    max_message_size: int = 4 * 1024 * 1024
    """The largest answer we read (go-libp2p: MessageSizeMax)."""
    max_request_size: int = 64 * 1024
    """The largest request we read. (go takes 4 MiB here too; but strangers may leave one unfinished on each stream.)"""
    max_client_streams: int = 512
    """Peers we keep a stream to; the one unused for longest is closed for the next."""
    max_inbound_streams: int = 1024
    """Streams served at once."""
    max_inbound_streams_per_peer: int = 16
    """Streams served at once for one peer."""
    idle_timeout: float = 60.0
    """For the next request on a stream, and for taking our answer (go-libp2p-kad-dht: dhtStreamIdleTimeout)."""

    max_checks: int = 256
    """Peers checked at once for a place in the table (go-libp2p-kad-dht: LookupCheckConcurrency)."""
    check_timeout: float = 10.0
    """For such a check, and for the liveness check of a silent peer."""
    max_peers_per_ip_group_and_cpl: int = 2
    """Public peers of one IP group among those that share a prefix length; private addresses are not limited."""
    max_peers_per_ip_group: int = 3
    """Public peers of one IP group in the table, and in one answer."""

    auto_refresh: bool = True
    """Whether to refresh at the start, periodically, and when the table runs low."""
    refresh_interval: float = 600.0
    """Between two refreshes, of the table and of one prefix length."""
    refresh_query_timeout: float = 10.0
    """For one lookup of a refresh."""
    silence_limit: float = 2580.0
    """After which a peer in the table is asked whether it lives: 43 min (go-libp2p-kad-dht, for k = 20 and α = 10)."""
    low_peers: int = 10
    """A table of at most so many peers is repaired."""
    repair_interval: float = 120.0
    """Between two looks whether it is (go-libp2p-kad-dht: periodicBootstrapInterval)."""

    def __post_init__(self) -> None:
        if self.mode not in ("client", "server"):
            raise ValueError(f"no such mode: {self.mode!r}")
        if not self.prefix.startswith("/"):
            raise ValueError(f"a protocol prefix begins with a slash: {self.prefix!r}")

    @property
    def protocol(self) -> ProtocolId:
        """The protocol id spoken."""
        return f"{self.prefix}/kad/1.0.0"
