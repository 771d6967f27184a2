"""Peer infos: a peer and the addresses that lead to it."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import InvalidAddress
from py_p2pstack.identity import PeerId

ALICE = PeerId.parse("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA")
TCP = Multiaddr.parse("/ip4/192.0.2.1/tcp/4001")


def test_a_full_address_is_a_peer_and_an_address() -> None:
    info = PeerInfo.parse(f"{TCP}/p2p/{ALICE}")
    assert info == PeerInfo(ALICE, (TCP,))
    assert info == PeerInfo.parse(TCP.with_peer(ALICE))
    assert PeerInfo.parse(info) is info
    assert info.full_addresses() == [TCP.with_peer(ALICE)]


def test_a_peer_alone_has_no_address() -> None:
    assert PeerInfo.parse(f"/p2p/{ALICE}") == PeerInfo(ALICE)


def test_a_relayed_address_is_that_of_the_peer_behind_the_relay() -> None:
    relayed = f"{TCP}/p2p/{ALICE}/p2p-circuit/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
    info = PeerInfo.parse(relayed)
    assert str(info.peer_id).startswith("Qm")
    assert str(info.addresses[0]) == f"{TCP}/p2p/{ALICE}/p2p-circuit"


@pytest.mark.parametrize("text", [str(TCP), f"{TCP}/p2p/{ALICE}/p2p-circuit", "", "hello"])
def test_an_address_that_leads_to_no_peer_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        PeerInfo.parse(text)
