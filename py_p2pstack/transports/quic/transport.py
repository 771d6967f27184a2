"""Dials and listens for QUIC connections. Nothing of qh3 is loaded before the first of either."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, TypeAlias

import anyio.lowlevel

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import ListenError, UnsupportedAddress
from py_p2pstack.identity import PeerId
from py_p2pstack.transports.quic.address import quic_endpoint
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.identity import MakeIdentity
from py_p2pstack.transports.sockets import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from py_p2pstack.transports.quic.connection import QuicConnection
    from py_p2pstack.transports.quic.credentials import Credentials
    from py_p2pstack.transports.quic.endpoint import QuicEndpoint
    from py_p2pstack.transports.quic.listener import QuicListener
    from py_p2pstack.transports.quic.sockets import DatagramSocket

Bind: TypeAlias = "Callable[[Endpoint, Multiaddr], DatagramSocket]"
_MISSING = 'QUIC needs an extra: pip install "py-p2pstack[quic]"'


class QuicTransport:
    """Implements `core.transport.Transport`. A dial leaves from a port we listen on, where one fits."""

    def __init__(self, make_identity: MakeIdentity, config: QuicConfig | None = None, bind: Bind | None = None) -> None:
        """`bind` makes the sockets: UDP's by default, others in simulations."""
        self._make_identity = make_identity
        self._bind = bind
        self._config = config or QuicConfig()
        self._made: Credentials | None = None
        self._endpoints: dict[Endpoint, QuicEndpoint] = {}

    def __repr__(self) -> str:
        return f"<QuicTransport {len(self._endpoints)} sockets>"

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether it is a QUIC address with a port that can be dialled."""
        endpoint = quic_endpoint(address)
        return endpoint is not None and endpoint.port != 0

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether it is a QUIC address."""
        return quic_endpoint(address) is not None

    async def dial(self, address: Multiaddr, peer: PeerId | None) -> QuicConnection:
        """Connect; see `core.transport.Transport.dial`."""
        target = quic_endpoint(address)
        if target is None or target.port == 0:
            raise UnsupportedAddress(f"not a QUIC address to dial: {address}")
        credentials = self._credentials()
        from py_p2pstack.transports.quic.listener import complete
        from py_p2pstack.transports.quic.sockets import check_route

        check_route(target)
        endpoint = self._endpoint_for(target, address)
        connection = endpoint.dial(target.sockaddr(), peer)
        try:
            await complete(connection, endpoint, self._config.handshake_timeout)
            connection.describe(credentials.peer, _local(endpoint))
        except BaseException:
            connection.abort()
            raise
        return connection

    async def listen(self, address: Multiaddr) -> QuicListener:
        """Bind; port 0 picks a free one, `::` means IPv6 only. Raises ListenError, also for a taken port."""
        where = quic_endpoint(address)
        if where is None:
            raise ListenError(address, "not a QUIC address")
        try:
            credentials = self._credentials()
        except UnsupportedAddress as missing:
            raise ListenError(address, str(missing)) from None
        from py_p2pstack.transports.quic.listener import QuicListener

        await anyio.lowlevel.checkpoint()
        return QuicListener(self._open(where, address), credentials.peer, self._config)

    def _credentials(self) -> Credentials:
        if self._made is None:
            try:
                from py_p2pstack.transports.quic.credentials import Credentials
            except ModuleNotFoundError as missing:
                if (missing.name or "").partition(".")[0] != "qh3":
                    raise
                raise UnsupportedAddress(_MISSING) from None
            self._made = Credentials(self._make_identity())
        return self._made

    def _open(self, where: Endpoint, address: Multiaddr) -> QuicEndpoint:
        from py_p2pstack.transports.quic.endpoint import QuicEndpoint
        from py_p2pstack.transports.quic.sockets import bind

        sock = (self._bind or bind)(where, address)
        bound = where._replace(port=sock.name[1])
        endpoint = QuicEndpoint(sock, self._credentials(), self._config, lambda: self._forget(bound))
        self._endpoints[bound] = endpoint
        return endpoint

    def _forget(self, bound: Endpoint) -> None:
        del self._endpoints[bound]

    def _endpoint_for(self, target: Endpoint, address: Multiaddr) -> QuicEndpoint:
        """A socket of ours that reaches `target`: one we listen on if we can, so that others learn where we are."""
        loopback = _is_loopback(target.host)
        for bound, endpoint in self._endpoints.items():
            fits = _is_any(bound.host) or _is_loopback(bound.host) == loopback
            if bound.family is target.family and fits and bound.zone == target.zone:
                return endpoint
        v4 = target.family is socket.AF_INET
        host = ("127.0.0.1" if v4 else "::1") if loopback else ("0.0.0.0" if v4 else "::")  # noqa: S104
        return self._open(Endpoint(target.family, host, 0, target.zone), address)


def _local(endpoint: QuicEndpoint) -> Multiaddr:
    from py_p2pstack.transports.quic.address import quic_multiaddr

    return quic_multiaddr(endpoint.socket.name)


def _is_loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104
