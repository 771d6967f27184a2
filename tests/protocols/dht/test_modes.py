"""Modes: who serves when, what makes that change, and what is left of a server that became a client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from py_p2pstack import Dht, StreamReset
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.notifications import (
    LocalAddressesUpdated,
    LocalReachabilityChanged,
    PeerIdentified,
    Reachability,
)
from py_p2pstack.core.types import Direction
from py_p2pstack.protocols.dht import DhtConfig, codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.modes import Modes, ServingHost
from py_p2pstack.protocols.dht.server import Server
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time, settle, world

PROTOCOL = "/p2pstack/kad/1.0.0"
PING = codec.encode(Message(type=MessageType.PING))
LOOPBACK, LAN, PUBLIC = "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip4/8.8.8.8/tcp/1"


class FakeHost:
    """Listens and tells as it is said to, and notes what it serves."""

    def __init__(self, listening: list[str], told: list[str] | None = None) -> None:
        self.listening = [Multiaddr.parse(each) for each in listening]
        self.addrs = [Multiaddr.parse(each) for each in (listening if told is None else told)]
        self.serves: set[str] = set()

    @property
    def network(self) -> Any:
        return SimpleNamespace(interface_listen_addresses=lambda: self.listening)

    def set_stream_handler(self, protocol: str, handler: object) -> None:
        self.serves.add(protocol)

    def remove_stream_handler(self, protocol: str) -> None:
        self.serves.remove(protocol)


def mode_of(made: Modes | Dht) -> str:
    """Without what the type checker believes to know since the last look."""
    return made.mode


def modes(host: FakeHost, mode: str = "auto", prefix: str = "/p2pstack") -> Modes:
    config = DhtConfig(mode=cast(Any, mode), prefix=prefix)
    made = Modes(cast(ServingHost, host), Server(cast(Any, None), {}, config), config)
    made.start()
    return made


@pytest.mark.parametrize(
    ("listening", "told", "prefix", "expected"),
    [
        ([], [], "/p2pstack", Reachability.PRIVATE),
        ([LOOPBACK], None, "/p2pstack", Reachability.PUBLIC),
        ([LOOPBACK, LAN], None, "/p2pstack", Reachability.PUBLIC),
        ([LOOPBACK, LAN], None, "/ipfs", Reachability.UNKNOWN),
        ([LAN, PUBLIC], None, "/ipfs", Reachability.PUBLIC),
        ([LAN], [PUBLIC], "/ipfs", Reachability.PUBLIC),
        ([LAN], [LAN, PUBLIC], "/ipfs", Reachability.UNKNOWN),
        ([LAN], [LAN, PUBLIC], "/p2pstack", Reachability.UNKNOWN),
    ],
    ids=["no listener", "loopback", "lan", "lan in public", "public", "announced", "observed", "observed in private"],
)
def test_what_our_addresses_say_of_our_reachability(
    listening: list[str], told: list[str] | None, prefix: str, expected: Reachability
) -> None:
    made = modes(FakeHost(listening, told), prefix=prefix)
    assert made.reachability() is expected
    assert mode_of(made) == ("server" if expected is Reachability.PUBLIC else "client")
    unless = modes(FakeHost(listening, told), mode="auto-server", prefix=prefix)
    assert mode_of(unless) == ("client" if expected is Reachability.PRIVATE else "server")


def identified(direction: Direction, remote: str) -> PeerIdentified:
    info = SimpleNamespace(direction=direction, remote_address=Multiaddr.parse(remote))
    connection = cast(Any, SimpleNamespace(info=info))
    return PeerIdentified(peer(1), connection, frozenset(), (), "", "", None)


def test_a_connection_from_outside_proves_that_we_can_be_dialled() -> None:
    host = FakeHost([LAN])
    made = modes(host, prefix="/ipfs")
    made.heard(identified(Direction.OUTBOUND, PUBLIC))
    made.heard(identified(Direction.INBOUND, LAN))
    assert mode_of(made) == "client"
    made.heard(identified(Direction.INBOUND, PUBLIC))
    assert mode_of(made) == "server"
    assert host.serves == {"/ipfs/kad/1.0.0"}


def test_who_finds_out_is_believed_more_than_any_guess() -> None:
    made = modes(FakeHost([PUBLIC]), prefix="/ipfs")
    assert mode_of(made) == "server"
    made.heard(LocalReachabilityChanged(Reachability.PRIVATE))
    assert mode_of(made) == "client"
    made.heard(identified(Direction.INBOUND, PUBLIC))
    assert mode_of(made) == "client"
    made.heard(LocalReachabilityChanged(Reachability.UNKNOWN))
    assert mode_of(made) == "client"
    made.heard(LocalReachabilityChanged(Reachability.PUBLIC))
    assert mode_of(made) == "server"


def test_a_change_of_addresses_is_judged_anew() -> None:
    host = FakeHost([])
    made = modes(host)
    assert mode_of(made) == "client"
    host.listening = host.addrs = [Multiaddr.parse(LOOPBACK)]
    made.heard(LocalAddressesUpdated(tuple(host.addrs)))
    assert mode_of(made) == "server"


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_mode_that_was_chosen_never_changes(mode: str) -> None:
    made = modes(FakeHost([LAN]), mode=mode)
    for reachability in Reachability:
        made.heard(LocalReachabilityChanged(reachability))
        assert mode_of(made) == mode
    made.close()
    assert mode_of(made) == "client"


@in_virtual_time
async def test_switching_tells_everybody_and_ends_the_streams_served() -> None:
    async with world() as w:
        (node,) = await w.start(1, mode="auto")
        (other,) = await w.start(1)
        await other.meet(node)
        assert mode_of(node.dht) == "server"
        assert node.id in other.dht.routing_table
        stream = await other.host.new_stream(node.id, PROTOCOL)
        await stream.send_message(PING)
        assert await stream.receive_message(64) == PING
        # It turns out that nobody can dial us.
        node.host.events.publish(LocalReachabilityChanged(Reachability.PRIVATE))
        with pytest.raises(StreamReset) as ended:
            await stream.receive()
        assert ended.value.code == StreamCode.SHUTDOWN
        await settle()
        assert mode_of(node.dht) == "client"
        assert "client" in repr(node.dht)
        assert node.id not in other.dht.routing_table
        # A client still asks.
        assert await node.dht.get_closest_peers(b"key") == [other.id]
        node.host.events.publish(LocalReachabilityChanged(Reachability.PUBLIC))
        await settle()
        assert node.id in other.dht.routing_table
