"""What a server keeps of what others provide, and what it tells of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from random import Random

import pytest

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.errors import RemoteProtocolError, StorageError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import RoutingTable, cached_keys
from py_p2pstack.protocols.dht import codec
from py_p2pstack.protocols.dht.codec import ConnectionType, KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.provider_handlers import ProviderHandlers
from py_p2pstack.protocols.dht.storage import ProviderStore
from py_p2pstack.storage.memory import MemoryDatastore
from tests.peer_ids import peer
from tests.protocols.dht.test_handlers import STRANGER, US, WHERE, Book

pytestmark = pytest.mark.anyio

ALICE, BOB = peer(1), peer(2)
HERE, THERE = Multiaddr.parse("/ip4/10.0.0.1/tcp/1"), Multiaddr.parse("/ip4/10.0.0.2/tcp/2")
HOUR = 3600.0


def multihash(number: int) -> bytes:
    return b"\x12\x20" + hashlib.sha256(number.to_bytes(8, "big")).digest()


KEY = multihash(0)


class Node(Book):
    """Our node: the book of the other tests, and who we are."""

    local_peer = US

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[Multiaddr] = set()

    def filtered(self, addresses: Iterable[Multiaddr]) -> list[Multiaddr]:
        return [address for address in addresses if address not in self.hidden]


class Server:
    def __init__(self, *, peers: int = 0, seed: int = 0, **bounds: int) -> None:
        self.now = 1e9
        table = RoutingTable(cached_keys(PeerId.to_bytes, 64)(US), cached_keys(PeerId.to_bytes, 1024))
        for number in range(1000, 1000 + peers):
            table.add(peer(number), 0.0)
        self.node = Node()
        self.store = ProviderStore(MemoryDatastore(), wall_clock=lambda: self.now, **bounds)
        handlers = Handlers(US, table, self.node, k=20)
        self.handlers = ProviderHandlers(handlers, self.node, self.store, Random(seed))  # type: ignore[arg-type]

    async def add(self, sender: PeerId, *told: PeerInfo, key: bytes = KEY) -> None:
        message = Message(type=MessageType.ADD_PROVIDER, key=key, provider_peers=tuple(map(KadPeer, told)))
        await self.handlers.add(message, sender)

    async def ask(self, key: bytes = KEY) -> Message:
        return await self.handlers.get(Message(type=MessageType.GET_PROVIDERS, key=key, cluster_level=3), STRANGER)

    async def providers(self, key: bytes = KEY) -> list[PeerInfo]:
        return [each.info for each in (await self.ask(key)).provider_peers]


async def test_a_provider_is_told_with_its_addresses() -> None:
    server = Server(peers=30)
    await server.add(ALICE, PeerInfo(ALICE, (HERE, THERE, HERE)))
    server.node.connected.add(ALICE)
    answer = await server.ask()
    assert answer.provider_peers == (KadPeer(PeerInfo(ALICE, (HERE, THERE)), ConnectionType.CONNECTED),)
    assert (answer.key, answer.cluster_level, len(answer.closer_peers)) == (KEY, 3, 20)
    assert await server.providers(multihash(1)) == []


async def test_nobody_can_provide_in_the_name_of_another() -> None:
    server = Server()
    await server.add(ALICE, PeerInfo(BOB, (THERE,)), PeerInfo(ALICE, (HERE,)))
    assert await server.providers() == [PeerInfo(ALICE, (HERE,))]
    with pytest.raises(RemoteProtocolError, match="address of its sender"):
        await server.add(ALICE, PeerInfo(BOB, (THERE,)))


async def test_a_provider_without_an_address_is_refused() -> None:
    server = Server()
    for told in ((), (PeerInfo(ALICE),)):
        with pytest.raises(RemoteProtocolError, match="address"):
            await server.add(ALICE, *told)


async def test_addresses_that_the_filter_holds_back_are_neither_kept_nor_told() -> None:
    server = Server()
    server.node.hidden.add(HERE)
    await server.add(ALICE, PeerInfo(ALICE, (HERE, THERE)))
    assert await server.store.get(KEY) == [PeerInfo(ALICE, (THERE,))]
    with pytest.raises(RemoteProtocolError, match="address"):
        await server.add(BOB, PeerInfo(BOB, (HERE,)))
    # A filter that came later holds for what was kept before.
    server.node.hidden.add(THERE)
    server.node.unknown.add(ALICE)
    assert await server.providers() == [PeerInfo(ALICE)]


@pytest.mark.parametrize("key", [b"", b"plain", KEY + b"x", KEY[:-1], bytes((0x12, 79)) + bytes(79)])
async def test_keys_that_are_no_multihash_are_refused(key: bytes) -> None:
    server = Server()
    with pytest.raises(RemoteProtocolError, match="multihash"):
        await server.add(ALICE, PeerInfo(ALICE, (HERE,)), key=key)
    with pytest.raises(RemoteProtocolError, match="multihash"):
        await server.ask(key)


async def test_providers_are_told_for_48_hours_and_their_addresses_for_24() -> None:
    server = Server()
    server.node.unknown.add(ALICE)
    await server.add(ALICE, PeerInfo(ALICE, (HERE,)))
    server.now += 24 * HOUR + 1
    assert await server.providers() == [PeerInfo(ALICE)]
    # Where we know ourselves where it is, we tell that.
    server.node.unknown.remove(ALICE)
    assert await server.providers() == [PeerInfo(ALICE, (WHERE,))]
    server.now += 24 * HOUR
    assert await server.providers() == []


async def test_what_we_provide_ourselves_is_told_with_where_we_are_now() -> None:
    server = Server()
    await server.store.own_add(KEY)
    assert await server.providers() == [PeerInfo(US, (WHERE,))]
    await server.store.own_remove(KEY)
    assert await server.providers() == []


async def test_of_too_many_providers_each_answer_tells_others() -> None:
    server = Server(peers=30)
    many = tuple(Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/1") for number in range(6))
    for number in range(256):
        await server.add(peer(number), PeerInfo(peer(number), many))
    told = []
    for _ in range(2):
        data = codec.encode(await server.ask())
        assert len(data) <= codec.MAX_SENT
        answer = codec.decode(data, max_peers=20, max_providers=512)
        assert len(answer.closer_peers) == 20
        told.append([each.info.peer_id for each in answer.provider_peers])
        assert 100 < len(told[-1]) < 200
    assert set(told[0]) != set(told[1])


async def test_a_full_key_refuses_newcomers_without_a_word_and_counts_them() -> None:
    server = Server(max_providers_per_key=2)
    for number in range(5):
        await server.add(peer(number), PeerInfo(peer(number), (HERE,)))
    assert len(await server.providers()) == 2
    assert server.handlers.refused == 3


async def test_a_store_that_fails_fails_the_request() -> None:
    server = Server()

    async def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk is gone")

    server.store._datastore.write = fail  # type: ignore[method-assign]
    with pytest.raises(StorageError, match="gone"):
        await server.add(ALICE, PeerInfo(ALICE, (HERE,)))


def test_they_serve_the_two_requests() -> None:
    assert set(Server().handlers.table()) == {MessageType.ADD_PROVIDER, MessageType.GET_PROVIDERS}
