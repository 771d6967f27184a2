"""What a DHT server answers, as a function of its table and address book."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import RemoteProtocolError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import RoutingTable, cached_keys, key_of
from py_p2pstack.protocols.dht.codec import ConnectionType, KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.handlers import TOLD_FOR, Handlers
from tests.peer_ids import peer

US, ALICE, STRANGER = peer(0), peer(1), peer(999)
WHERE = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")


class Book:
    """Everybody has an address, but those said to have none."""

    def __init__(self) -> None:
        self.unknown: set[PeerId] = {STRANGER}
        self.connected: set[PeerId] = set()

    def addresses(self, who: PeerId) -> list[Multiaddr]:
        return [] if who in self.unknown else [WHERE]

    def connectedness(self, who: PeerId) -> Connectedness:
        return Connectedness.CONNECTED if who in self.connected else Connectedness.NOT_CONNECTED


class Server:
    def __init__(self, peers: int, k: int = 20) -> None:
        key = cached_keys(PeerId.to_bytes, 1024)
        self.book = Book()
        self.table = RoutingTable(key(US), key)
        for number in range(1, peers + 1):
            self.table.add(peer(number), 0.0)
        self._handlers = Handlers(US, self.table, self.book, k=k)

    def find(self, key: bytes, sender: PeerId = STRANGER) -> list[PeerId]:
        answer = self._handlers.answer(Message(type=MessageType.FIND_NODE, key=key), sender, 0.0)
        assert answer is not None
        return [each.info.peer_id for each in answer.closer_peers]

    def answer(self, message: Message) -> Message | None:
        return self._handlers.answer(message, ALICE, 0.0)

    def tell(self, now: float) -> tuple[KadPeer, ...]:
        return self._handlers.closer_peers(b"some key", STRANGER, now)


def test_find_node_tells_the_k_nearest() -> None:
    server = Server(peers=60)
    told = server.find(b"some key")
    assert told == server.table.nearest(key_of(b"some key"), 20)


def test_find_node_leaves_out_the_sender_and_still_tells_k() -> None:
    server = Server(peers=60)
    nearest = server.table.nearest(key_of(b"some key"), 21)
    assert server.find(b"some key", sender=nearest[3]) == [*nearest[:3], *nearest[4:]]


def test_whom_the_key_names_comes_first_even_outside_of_the_table() -> None:
    server = Server(peers=5)
    outsider = peer(500)
    assert server.find(outsider.to_bytes())[0] == outsider
    assert server.find(peer(3).to_bytes())[0] == peer(3)
    assert len(server.find(peer(3).to_bytes())) == 5


def test_we_and_the_sender_are_told_of_only_when_named() -> None:
    server = Server(peers=5)
    assert server.find(US.to_bytes())[0] == US
    assert server.find(ALICE.to_bytes(), sender=ALICE)[0] == ALICE
    assert US not in server.find(b"any")
    assert ALICE not in server.find(b"any", sender=ALICE)


def test_peers_without_addresses_are_not_told_of() -> None:
    server = Server(peers=5)
    server.book.unknown.add(peer(2))
    assert peer(2) not in server.find(b"any")
    assert STRANGER not in server.find(STRANGER.to_bytes())


def test_connected_peers_are_marked_so() -> None:
    server = Server(peers=2)
    server.book.connected.add(peer(2))
    answer = server.answer(Message(type=MessageType.FIND_NODE, key=b"any", cluster_level=3))
    assert answer is not None
    assert answer.cluster_level == 3
    assert answer.key == b""
    assert [(each.info.peer_id, each.connection) for each in answer.closer_peers] == [
        (peer(2), ConnectionType.CONNECTED)
    ]


def test_what_is_told_is_looked_up_anew_every_few_seconds() -> None:
    server = Server(peers=3)
    first = server.tell(now=1.0)
    gone, moved, _ = (each.info.peer_id for each in first)
    server.book.unknown.add(gone)
    server.book.connected.add(moved)
    assert server.tell(now=0.9 + TOLD_FOR) == first
    later = server.tell(now=1.0 + TOLD_FOR)
    assert [each.info.peer_id for each in later] == [each.info.peer_id for each in first[1:]]
    assert later[0].connection is ConnectionType.CONNECTED
    assert later[1] is first[2]  # of whom nothing has changed: its bytes are there already
    assert server.tell(now=1.0 + 9 * TOLD_FOR)[1] is first[2]


def test_an_empty_table_answers_with_nobody() -> None:
    assert Server(peers=0).find(b"any") == []


def test_find_node_without_a_key_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="key"):
        Server(peers=1).find(b"")


def test_ping_echoes() -> None:
    ping = Message(type=MessageType.PING, key=b"x", cluster_level=1)
    assert Server(peers=0).answer(ping) == ping


@pytest.mark.parametrize(
    "kind", [MessageType.PUT_VALUE, MessageType.GET_VALUE, MessageType.ADD_PROVIDER, MessageType.GET_PROVIDERS]
)
def test_what_is_not_served_is_refused(kind: MessageType) -> None:
    with pytest.raises(RemoteProtocolError, match=kind.name):
        Server(peers=1).answer(Message(type=kind, key=b"k"))
