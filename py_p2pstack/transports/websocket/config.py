"""The knobs of WebSocket."""

from __future__ import annotations

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketConfig:
    """Bounds on a WebSocket's opening, and the certificates of `wss`."""

    max_head: int = 16 * 1024
    """Bytes of an HTTP request or response head, and of what comes right behind it."""
    max_frame: int = 256 * 1024
    """Bytes we put into one frame. Frames of others may have any size: none is ever held."""
    server_tls: ssl.SSLContext | None = None
    """Your certificate chain and key (`ssl.create_default_context(Purpose.CLIENT_AUTH)`, `load_cert_chain`).

    Without it we cannot listen on `/tls/ws` or `/wss`.
    """
    client_tls: ssl.SSLContext | None = None
    """Whose certificates we trust when we dial `/tls/ws` or `/wss`; the system's roots by default."""
