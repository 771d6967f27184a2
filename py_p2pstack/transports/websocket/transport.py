"""Dials and listens for WebSockets over TCP."""

from __future__ import annotations

import ssl

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import RawConnection, RawListener
from py_p2pstack.errors import ListenError, UnsupportedAddress
from py_p2pstack.transports.sockets import SocketConfig, bind, connect
from py_p2pstack.transports.websocket.address import websocket_address, with_websocket
from py_p2pstack.transports.websocket.codec import Mask
from py_p2pstack.transports.websocket.config import WebSocketConfig
from py_p2pstack.transports.websocket.connection import WebSocketConnection
from py_p2pstack.transports.websocket.machine import ClientOpening, ServerOpening, require
from py_p2pstack.transports.websocket.web_tls import WebTlsConnection


class WebSocketTransport:
    """Implements `core.transport.RawTransport`. Names are resolved before an address comes here."""

    name = "ws"

    def __init__(self, config: WebSocketConfig | None = None, sockets: SocketConfig | None = None) -> None:
        self._config = config or WebSocketConfig()
        self._sockets = sockets or SocketConfig()
        self._client_tls = self._config.client_tls

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether it is a WebSocket address with a port that can be dialled."""
        found = websocket_address(address)
        return found is not None and found.endpoint.port != 0

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether it is a WebSocket address."""
        return websocket_address(address) is not None

    async def dial(self, address: Multiaddr) -> RawConnection:
        """Connect; the WebSocket is opened when the connection is first waited for. Raises OSError, UnsupportedAddress.

        Cancelling leaves nothing open.
        """
        found = websocket_address(address)
        if found is None or found.endpoint.port == 0:
            raise UnsupportedAddress(f"not a WebSocket address to dial: {address}")
        mask = require()
        config, endpoint = self._config, found.endpoint
        opening = ClientOpening(found.name, endpoint.port, found.path, secure=found.secure, max_head=config.max_head)
        sock = await connect(endpoint, self._sockets)
        local, remote = (with_websocket(end, secure=found.secure) for end in (sock.local_address, sock.remote_address))
        raw: RawConnection = sock
        if found.secure:
            raw = WebTlsConnection(sock, self._trust(), found.name)
        return WebSocketConnection(
            raw, opening, mask, local=local, remote=remote, client=True, max_frame=config.max_frame
        )

    def _trust(self) -> ssl.SSLContext:
        """Made at the first need: reading the system's roots takes milliseconds."""
        if self._client_tls is None:
            self._client_tls = ssl.create_default_context()
        return self._client_tls

    async def listen(self, address: Multiaddr) -> RawListener:
        """Bind; port 0 picks a free one. Raises ListenError, also without a certificate for a secure address."""
        found = websocket_address(address)
        if found is None:
            raise ListenError(address, "not a WebSocket address")
        try:
            mask = require()
        except UnsupportedAddress as missing:
            raise ListenError(address, str(missing)) from None
        if found.secure and self._config.server_tls is None:
            raise ListenError(address, "no certificate: WebSocketConfig(server_tls=…) brings one")
        return WebSocketListener(bind(found.endpoint, address, self._sockets), self._config, mask, secure=found.secure)


class WebSocketListener:
    """Implements `core.transport.RawListener`; each WebSocket is opened by whoever takes it, not here."""

    def __init__(self, raw: RawListener, config: WebSocketConfig, mask: Mask, *, secure: bool) -> None:
        self._raw = raw
        self._config = config
        self._mask = mask
        self._secure = secure
        self.address = with_websocket(raw.address, secure=secure)
        """Where it listens."""

    def __repr__(self) -> str:
        return f"<WebSocketListener {self.address}>"

    async def accept(self) -> RawConnection:
        """See `RawListener.accept`."""
        sock = await self._raw.accept()
        local, remote = (with_websocket(end, secure=self._secure) for end in (sock.local_address, sock.remote_address))
        raw = sock
        if self._secure:
            assert self._config.server_tls is not None
            raw = WebTlsConnection(sock, self._config.server_tls, None)
        opening = ServerOpening(max_head=self._config.max_head)
        return WebSocketConnection(
            raw, opening, self._mask, local=local, remote=remote, client=False, max_frame=self._config.max_frame
        )

    def close(self) -> None:
        """See `RawListener.close`."""
        self._raw.close()
