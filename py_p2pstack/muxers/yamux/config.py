"""The knobs of yamux."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class YamuxConfig:
    """Bounds of one connection; the figures are go-yamux's unless said otherwise."""

    max_window: int = 16 * 1024 * 1024
    """Bytes to which one stream's receive window may grow, as the application consumes."""
    max_total_growth: int = 32 * 1024 * 1024
    """Bytes by which all receive windows together may grow (ours; rust-libp2p bounds the sum at 1 GiB)."""
    max_buffered: int = 64 * 1024 * 1024
    """Bytes received and not consumed, over all streams; the stream that passes it is reset (ours)."""
    max_inbound_streams: int = 8192
    """Streams the peer may have open; more are reset."""
    max_outbound_streams: int = 16384
    """Streams we may have open (ours)."""
    max_unacknowledged: int = 256
    """Streams of ours the peer has not acknowledged; opening more waits (the specification's accept backlog)."""
    max_frame: int = 64 * 1024
    """Bytes of one data frame we send: what another stream waits at most."""
    max_pending_pongs: int = 32
    """Pings the peer may send before it reads our answers (ours)."""
    max_control: int = 128 * 1024
    """Bytes of control frames that wait to be sent; a peer that opens streams meanwhile is cut off (ours)."""
    max_resets: int = 4096
    """Streams the peer may reset, or have refused, within a burst (ours; against rapid reset, CVE-2023-44487)."""
    resets_per_second: float = 1000.0
    """How fast that allowance comes back (ours)."""
    keepalive_interval: float = 30.0
    """Seconds between two pings, which also measure the round trip."""
    keepalive_timeout: float = 20.0
    """Seconds without an answer to a ping, or anything else from the peer, after which the connection ends."""
    open_timeout: float = 10.0
    """Seconds `open_stream` waits for room in the peer's accept backlog (ours)."""
    close_timeout: float = 60.0
    """Seconds a stream we closed may wait for the peer to close it too, before it is reset (ours; go waits 5 min)."""
