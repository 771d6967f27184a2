"""TCP: `/ip4/…/tcp/N`, `/ip6/…/tcp/N`, and `/ip6zone/Z/ip6/…/tcp/N` for link-local addresses."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError, UnsupportedAddress
from py_p2pstack.transports.sockets import (
    Endpoint,
    SocketConfig,
    SocketConnection,
    SocketListener,
    bind,
    connect,
    tcp_endpoint,
)


class TcpTransport:
    """Dials and listens on TCP. Names (`/dns4/…`) are resolved before an address comes here."""

    name = "tcp"

    def __init__(self, config: SocketConfig | None = None) -> None:
        self._config = config or SocketConfig()

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether it is a plain TCP address, with nothing behind the port, and a port that can be dialled."""
        endpoint = _endpoint(address)
        return endpoint is not None and endpoint.port != 0

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether it is a plain TCP address, with nothing behind the port."""
        return _endpoint(address) is not None

    async def dial(self, address: Multiaddr) -> SocketConnection:
        """Connect. Raises OSError or UnsupportedAddress; the caller bounds the time.

        Cancelling leaves nothing open.
        """
        endpoint = _endpoint(address)
        if endpoint is None or endpoint.port == 0:
            raise UnsupportedAddress(f"not a TCP address to dial: {address}")
        return await connect(endpoint, self._config)

    async def listen(self, address: Multiaddr) -> SocketListener:
        """Bind; port 0 picks a free one, `::` means IPv6 only. Raises ListenError, also for a taken port."""
        endpoint = _endpoint(address)
        if endpoint is None:
            raise ListenError(address, "not a TCP address")
        return bind(endpoint, address, self._config)


def _endpoint(address: Multiaddr) -> Endpoint | None:
    found = tcp_endpoint(address)
    return found[0] if found is not None and not found[1] else None
