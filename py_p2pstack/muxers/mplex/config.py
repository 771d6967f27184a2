"""The knobs of mplex."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MESSAGE = 1024 * 1024  # fixed by the specification


@dataclass(frozen=True, slots=True, kw_only=True)
class MplexConfig:
    """Bounds of one connection; all are ours unless said otherwise."""

    max_unread: int = 256 * 1024
    """Bytes one stream may hold unread; above it nothing more is received on the connection."""
    stall_timeout: float = 5.0
    """Seconds after which a stream that holds up its connection is reset (go-mplex's)."""
    max_buffered: int = 16 * 1024 * 1024
    """Bytes received and not consumed, over all streams; the stream that passes it is reset."""
    max_inbound_streams: int = 2048
    """Streams the peer may have open; more are reset."""
    max_outbound_streams: int = 2048
    """Streams we may have open; opening more waits."""
    max_frame: int = 64 * 1024
    """Bytes of one message we send: what another stream waits at most."""
    max_control: int = 128 * 1024
    """Bytes of resets that wait to be sent; a peer that opens streams meanwhile is cut off."""
    max_resets: int = 4096
    """Streams the peer may reset, or have refused, within a burst (against rapid reset, CVE-2023-44487)."""
    resets_per_second: float = 1000.0
    """How fast that allowance comes back."""
    open_timeout: float = 10.0
    """Seconds `open_stream` waits for one of `max_outbound_streams`."""
    close_timeout: float = 60.0
    """Seconds a stream we closed may wait for the peer to close it too, before it is reset."""
