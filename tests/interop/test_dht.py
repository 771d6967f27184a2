"""FIND_NODE and iterative lookups with the DHT servers of other implementations, both ways."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from py_p2pstack import PeerId
from tests.interop.conftest import start
from tests.interop.peer import Peer

pytestmark = pytest.mark.interop


class Network(NamedTuple):
    """One of ours and two of theirs; the first of theirs knows everybody, the other two only it."""

    ours: Peer
    theirs: Peer
    stranger: Peer


def until_known(hub: Peer, peer: Peer) -> None:
    """Wait until the hub has identified a peer that connected to it: each side does so in its own time."""
    for _ in range(100):
        if hub.call("identify", peer=peer.id)["listen_addrs"]:
            return
        time.sleep(0.05)
    raise AssertionError(f"{hub.name} never identified {peer.name}")


@pytest.fixture(scope="module")
def network(other: str) -> Iterator[Network]:
    """Ours makes no lookup of its own accord, so that it meets the stranger only when it asks for it."""
    with ExitStack() as stack:
        ours = stack.enter_context(start("ours", "--dht", "server", "--dht-idle"))
        theirs, stranger = (stack.enter_context(start(other, "--dht", "server")) for _ in range(2))
        stranger.call("connect", addr=theirs.address)
        stranger.call("bootstrap")
        ours.call("connect", addr=theirs.address)
        yield Network(ours, theirs, stranger)


@pytest.mark.row("DHT: our FIND_NODE, their server")
def test_their_server_answers_our_find_node(network: Network) -> None:
    answer = network.ours.call("find_node", peer=network.theirs.id, target=network.stranger.id)
    assert network.stranger.id in {peer["id"] for peer in answer["closer"]}


@pytest.mark.row("DHT: their FIND_NODE, our server")
def test_our_server_answers_their_find_node(network: Network) -> None:
    if not network.theirs.can("find_node"):
        pytest.skip(f"{network.theirs.name} cannot ask one peer")
    with start("ours", "--dht", "server", "--dht-idle") as friend:
        friend.call("connect", addr=network.ours.address)
        until_known(network.ours, friend)
        answer = network.theirs.call("find_node", peer=network.ours.id, target=friend.id)
        assert friend.id in {peer["id"] for peer in answer["closer"]}


@pytest.mark.row("DHT: our lookup through their server")
def test_we_find_a_stranger_through_their_server(other: str) -> None:
    with (
        start("ours", "--dht", "server", "--dht-idle") as seeker,
        start(other, "--dht", "server") as hub,
        start(other, "--dht", "server") as stranger,
    ):
        stranger.call("connect", addr=hub.address)
        stranger.call("bootstrap")
        seeker.call("connect", addr=hub.address)
        assert stranger.id not in seeker.call("peers")["peers"]
        found = seeker.call("find_peer", target=stranger.id)
        assert found["id"] == stranger.id
        assert found["addrs"]


@pytest.mark.row("DHT: their lookup through our server")
def test_they_find_a_stranger_through_our_server(other: str) -> None:
    """The stranger comes when the seeker has looked round already, and our server tells what it was asked."""
    with (
        start("ours", "--dht", "server", "--dht-idle", "--tap") as hub,
        start("ours", "--dht", "server", "--dht-idle") as stranger,
        start(other, "--dht", "server") as seeker,
    ):
        seeker.call("connect", addr=hub.address)
        seeker.call("bootstrap")
        stranger.call("connect", addr=hub.address)
        until_known(hub, stranger)
        assert stranger.id not in seeker.call("peers")["peers"]
        found = seeker.call("find_peer", target=stranger.id)
        assert found["id"] == stranger.id
        question = {"peer": seeker.id, "type": "FIND_NODE", "key": PeerId.parse(stranger.id).to_bytes().hex()}
        assert question in hub.call("served")["requests"]
