"""Behaviours of a whole DHT that other files do not show; docs/dht.md has the list of all."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, Host, PeerInfo, PeerNotFound, Stream
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.errors import InvalidRecord, LookupFailure, ValueNotFound
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupConfig
from py_p2pstack.protocols.dht import LookupStarted, QueryEvent, codec
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.testing import virtual_time
from tests.protocols.dht.nodes import Node, World, in_virtual_time, settle, wall_clock, world

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "dht.md").read_text(encoding="utf-8")
PROTOCOL = "/p2pstack/kad/1.0.0"
KEY = "/v/k"


async def chain(w: World, count: int, **config: object) -> list[Node]:
    """Nodes of which each knows its neighbours only."""
    nodes = await w.start(count, **config)  # type: ignore[arg-type]
    for one, other in itertools.pairwise(nodes):
        await one.meet(other)
    return nodes


@in_virtual_time
async def test_a_value_is_got_through_a_chain_of_peers_that_know_only_their_neighbours() -> None:
    async with world() as w:
        nodes = await chain(w, 4)
        stored = nodes[3].dht._values
        assert stored is not None
        await stored._store.put(KEY.encode(), b"far")
        assert nodes[3].id not in nodes[0].dht.routing_table
        assert await nodes[0].dht.get_value(KEY) == b"far"


@in_virtual_time
async def test_a_value_of_ours_that_is_too_old_does_not_count() -> None:
    async with world() as w:
        nodes = await w.join(2, max_value_age=100)
        values = nodes[1].dht._values
        assert values is not None
        await values._store.put(KEY.encode(), b"old")
        assert await nodes[1].dht.get_value(KEY) == b"old"
        await settle()
        await anyio.sleep(101)
        with pytest.raises(ValueNotFound):
            await nodes[1].dht.get_value(KEY)


@in_virtual_time
async def test_peers_that_the_query_filter_rejects_are_not_asked_but_found_if_they_are_looked_for() -> None:
    async with world() as w:
        hub, banned, far = await chain(w, 3)
        alice = (await w.start(1, query_filter=lambda info: info.peer_id != banned.id))[0]
        await alice.meet(hub)
        result = await alice.dht.look_up(b"key")
        assert result.closest == (hub.id,)
        assert (await alice.dht.find_peer(banned.id)).peer_id == banned.id
        with pytest.raises(PeerNotFound):
            await alice.dht.find_peer(far.id)


@in_virtual_time
async def test_peers_that_the_table_filter_rejects_stay_outside_whatever_they_answer() -> None:
    async with world() as w:
        banned: list[PeerId] = []
        (alice,) = await w.start(1, table_filter=lambda info: info.peer_id not in banned and bool(info.addresses))
        bob, carol = await w.start(2)
        banned.append(bob.id)
        await bob.meet(carol)
        await alice.meet(bob)
        await alice.meet(carol)
        assert list(alice.dht.routing_table) == [carol.id]
        await alice.dht.get_closest_peers(b"key")
        assert list(alice.dht.routing_table) == [carol.id]


@in_virtual_time
async def test_addresses_that_the_filter_rejects_are_neither_told_nor_taken() -> None:
    unwanted = Multiaddr.parse("/memory/666")

    def wanted(address: Multiaddr) -> bool:
        return address != unwanted

    async with world() as w:
        (filtering,) = await w.start(1, address_filter=wanted)
        plain, target = await w.start(2)
        await filtering.meet(plain)
        for node in (filtering, plain):
            node.host.peerstore.add_addresses(target.id, [unwanted, *target.host.addrs], 1000)
        told = await plain.dht.find_node(filtering.id, target.id.to_bytes())
        assert told[0] == PeerInfo(target.id, tuple(target.host.addrs))
        # What it is told is filtered too.
        filtering.host.peerstore.clear_addresses(target.id)
        assert (await filtering.dht.find_node(plain.id, target.id.to_bytes()))[0].addresses[0] == unwanted
        assert (await filtering.dht.find_peer(target.id)).peer_id == target.id
        assert unwanted not in filtering.host.peerstore.addresses(target.id)


@in_virtual_time
async def test_a_table_that_ran_low_is_filled_again_from_the_peers_that_are_left() -> None:
    async with world() as w:
        nodes = await w.join(8)
        alice = nodes[5]
        for other in list(alice.dht.routing_table):
            if other != nodes[0].id:
                alice.dht.routing_table.remove(other)
        await alice.dht._refresher.repair()
        assert len(alice.dht.routing_table) == 7


@in_virtual_time
async def test_tables_are_refreshed_periodically_without_being_asked() -> None:
    async with world() as w:
        hub = (await w.start(1))[0]
        (node,) = await w.start(1, auto_refresh=True, refresh_interval=30.0, low_peers=0)
        async with node.dht.watch(buffer=10_000) as events:
            await node.meet(hub)
            await anyio.sleep(100)
            started = [await events.receive() for _ in range(len(events))]
        ours = [each.at for each in started if isinstance(each, LookupStarted) and each.key == node.id.to_bytes()]
        assert 3 <= len(ours) <= 5


@in_virtual_time
async def test_two_that_connect_to_each_other_at_the_same_moment_both_find_each_other() -> None:
    async with world() as w:
        for _ in range(5):
            alice, bob = await w.start(2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(alice.host.connect, bob.host.peer_info)
                tasks.start_soon(bob.host.connect, alice.host.peer_info)
            await settle()
            assert alice.id in bob.dht.routing_table
            assert bob.id in alice.dht.routing_table
            await alice.dht.put_value(KEY, b"x")
            assert await bob.dht.get_value(KEY) == b"x"


async def slam(stream: Stream) -> None:
    """Take a request and hang up."""
    await stream.receive_message(4096)
    stream.reset()


async def babble(stream: Stream) -> None:
    """Answer everything with nonsense."""
    while True:
        await stream.receive_message(4096)
        await stream.send_message(b"\xff\xff\xff")


async def stay_mute(stream: Stream) -> None:
    """Never answer."""
    await anyio.sleep_forever()


@pytest.mark.parametrize("broken", [slam, babble, stay_mute], ids=lambda each: each.__name__)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_servers_that_break_in_the_middle_cost_nothing_but_their_place(backend: str, broken: object) -> None:
    async def scenario() -> None:
        async with world() as w:
            nodes = await w.join(6)
            await nodes[1].dht.put_value(KEY, b"x")
            for node in nodes[:3]:
                node.host.set_stream_handler(PROTOCOL, broken)  # type: ignore[arg-type]
                node.dht._server.close()
            assert await nodes[5].dht.get_value(KEY) == b"x"
            assert set(nodes[5].dht.routing_table) == {nodes[3].id, nodes[4].id}
            result = await nodes[5].dht.put_value(KEY, b"y")
            assert set(result.replicas) == {nodes[3].id, nodes[4].id}

    virtual_time.run(scenario, backend=backend)


@in_virtual_time
async def test_networks_with_different_prefixes_do_not_mix() -> None:
    async with world() as w:
        ours = await w.join(2, prefix="/ours")
        theirs = await w.start(2, prefix="/theirs")
        await theirs[0].meet(theirs[1])
        await theirs[0].meet(ours[0])
        assert ours[0].dht.config.protocol == "/ours/kad/1.0.0"
        assert "/ours/kad/1.0.0" in ours[0].host.mux.protocols()
        assert set(ours[0].dht.routing_table) == {ours[1].id}
        assert set(theirs[0].dht.routing_table) == {theirs[1].id}
        await ours[0].dht.put_value(KEY, b"ours")
        with pytest.raises(ValueNotFound):
            await theirs[0].dht.get_value(KEY)


@in_virtual_time
async def test_a_public_prefix_brings_public_validators_and_blank_values_are_not_allowed() -> None:
    async with world() as w:
        nodes = await w.join(2, prefix="/ipfs")
        with pytest.raises(InvalidRecord, match="namespace"):
            await nodes[1].dht.put_value(KEY, b"x")
        key = b"/pk/" + nodes[1].id.to_bytes()
        value = nodes[1].host.peerstore.public_key(nodes[1].id)
        public = value.encode() if value is not None else nodes[1].id.public_key().encode()  # type: ignore[union-attr]
        assert (await nodes[1].dht.put_value(key, public)).replicas == (nodes[0].id,)


@in_virtual_time
async def test_keys_that_are_none_are_refused_by_every_operation() -> None:
    async with world() as w:
        nodes = await w.join(2)
        dht = nodes[1].dht
        for key in (b"", bytes(codec.MAX_KEY + 1)):
            with pytest.raises(ValueError, match="key"):
                await dht.get_closest_peers(key)
            with pytest.raises(InvalidRecord):
                await dht.put_value(key, b"x")
            with pytest.raises(InvalidRecord):
                await dht.get_value(key)
            with pytest.raises(InvalidRecord):
                dht.search_value(key)
            with pytest.raises(ValueError):
                await dht.provide(key)
            with pytest.raises(ValueError):
                dht.find_providers(key)
        with pytest.raises(InvalidRecord):
            await dht.get_value("/pk/no peer id")


@in_virtual_time
async def test_peers_connected_before_the_dht_began_are_in_its_table() -> None:
    async with world() as w:
        (old,) = await w.start(1)
        plain: Host = await w.start_host()
        await plain.connect(old.host.peer_info)
        async with Dht(plain, DhtConfig(auto_refresh=False), wall_clock=wall_clock) as dht:
            await settle()
            assert list(dht.routing_table) == [old.id]
            assert plain.id in old.dht.routing_table


@in_virtual_time
async def test_who_answers_a_lookup_enters_the_table_and_who_fails_leaves_it() -> None:
    async with world() as w:
        nodes = await chain(w, 5, lookup=LookupConfig(k=5))
        assert set(nodes[0].dht.routing_table) == {nodes[1].id}
        await nodes[0].dht.get_closest_peers(b"key")
        assert set(nodes[0].dht.routing_table) == {node.id for node in nodes[1:]}
        w.network.cut("3")
        await nodes[0].dht.get_closest_peers(b"key")
        assert set(nodes[0].dht.routing_table) == {nodes[1].id, nodes[2].id, nodes[4].id}


@in_virtual_time
async def test_a_client_is_in_nobodys_table_and_answers_nobody() -> None:
    async with world() as w:
        nodes = await w.join(2)
        (client,) = await w.join(1, mode="client")
        assert client.dht.mode == "client"
        assert client.id not in nodes[0].dht.routing_table
        assert PROTOCOL not in client.host.mux.protocols()
        assert len(await client.dht.get_closest_peers(b"key")) == 2


@in_virtual_time
async def test_with_an_empty_table_every_operation_fails_at_once_and_none_hangs() -> None:
    async with world() as w:
        (alone,) = await w.start(1)
        start = anyio.current_time()
        for operation in (
            alone.dht.get_closest_peers(b"key"),
            alone.dht.get_value(KEY),
            alone.dht.put_value("/v/other", b"x"),
        ):
            with pytest.raises(LookupFailure):
                await operation
        told: list[QueryEvent] = []
        with pytest.raises(LookupFailure):
            async for _ in alone.dht.search_value(KEY, on_event=told.append):
                pass
        assert anyio.current_time() - start < 1
        assert await alone.dht.bootstrap() == 0
        await alone.dht._refresher.repair()


@in_virtual_time
async def test_a_message_of_every_malformed_kind_ends_its_stream_and_the_server_serves_on() -> None:
    async with world() as w:
        nodes = await w.join(2)
        for kind in MessageType:
            if kind is MessageType.PING:
                continue
            async with await nodes[0].host.new_stream(nodes[1].id, PROTOCOL) as stream:
                await stream.send_message(codec.encode(Message(type=kind)))
                with anyio.move_on_after(5), pytest.raises(Exception, match="reset"):
                    await stream.receive()
        assert await nodes[0].dht.ping(nodes[1].id) < 1


# --- the list -----------------------------------------------------------------------------------------


def test_every_behaviour_listed_in_the_docs_names_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", DOC)
    assert len(named) >= 35
    missing = []
    for file, name in named:
        tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
        if name not in {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}:
            missing.append(f"{file}::{name}")
    assert not missing


def test_every_behaviour_listed_in_the_docs_has_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \| .*$", DOC, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, len(rows) + 1))
    assert len(rows) >= 34
    assert all("::test_" in line for line in DOC.splitlines() if re.match(r"\| \d+ \|", line))
