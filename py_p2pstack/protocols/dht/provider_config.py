"""The knobs of providing."""

from __future__ import annotations

from dataclasses import dataclass

from py_p2pstack.protocols.dht.optimistic import OptimisticConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderConfig:
    """How content is provided and found; times in seconds."""

    max_found: int = 1000
    """Providers given out by one search, however many are asked for."""
    found_ttl: float = 24 * 3600.0
    """For which the addresses of providers that a search found are kept (go-libp2p-kad-dht: ProviderAddrTTL)."""
    optimistic: OptimisticConfig | None = None
    """How to provide before the lookup has ended; None waits for the whole lookup and for every store. It needs an
    estimate of the network's size, and does as without while there is none (go-libp2p-kad-dht: off by default too)."""

    max_age: float = 48 * 3600.0
    """For which we tell of a provider after it told us (go-libp2p-kad-dht: ProvideValidity)."""
    address_age: float = 24 * 3600.0
    """For which we tell its addresses (go-libp2p-kad-dht: ProviderAddrTTL)."""
    max_keys: int = 100_000
    """Keys whose providers we keep."""
    max_providers_per_key: int = 256
    """Providers we keep of one key: about as many as fit into an answer."""
    gc_interval: float = 3600.0
    """Between two removals of what is too old (go-libp2p-kad-dht: defaultCleanupInterval)."""

    max_own_keys: int = 1_000_000
    """Keys we provide ourselves."""
    reprovide_interval: float = 22 * 3600.0
    """Between two times a key of ours is provided (go-libp2p-kad-dht: DefaultReprovideInterval); 0: never again."""
    sweep_steps: int = 32
    """Into how many parts the key space is divided at least: so evenly is the work spread over the interval."""
    sweep_retry: float = 300.0
    """After which keys that could not be provided are tried again (go-libp2p-kad-dht provider: retryInterval)."""
    sweep_page: int = 1000
    """Keys read, and sent, at once."""
    sweep_peers: int = 16
    """Peers told at once."""
    max_region_lookups: int = 64
    """Lookups in one region (go-libp2p-kad-dht provider: maxExplorationPrefixSearches)."""

    def __post_init__(self) -> None:
        if min(self.sweep_steps, self.sweep_page, self.sweep_peers, self.max_region_lookups, self.max_found) < 1:
            raise ValueError("sweep_steps, sweep_page, sweep_peers, max_region_lookups and max_found begin at 1")
