"""Keeping the table filled: refreshes, repairs, and the eviction of the silent."""

from __future__ import annotations

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.kademlia import LookupConfig, common_prefix_length, key_of
from py_p2pstack.protocols.dht import LookupEnded, LookupStarted, QueryEvent, watching
from tests.protocols.dht.nodes import Node, in_virtual_time, settle, world


def started(events: list[QueryEvent]) -> list[bytes]:
    """The keys of the lookups begun."""
    return [each.key for each in events if isinstance(each, LookupStarted)]


def prefixes(node: Node, keys: list[bytes]) -> list[int]:
    return [common_prefix_length(key_of(key), node.dht.routing_table.local) for key in keys]


@in_virtual_time
async def test_a_refresh_looks_ourselves_up_and_then_one_key_for_each_prefix_length() -> None:
    async with world() as w:
        nodes = await w.join(8, lookup=LookupConfig(k=4))
        node, told = nodes[7], list[QueryEvent]()
        with watching(told.append):
            await node.dht._refresher.refresh(force=True)
        first, *rest = started(told)
        assert first == node.id.to_bytes()
        assert len(rest) >= 2
        assert prefixes(node, rest) == list(range(len(rest)))
        assert all(key[:2] == b"\x12\x20" and len(key) == 34 for key in rest)


@in_virtual_time
async def test_a_network_of_fewer_than_k_is_met_whole_by_the_first_lookup() -> None:
    async with world() as w:
        nodes = await w.join(8)
        node, told = nodes[7], list[QueryEvent]()
        with watching(told.append):
            await node.dht._refresher.refresh(force=True)
        assert started(told) == [node.id.to_bytes()]
        assert len(node.dht.routing_table) == 7
        # One that does not answer may know others: then the prefix lengths are looked up too.
        w.network.cut("1")
        with watching(told.append):
            await node.dht._refresher.refresh(force=True)
        assert len(started(told)) > 2


@in_virtual_time
async def test_a_table_is_not_repaired_while_it_is_refreshed() -> None:
    async with world() as w:
        nodes = await w.join(4)
        node, told = nodes[3], list[QueryEvent]()
        with watching(told.append):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: node.dht._refresher.refresh(force=True))
                await anyio.sleep(0.005)  # half of what an answer takes
                tasks.start_soon(node.dht._refresher.repair)
        assert started(told) == [node.id.to_bytes()]


@in_virtual_time
async def test_prefix_lengths_looked_up_lately_are_skipped_unless_forced() -> None:
    async with world() as w:
        nodes = await w.join(6, lookup=LookupConfig(k=4))
        node, told = nodes[5], list[QueryEvent]()
        with watching(told.append):
            await node.dht._refresher.refresh(force=False)
            assert started(told) == [node.id.to_bytes()]
            await anyio.sleep(601)
            await node.dht._refresher.refresh(force=False)
        assert len(started(told)) > 2


@in_virtual_time
async def test_a_refresh_that_is_forced_while_another_goes_on_repeats_none_of_its_prefix_lengths() -> None:
    """Who joins refreshes by itself; to ask for it meanwhile must not mean all of it twice."""
    async with world() as w:
        nodes = await w.join(8, lookup=LookupConfig(k=4))
        node, told = nodes[7], list[QueryEvent]()
        with watching(told.append):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: node.dht._refresher.refresh(force=True))
                await anyio.sleep(0.005)  # half of what an answer takes
                assert await node.dht.bootstrap() == len(node.dht.routing_table)
        keys = started(told)
        assert keys.count(node.id.to_bytes()) == 2  # others may have come to our neighbourhood
        rest = prefixes(node, [key for key in keys if key != node.id.to_bytes()])
        assert rest == list(range(len(rest)))
        assert len(rest) >= 2


@in_virtual_time
async def test_behind_a_gap_only_the_next_prefix_lengths_are_tried() -> None:
    async with world() as w:
        alice, bob = await w.start(2, lookup=LookupConfig(k=1, beta=1))
        await alice.meet(bob)
        # Bob seems to share ten bits with Alice, and nobody any fewer.
        entry = alice.dht.routing_table.get(bob.id)
        assert entry is not None
        entry.cpl = 10
        told: list[QueryEvent] = []
        with watching(told.append):
            await alice.dht._refresher.refresh(force=True)
        assert prefixes(alice, started(told)[1:]) == [0, 1, 2]


@in_virtual_time
async def test_a_silent_peer_is_asked_and_leaves_if_it_stays_silent() -> None:
    async with world() as w:
        nodes = await w.join(3)
        node = nodes[2]
        await anyio.sleep(2581)
        w.network.cut("1")
        await node.dht._refresher._evict_the_dead()
        assert list(node.dht.routing_table) == [nodes[0].id]
        entry = node.dht.routing_table.get(nodes[0].id)
        assert entry is not None
        assert entry.last_success_at > 2581


@in_virtual_time
async def test_nodes_left_alone_bootstrap_repair_and_refresh_by_themselves() -> None:
    async with world() as w:
        (hub,) = await w.start(1, auto_refresh=True)
        for _ in range(4):
            await w.start(1, auto_refresh=True, bootstrap_peers=(hub.host.peer_info,))
        assert len(w.nodes[1].dht.routing_table) == 0
        await anyio.sleep(130)  # the first look at the table after the start
        assert [len(node.dht.routing_table) for node in w.nodes] == [4] * 5
        told: list[QueryEvent] = []
        async with w.nodes[3].dht.watch() as events:
            await anyio.sleep(601)
            told = [await events.receive() for _ in range(len(events))]
        assert w.nodes[3].id.to_bytes() in started(told)
        assert any(isinstance(each, LookupEnded) for each in told)


@in_virtual_time
async def test_an_empty_table_is_filled_from_two_bootstrappers_past_the_dead_ones() -> None:
    async with world() as w:
        known = await w.start(6)
        for number in range(4):
            w.network.cut(str(number))
        peers = tuple(node.host.peer_info for node in known)
        (node,) = await w.start(1, bootstrap_peers=peers)
        assert await node.dht.bootstrap() == 2
        assert set(node.dht.routing_table) == {known[4].id, known[5].id}


@in_virtual_time
async def test_a_change_of_our_addresses_makes_us_look_ourselves_up() -> None:
    async with world() as w:
        hub, node = await w.start(1) + await w.start(1, auto_refresh=True)
        await node.meet(hub)
        async with node.dht.watch() as events:
            await node.host.network.listen(Multiaddr.parse("/memory/77"))
            await settle()
            told = [await events.receive() for _ in range(len(events))]
        assert node.id.to_bytes() in started(told)


@in_virtual_time
async def test_addresses_of_peers_in_the_table_outlive_their_connection() -> None:
    async with world() as w:
        hub, node = await w.start(1) + await w.start(1, auto_refresh=True)
        await node.meet(hub)
        await node.host.network.close_peer(hub.id)
        w.network.cut("0")
        for _ in range(5):
            await anyio.sleep(400)
            assert node.host.peerstore.addresses(hub.id) or hub.id not in node.dht.routing_table
