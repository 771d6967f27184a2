"""WebSocket addresses, and what becomes of names in them."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.network.resolver import StaticResolver
from py_p2pstack.transports.websocket.address import websocket_address

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("text", "secure", "name", "path"),
    [
        ("/ip4/192.0.2.1/tcp/80/ws", False, "192.0.2.1", "/"),
        ("/ip6/2001:db8::1/tcp/443/tls/ws", True, "2001:db8::1", "/"),
        ("/ip4/192.0.2.1/tcp/443/wss", True, "192.0.2.1", "/"),
        ("/ip4/192.0.2.1/tcp/443/tls/sni/node.example/ws", True, "node.example", "/"),
        ("/ip4/192.0.2.1/tcp/443/wss/http-path/path%2Fto%2Fendpoint", True, "192.0.2.1", "/path/to/endpoint"),
    ],
)
def test_addresses_are_read(text: str, secure: bool, name: str, path: str) -> None:
    found = websocket_address(Multiaddr.parse(text))
    assert found is not None
    assert (found.secure, found.name, found.path) == (secure, name, path)


@pytest.mark.parametrize(
    "text",
    [
        *("/ip4/192.0.2.1/tcp/80", "/ip4/192.0.2.1/udp/80/quic-v1", "/ip4/192.0.2.1/tcp/80/tls", "/memory/1"),
        *("/dns4/node.example/tcp/443/wss", "/ip4/192.0.2.1/udp/80/quic-v1/ws"),
        "/ip4/192.0.2.1/tcp/80/ws/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
    ],
)
def test_others_are_not_ours(text: str) -> None:
    assert websocket_address(Multiaddr.parse(text)) is None


async def test_a_name_that_a_certificate_has_to_prove_stays_in_the_address() -> None:
    resolver = StaticResolver(addresses={"node.example": ["192.0.2.1"]})
    for text, resolved in (
        ("/dns4/node.example/tcp/443/wss", "/ip4/192.0.2.1/tcp/443/tls/sni/node.example/ws"),
        ("/dns/node.example/tcp/443/tls/ws", "/ip4/192.0.2.1/tcp/443/tls/sni/node.example/ws"),
        ("/dns4/node.example/tcp/443/tls/sni/other.example/ws", "/ip4/192.0.2.1/tcp/443/tls/sni/other.example/ws"),
        ("/dns4/node.example/tcp/80/ws", "/ip4/192.0.2.1/tcp/80/ws"),
        ("/dns4/node.example/tcp/80", "/ip4/192.0.2.1/tcp/80"),
    ):
        assert await resolver.resolve(Multiaddr.parse(text)) == [Multiaddr.parse(resolved)]
