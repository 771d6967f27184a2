"""The knobs of QUIC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QuicConfig:
    """Bounds and times of connections; the figures are ours unless said otherwise."""

    handshake_timeout: float = 10.0
    """Seconds in which a connection must be secured."""
    max_pending_inbound: int = 256
    """Inbound connections in their handshake at once on one listener; the first packets of further ones are dropped."""
    retry_above: int = 64
    """Inbound handshakes above which newcomers must prove their address first, which costs them a round trip."""
    max_handshake: int = 32 * 1024
    """Bytes a peer may send before it is secured; three times what the longest handshake takes, some of it twice."""
    connection_window: int = 4 * 1024 * 1024
    """Bytes that may be on their way to us, over all streams of a connection."""
    stream_window: int = 256 * 1024
    """Bytes that may be on their way to one stream's reader at first; grows as the application consumes."""
    max_stream_window: int = 4 * 1024 * 1024
    """Bytes to which that may grow."""
    max_unread: int = 2 * 1024 * 1024
    """Bytes received and not consumed, over all streams, above which nothing more is taken from the connection."""
    max_inbound_streams: int = 1024
    """Streams the peer may have open (go: 256)."""
    max_resets: int = 4096
    """Streams the peer may reset, or have refused, within a burst (against rapid reset, CVE-2023-44487)."""
    resets_per_second: float = 1000.0
    """How fast that allowance comes back."""
    open_timeout: float = 10.0
    """Seconds `open_stream` waits until the peer allows another stream."""
    idle_timeout: float = 30.0
    """Seconds without a word from the peer after which the connection ends (go)."""
    keepalive_interval: float = 10.0
    """Seconds of silence after which the peer is asked for a word."""
    flush_timeout: float = 1.0
    """Seconds that closing waits until the peer has what was sent before."""
