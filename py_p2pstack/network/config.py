"""The knobs of the swarm."""

from __future__ import annotations

from dataclasses import dataclass

from py_p2pstack.core.peerstore import RECENTLY_CONNECTED_TTL


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmConfig:
    """Bounds and times of dialling, listening and streams; the figures are go-libp2p's unless said otherwise."""

    dial_timeout: float = 15.0
    """Seconds for one attempt at one public address, handshakes included."""
    local_dial_timeout: float = 5.0
    """The same for private and loopback addresses."""
    dial_peer_timeout: float = 60.0
    """Seconds for all attempts at one peer together."""
    given_up_after: float = 4.0
    """Seconds of silence after which an attempt that nobody waits for any more counts as a failure of the address:
    else whoever waits less long than `dial_timeout`, as a DHT lookup does, waits in vain again the next time. Ours."""
    max_parallel_dials: int = 160
    """Attempts in flight in the whole swarm: each may cost a file descriptor."""
    max_parallel_dials_per_peer: int = 8
    """Attempts in flight at one peer."""
    max_addresses_per_dial: int = 128
    """Addresses of one peer that one dial considers, the best-ranked first."""
    negotiation_timeout: float = 10.0
    """Seconds in which an inbound or outbound stream must have agreed on a protocol."""
    max_idle_workers: int = 64
    """Finished tasks kept for the next stream, and as many for the next dial or connection; starting a task costs more
    than waking one."""
    close_timeout: float = 1.0
    """Seconds that closing the swarm waits for go-aways to leave before it cuts."""
    forget_after: float = RECENTLY_CONNECTED_TTL
    """Seconds after a peer's last connection until what it told of itself (protocols, key, metadata, latency) is
    forgotten: as long as its addresses live, so that a stream to it costs no round trip more (go-libp2p: a minute)."""
    max_departures: int = 16_384
    """Peers gone that are remembered so; beyond, the longest gone are forgotten at once. Ours."""
    tick_interval: float = 1.0
    """Seconds between two looks at every connection's keepalive and close timeouts, and at who is long gone."""
    trim_interval: float = 10.0
    """Seconds between two looks at the connection manager's watermarks."""
