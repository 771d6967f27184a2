"""Reads `/ip4|ip6/…/tcp/N/ws`, `…/tls/ws`, `…/tls/sni/<name>/ws` and `…/wss`, each with an `http-path` or without."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.transports.sockets import Endpoint, tcp_endpoint

_SECURE = {("ws",): False, ("wss",): True, ("tls", "ws"): True, ("tls", "sni", "ws"): True}


class WebSocketAddress(NamedTuple):
    """Where a WebSocket is, and how it is asked for."""

    endpoint: Endpoint
    secure: bool
    """Whether TLS lies between TCP and HTTP."""
    name: str
    """The server's name, for its certificate and the `Host` header; the IP address if there is none."""
    path: str
    """Of the HTTP request."""


def websocket_address(address: Multiaddr) -> WebSocketAddress | None:
    """Read an address; None if it is of another kind."""
    found = tcp_endpoint(address)
    if found is None:
        return None
    endpoint, names = found
    path = "/"
    if names[-1:] == ("http-path",):
        names = names[:-1]
        value = address.raw_value("http-path") or b""
        path += quote(unquote(value.decode("utf-8", "replace")).lstrip("/"))
    secure = _SECURE.get(names)
    if secure is None:
        return None
    return WebSocketAddress(endpoint, secure, address.value("sni") or endpoint.host, path)


def with_websocket(tcp: Multiaddr, *, secure: bool) -> Multiaddr:
    """The address of a WebSocket over this TCP address."""
    return tcp.encapsulate("/tls/ws" if secure else "/ws")
