"""The gater: everybody is allowed by default, the listed are refused."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.types import Direction
from py_p2pstack.identity import PrivateKey
from py_p2pstack.network.gater import AllowAll, BlockList, ConnectionGater
from tests.peer_ids import peer

LOCAL = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
REMOTE = Multiaddr.parse("/ip4/192.0.2.7/tcp/1")
KEY = PrivateKey.from_seed(bytes(32)).public_key
INFO = ConnectionInfo(
    direction=Direction.INBOUND,
    local_peer=peer(1),
    remote_peer=KEY.peer_id(),
    remote_public_key=KEY,
    local_address=LOCAL,
    remote_address=REMOTE,
    transport="tcp",
    security="/noise",
    muxer="/yamux/1.0.0",
)
MALLORY = INFO.remote_peer


def answers(gater: ConnectionGater, remote: Multiaddr = REMOTE) -> tuple[bool, bool, bool, bool, bool]:
    return (
        gater.intercept_peer_dial(MALLORY),
        gater.intercept_addr_dial(MALLORY, remote),
        gater.intercept_accept(LOCAL, remote),
        gater.intercept_secured(INFO),
        gater.intercept_upgraded(INFO),
    )


@pytest.mark.parametrize("gater", [AllowAll(), BlockList()], ids=lambda gater: type(gater).__name__)
def test_everybody_is_allowed_by_default(gater: ConnectionGater) -> None:
    assert answers(gater) == (True, True, True, True, True)


def test_a_blocked_peer_is_neither_dialled_nor_kept() -> None:
    gater = BlockList(peers=[MALLORY])
    assert answers(gater) == (False, False, True, False, True)
    gater.unblock_peer(MALLORY)
    gater.unblock_peer(MALLORY)
    assert answers(gater) == (True, True, True, True, True)


def test_a_blocked_network_is_neither_dialled_nor_accepted() -> None:
    gater = BlockList(networks=["192.0.2.0/24"])
    assert answers(gater) == (True, False, False, True, True)
    assert answers(gater, Multiaddr.parse("/ip4/192.0.3.7/tcp/1")) == (True, True, True, True, True)
    gater.unblock_network("192.0.2.0/24")
    assert answers(gater) == (True, True, True, True, True)


def test_ipv4_in_ipv6_clothes_is_recognised() -> None:
    gater = BlockList()
    gater.block_network("192.0.2.7")
    assert not gater.intercept_accept(LOCAL, Multiaddr.parse("/ip6/::ffff:192.0.2.7/tcp/1"))
    assert gater.intercept_accept(LOCAL, Multiaddr.parse("/ip6/2a00::1/tcp/1"))


def test_addresses_without_an_ip_are_in_no_network() -> None:
    assert BlockList(networks=["0.0.0.0/0", "::/0"]).intercept_accept(LOCAL, Multiaddr.parse("/memory/1"))


def test_the_lists_can_be_read() -> None:
    gater = BlockList()
    gater.block_peer(MALLORY)
    gater.block_network("2001:db8::/32")
    assert gater.peers == {MALLORY}
    assert {str(network) for network in gater.networks} == {"2001:db8::/32"}


def test_text_that_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        BlockList(networks=["example.com"])
