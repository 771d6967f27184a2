"""Providing and finding providers among whole hosts."""

from __future__ import annotations

import hashlib
from collections import Counter

import anyio
import pytest

from py_p2pstack import PeerInfo
from py_p2pstack.errors import LookupFailure, NotEnabled, OperationTimeout, ProvideFailed, RemoteProtocolError
from py_p2pstack.kademlia import LookupConfig, key_of
from py_p2pstack.protocols.dht import (
    LookupEnded,
    LookupStarted,
    PeerResponse,
    Provider,
    QueryError,
    QueryEvent,
    SendingQuery,
    codec,
)
from py_p2pstack.protocols.dht.codec import KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from tests.peer_ids import peer
from tests.protocols.dht.nodes import Node, in_virtual_time, settle, world

SMALL = LookupConfig(k=3, alpha=2, beta=2)
HOUR = 3600.0
CID = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def multihash(number: int) -> bytes:
    return b"\x12\x20" + hashlib.sha256(number.to_bytes(8, "big")).digest()


KEY = multihash(0)


async def found(node: Node, content: bytes | str = KEY, **how: int) -> list[PeerInfo]:
    """Everything a search finds."""
    return [each async for each in node.dht.find_providers(content, **how)]  # type: ignore[arg-type]


def nearest(nodes: list[Node], key: bytes, count: int) -> list[Node]:
    return sorted(nodes, key=lambda node: key_of(node.id.to_bytes()) ^ key_of(key))[:count]


@in_virtual_time
async def test_what_one_provides_another_finds_with_its_addresses() -> None:
    async with world() as w:
        nodes = await w.join(8)
        result = await nodes[3].dht.provide(CID)
        others = [node.id for node in nodes if node is not nodes[3]]
        assert set(result.told) == set(others)
        assert (result.failed, result.pending, result.announced) == ({}, (), True)
        await settle()
        nodes[6].host.peerstore.clear_addresses(nodes[3].id)
        assert await found(nodes[6], CID) == [nodes[3].host.peer_info]


@in_virtual_time
async def test_providing_tells_the_k_nearest_and_nobody_else() -> None:
    async with world() as w:
        nodes = await w.join(9, lookup=SMALL)
        provider = nodes[5]
        result = await provider.dht.provide(KEY)
        await settle()
        holders = nearest([node for node in nodes if node is not provider], KEY, 3)
        assert list(result.told) == [node.id for node in holders]
        for node in nodes:
            assert node.dht._providers is not None
            told = [info.peer_id for info in await node.dht._providers.store.get(KEY)]
            assert told == ([provider.id] if node in holders else [])


@in_virtual_time
async def test_many_keys_of_many_providers_are_all_found_by_everybody() -> None:
    async with world() as w:
        nodes = await w.join(6, lookup=SMALL)
        for number, node in enumerate(nodes):
            for key in range(number * 3, number * 3 + 3):
                await node.dht.provide(multihash(key))
        await settle()
        for seeker in nodes[::3]:
            for key in range(18):
                assert [each.peer_id for each in await found(seeker, multihash(key))] == [nodes[key // 3].id]


@in_virtual_time
async def test_a_search_gives_out_no_more_providers_than_asked_for_and_each_once() -> None:
    async with world() as w:
        nodes = await w.join(8)
        for node in nodes[:7]:
            await node.dht.provide(KEY)
        await settle()
        for count, expected in ((1, 1), (5, 5), (0, 7), (100, 7)):
            providers = [each.peer_id for each in await found(nodes[7], count=count)]
            assert len(providers) == len(set(providers)) == expected
        with pytest.raises(ValueError, match="providers"):
            nodes[7].dht.find_providers(KEY, count=-1)


@in_virtual_time
async def test_all_providers_means_as_many_as_the_config_allows() -> None:
    async with world() as w:
        nodes = await w.join(6, providers=ProviderConfig(max_found=3))
        for node in nodes[:5]:
            await node.dht.provide(KEY)
        await settle()
        assert len(await found(nodes[5], count=0)) == 3


@in_virtual_time
async def test_a_search_ends_as_soon_as_it_has_enough() -> None:
    async with world() as w:
        nodes = await w.join(6, lookup=LookupConfig(alpha=2))
        await nodes[1].dht.provide(KEY)
        await settle()
        (seeker,) = await w.join(1, mode="client", lookup=LookupConfig(alpha=2))
        reasons, asked = [], []
        for count in (1, 2):
            told: list[QueryEvent] = []
            async for _ in seeker.dht.find_providers(KEY, count=count, on_event=told.append):
                pass
            reasons += [each.reason.value for each in told if isinstance(each, LookupEnded)]
            asked.append(sum(isinstance(each, PeerResponse) for each in told))
        assert reasons == ["stopped", "starved"]
        assert asked[0] < asked[1] == 6


@in_virtual_time
async def test_what_we_know_ourselves_comes_first_and_may_be_enough() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        await alone.dht.provide(KEY, announce=False)
        assert await found(alone, count=1) == [alone.host.peer_info]
        # With nobody to ask, what we know is all there is.
        assert await found(alone, count=5) == [alone.host.peer_info]
        with pytest.raises(LookupFailure, match="connect to a peer"):
            await found(alone, multihash(1))


@in_virtual_time
async def test_a_search_is_told_step_by_step_as_one_operation() -> None:
    async with world() as w:
        nodes = await w.join(5)
        await nodes[1].dht.provide(KEY)
        await settle()
        told: list[QueryEvent] = []
        async for _ in nodes[4].dht.find_providers(KEY, on_event=told.append):
            pass
        assert {each.query_id for each in told} == {told[0].query_id}
        assert isinstance(next(each for each in told if not isinstance(each, Provider)), LookupStarted)
        tellers = {each.peer: each.providers for each in told if isinstance(each, Provider)}
        assert nodes[4].id in tellers  # it was told itself
        assert all([info.peer_id for info in infos] == [nodes[1].id] for infos in tellers.values())


@in_virtual_time
async def test_providing_is_told_step_by_step_as_one_operation() -> None:
    async with world() as w:
        nodes = await w.join(5)
        told: list[QueryEvent] = []
        await nodes[1].dht.provide(KEY, on_event=told.append)
        assert {each.query_id for each in told} == {told[0].query_id}
        sent = Counter(each.peer for each in told if isinstance(each, SendingQuery))
        assert set(sent.values()) == {2}  # to be asked, and to be told


@in_virtual_time
async def test_nobody_provides_what_nobody_provides() -> None:
    async with world() as w:
        nodes = await w.join(4)
        assert await found(nodes[2]) == []


@in_virtual_time
async def test_only_local_means_that_nobody_is_told_but_who_asks_us() -> None:
    async with world() as w:
        nodes = await w.join(4)
        result = await nodes[1].dht.provide(KEY, announce=False)
        assert (result.announced, result.told) == (False, ())
        assert nodes[2].dht._providers is not None
        assert await nodes[2].dht._providers.store.get(KEY) == []
        assert [each.peer_id for each in await found(nodes[2])] == [nodes[1].id]


@in_virtual_time
async def test_with_nobody_there_providing_fails_and_is_remembered() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        with pytest.raises(LookupFailure):
            await alone.dht.provide(KEY)
        assert alone.dht._providers is not None
        assert await alone.dht._providers.store.own_time(KEY) == 0.0


@in_virtual_time
async def test_who_cannot_be_reached_is_told_of_in_the_result() -> None:
    async with world() as w:
        nodes = await w.join(6)
        provider = nodes[2]

        async def refuse(self: object, *_: object) -> None:
            raise RemoteProtocolError("not today")

        broken = {nodes[0].id, nodes[4].id}
        tell = provider.dht._node.messenger.tell

        async def some_refuse(whom: object, messages: object) -> None:
            if whom in broken:
                await refuse(whom)
            await tell(whom, messages)  # type: ignore[arg-type]

        provider.dht._node.messenger.tell = some_refuse  # type: ignore[method-assign, assignment]
        told: list[QueryEvent] = []
        result = await provider.dht.provide(KEY, on_event=told.append)
        assert result.failed == dict.fromkeys(broken, "not today")
        assert len(result.told) == 3
        assert {each.peer for each in told if isinstance(each, QueryError)} == broken
        broken.update(node.id for node in nodes)
        with pytest.raises(ProvideFailed, match=r"none of the 5 nearest .*\n.*not today") as failure:
            await provider.dht.provide(KEY)
        assert len(failure.value.result.failed) == 5  # type: ignore[attr-defined]


@in_virtual_time
async def test_providing_takes_no_longer_than_its_time() -> None:
    async with world() as w:
        nodes = await w.join(3)
        w.network.cut("0")
        w.network.cut("1")
        with pytest.raises(OperationTimeout, match=r"0\.5 s"):
            await nodes[2].dht.provide(KEY, timeout=0.5)
        with pytest.raises(OperationTimeout):
            async for _ in nodes[2].dht.find_providers(KEY, timeout=0.5):
                pass


@in_virtual_time
async def test_a_provider_without_an_address_says_so() -> None:
    async with world() as w:
        nodes = await w.join(3)
        nodes[1].dht._node.addresses = lambda peer: []  # type: ignore[method-assign]
        with pytest.raises(ProvideFailed, match="listen"):
            await nodes[1].dht.provide(KEY)


@in_virtual_time
async def test_addresses_of_providers_found_enter_the_peerstore_for_their_time() -> None:
    assert ProviderConfig().found_ttl == 24 * HOUR
    async with world() as w:
        nodes = await w.join(3, providers=ProviderConfig(found_ttl=300.0))
        stranger = PeerInfo(peer(77), tuple(nodes[0].host.addrs))
        assert nodes[0].dht._providers is not None
        await nodes[0].dht._providers.store.add(KEY, stranger.peer_id, stranger.addresses)
        assert await found(nodes[2]) == [stranger]
        await anyio.sleep(290)
        assert nodes[2].host.peerstore.addresses(stranger.peer_id) == list(stranger.addresses)
        await anyio.sleep(20)
        assert nodes[2].host.peerstore.addresses(stranger.peer_id) == []


@in_virtual_time
async def test_the_address_filter_holds_for_what_is_told_of_us_and_taken_from_others() -> None:
    async with world() as w:
        (hub,) = await w.start(1)
        (shy,) = await w.start(1, address_filter=lambda address: False)
        (strict,) = await w.start(1, address_filter=lambda address: "memory" not in str(address))
        for node in (shy, strict):
            await node.meet(hub)
        with pytest.raises(ProvideFailed, match="listen"):
            await shy.dht.provide(KEY)
        stranger = PeerInfo(peer(77), tuple(hub.host.addrs))
        assert hub.dht._providers is not None
        await hub.dht._providers.store.add(KEY, stranger.peer_id, stranger.addresses)
        assert await found(strict) == [PeerInfo(peer(77))]
        assert strict.host.peerstore.addresses(peer(77)) == []


@in_virtual_time
async def test_a_provider_whose_address_nobody_knows_is_given_out_at_the_end() -> None:
    async with world() as w:
        nodes = await w.join(4)
        known, unknown = PeerInfo(peer(77), tuple(nodes[0].host.addrs)), PeerInfo(peer(78))
        for node in nodes[:2]:
            assert node.dht._providers is not None
            for info in (unknown, known):
                await node.dht._providers.store.add(KEY, info.peer_id, info.addresses)
        assert await found(nodes[3]) == [known, unknown]
        assert await found(nodes[3], count=1) == [known]


@in_virtual_time
async def test_a_search_may_be_left_cancelled_and_forgotten() -> None:
    async with world() as w:
        nodes = await w.join(8)
        for node in nodes[:5]:
            await node.dht.provide(KEY)
        await settle()
        async for _ in nodes[7].dht.find_providers(KEY):
            break
        for pause in (0.0, 0.005, 0.015, 0.03):
            with anyio.move_on_after(pause):
                await found(nodes[7])
        async with nodes[7].dht.find_providers(KEY) as providers:
            await anext(providers)
        await settle()
        assert len(await found(nodes[7])) == 5


@in_virtual_time
async def test_cancelling_a_provide_at_any_moment_leaves_the_node_able_to_provide() -> None:
    async with world() as w:
        nodes = await w.join(6)
        for pause in (0.0, 0.005, 0.015, 0.025, 0.05):
            with anyio.move_on_after(pause):
                await nodes[4].dht.provide(KEY)
            await settle()
        assert len((await nodes[4].dht.provide(KEY)).told) == 5


@in_virtual_time
async def test_nonsense_is_refused_before_anything_happens() -> None:
    async with world() as w:
        (alice,) = await w.start(1)
        for content in ("hello", b"hello", b"", KEY + b"x"):
            with pytest.raises(ValueError, match="not a"):
                await alice.dht.provide(content)
            with pytest.raises(ValueError, match="not a"):
                alice.dht.find_providers(content)
            with pytest.raises(ValueError, match="not a"):
                await alice.dht.stop_providing(content)


@in_virtual_time
async def test_malformed_provider_requests_reset_the_stream_and_nothing_else() -> None:
    async with world() as w:
        alice, bob = await w.start(2)
        await alice.meet(bob)
        us = KadPeer(alice.host.peer_info)
        for message in (
            Message(type=MessageType.ADD_PROVIDER, key=b"plain", provider_peers=(us,)),
            Message(type=MessageType.ADD_PROVIDER, key=KEY, provider_peers=(KadPeer(bob.host.peer_info),)),
            Message(type=MessageType.ADD_PROVIDER, key=KEY),
            Message(type=MessageType.GET_PROVIDERS),
        ):
            before = bob.dht._server.malformed
            async with await alice.host.new_stream(bob.id, [alice.dht.config.protocol]) as stream:
                await stream.send_message(codec.encode(message))
                await settle()
            assert bob.dht._server.malformed == before + 1
        assert await found(alice) == []
        assert (await alice.dht.provide(KEY)).told == (bob.id,)


@in_virtual_time
async def test_without_providers_a_node_has_no_part_in_them() -> None:
    async with world() as w:
        (without,) = await w.start(1, enable_providers=False)
        (with_them,) = await w.start(1)
        await with_them.meet(without)
        for refused in (without.dht.provide(KEY), without.dht.stop_providing(KEY)):
            with pytest.raises(NotEnabled):
                await refused
        with pytest.raises(NotEnabled):
            without.dht.find_providers(KEY)
        # It resets who asks it, which finds nothing, and goes on.
        assert await found(with_them) == []


@in_virtual_time
async def test_what_is_provided_no_longer_is_told_no_longer_by_us() -> None:
    async with world() as w:
        nodes = await w.join(3)
        await nodes[1].dht.provide(CID)
        await nodes[1].dht.stop_providing(CID)
        assert nodes[1].dht._providers is not None
        assert await nodes[1].dht._providers.store.own() == []


def test_a_config_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="begin at 1"):
        ProviderConfig(sweep_page=0)
