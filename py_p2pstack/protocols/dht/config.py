"""The knobs of the DHT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.kademlia import LookupConfig
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.protocols.dht.security_config import SecurityConfig
from py_p2pstack.protocols.dht.validators import Validator, default_validators, public_validators

PUBLIC_PREFIX = "/ipfs"  # the Amino network
FRAME = 4096  # bytes of a PUT_VALUE besides the value: its key, twice


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtConfig:
    """Everything about a DHT that may differ between networks and nodes; times in seconds, sizes in bytes."""

    prefix: str = "/p2pstack"
    """Which network: the protocol is the prefix + `/kad/1.0.0` (`/ipfs` is the public one)."""
    mode: Literal["client", "server", "auto", "auto-server"] = "server"
    """A server answers and is in others' tables; a client only asks. `auto` serves while others can dial us (see
    `modes`), `auto-server` unless they cannot."""
    bootstrap_peers: tuple[PeerInfo, ...] = ()
    """Whom to connect to when the routing table is empty."""

    query_filter: Callable[[PeerInfo], bool] | None = None
    """Which peers that others tell of take part in lookups (whom a lookup is for always does); by default all."""
    table_filter: Callable[[PeerInfo], bool] | None = None
    """Which servers may enter the routing table; it is given the addresses we are connected to them at."""
    address_filter: Callable[[Multiaddr], bool] | None = None
    """Which addresses of peers are taken from what others tell, and told to others; by default all."""

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
    max_request_size: int = 80 * 1024
    """The largest request we read. (go takes 4 MiB here too; but strangers may leave one unfinished on each stream.)"""
    max_value_size: int = 64 * 1024
    """The largest value put and kept. Above about 14 KiB it is not for networks with rust-libp2p, which reads messages
    of 16 KiB: its nodes will refuse it, and those near the key that run other implementations keep it."""
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

    enable_values: bool = True
    """Whether values are put, got, and kept for others."""
    validator: Validator | None = None
    """Which values are valid, and which is better. By default `public_validators()` on `/ipfs`, else
    `default_validators()`, which let anybody put anything under `/v/`."""
    put_timeout: float = 30.0
    """For one peer to confirm a value (go-libp2p-kad-dht: putOperationTimeout)."""
    max_corrections: int = 16
    """Searches that correct peers at once in the background; the others leave them as they are."""
    max_value_age: float = 48 * 3600.0
    """For which a value is kept after it was put (go-libp2p-kad-dht: DefaultMaxRecordAge)."""
    max_values: int = 100_000
    """Values kept for others, and as many of our own."""
    max_values_size: int = 1024 * 1024 * 1024
    """All of the values kept for others, and as much of our own."""
    value_gc_interval: float = 24 * 3600.0
    """Between two removals of what is too old (it is never told anyway)."""
    republish_interval: float = 22 * 3600.0
    """After which a value of ours is put again (rust-libp2p: publication interval)…"""
    republish_spread: float = 2 * 3600.0
    """…or at random up to so much later."""
    republish_check: float = 900.0
    """Between two looks whether something is due."""
    max_republishing: int = 4
    """Values put again at once."""

    enable_providers: bool = True
    """Whether content is provided and its providers found, and kept for others."""
    providers: ProviderConfig = field(default_factory=ProviderConfig)
    """How."""

    security: SecurityConfig = field(default_factory=SecurityConfig)
    """What protects lookups against peers that lie or crowd around a key."""

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
        if self.mode not in ("client", "server", "auto", "auto-server"):
            raise ValueError(f"no such mode: {self.mode!r}")
        if self.security.disjoint_paths > self.lookup.alpha:
            raise ValueError("more disjoint paths than requests at once")
        if not self.prefix.startswith("/"):
            raise ValueError(f"a protocol prefix begins with a slash: {self.prefix!r}")
        if self.max_request_size < self.max_value_size + FRAME:
            raise ValueError(f"a request of {self.max_request_size} bytes has no room for a value")

    @property
    def protocol(self) -> ProtocolId:
        """The protocol id spoken."""
        return f"{self.prefix}/kad/1.0.0"

    @property
    def rules(self) -> Validator:
        """The validator in force."""
        if self.validator is not None:
            return self.validator
        return public_validators() if self.prefix == PUBLIC_PREFIX else default_validators()
