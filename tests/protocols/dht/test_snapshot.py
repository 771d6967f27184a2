"""A restarted node finds back by the peers it knew, without bootstrappers."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, PeerInfo
from py_p2pstack.core.datastore import Change
from py_p2pstack.errors import StorageError
from py_p2pstack.kademlia import key_of
from py_p2pstack.protocols.dht import LookupStarted, QueryEvent, watching
from py_p2pstack.protocols.dht.snapshot import GRACE, MAX_ASKED
from py_p2pstack.protocols.dht.storage import TableSnapshot
from py_p2pstack.storage import MemoryDatastore
from py_p2pstack.testing import virtual_time
from tests.hosts import memory_host
from tests.peer_ids import peer
from tests.protocols.dht.nodes import QUIET, Node, World, in_virtual_time, world

NUMBER = 900  # of the host that is restarted


@asynccontextmanager
async def life(w: World, datastore: MemoryDatastore, **config: Any) -> AsyncIterator[Node]:
    """One life of the node that is restarted."""
    async with memory_host(w.network, NUMBER) as host:
        settings = DhtConfig(**{**QUIET, **config})
        async with Dht(host, settings, datastore=datastore, rng=random.Random(1)) as dht:
            yield Node(host, dht)


async def live_once(w: World, datastore: MemoryDatastore, others: Sequence[Node]) -> set[object]:
    """Join, know everybody, and end."""
    async with life(w, datastore) as node:
        await node.host.connect(others[0].host.peer_info)
        await node.dht.bootstrap()
        return set(node.dht.routing_table)


@in_virtual_time
async def test_a_restarted_node_is_back_in_one_round_trip_without_bootstrappers() -> None:
    async with world() as w:
        others, datastore = await w.join(12), MemoryDatastore()
        known = await live_once(w, datastore, others)
        assert len(known) >= 10
        told: list[QueryEvent] = []
        start = anyio.current_time()
        with watching(told.append):
            async with life(w, datastore, auto_refresh=True) as node:
                while len(node.dht.routing_table) < len(known):
                    await anyio.sleep(0.001)
                # A dial, who they are, one question: all at once. The first lookup begins with all of them.
                assert anyio.current_time() - start < 0.2
                started = [each for each in told if isinstance(each, LookupStarted)]
                assert not started or set(started[0].seeds) == known
                assert set(node.dht.routing_table) == known
                assert (await node.dht.find_peer(others[-1].id)).peer_id == others[-1].id


@in_virtual_time
async def test_an_operation_right_after_the_restart_finds_peers_to_ask() -> None:
    async with world() as w:
        others, datastore = await w.join(5), MemoryDatastore()
        await live_once(w, datastore, others)
        async with life(w, datastore) as node:
            assert await node.dht.get_closest_peers(b"key")


@in_virtual_time
async def test_peers_that_are_gone_cost_a_second_and_bootstrappers_are_the_last_resort() -> None:
    async with world() as w:
        others, datastore = await w.join(5), MemoryDatastore()
        snapshot = TableSnapshot(datastore)
        gone = [PeerInfo(peer(number), others[0].host.peer_info.addresses) for number in range(20)]
        await snapshot.save([*gone, others[1].host.peer_info])
        w.network.cut("3")
        silent = others[3].host.peer_info
        await snapshot.save([*gone, silent, others[1].host.peer_info])
        async with life(w, datastore) as node:
            start = anyio.current_time()
            await node.dht._refresher.gather()
            assert list(node.dht.routing_table) == [others[1].id]
            assert anyio.current_time() - start < GRACE + 0.3
        await snapshot.save([*gone, silent])
        async with life(w, datastore, bootstrap_peers=(others[2].host.peer_info,)) as node:
            await node.dht._refresher.gather()
            assert list(node.dht.routing_table) == [others[2].id]


@in_virtual_time
async def test_the_picture_is_taken_after_each_refresh_and_at_the_end_but_never_of_an_empty_table() -> None:
    async with world() as w:
        others, datastore = await w.join(4), MemoryDatastore()
        snapshot = TableSnapshot(datastore)
        async with life(w, datastore) as node:
            await node.meet(others[0])
            assert await snapshot.load() == []
            await node.dht._refresher.refresh(force=False)
            assert len(await snapshot.load()) == len(node.dht.routing_table) > 1
            saved = {each.peer_id: each for each in await snapshot.load()}
            assert saved[others[0].id].addresses == others[0].host.peer_info.addresses
        assert {each.peer_id for each in await snapshot.load()} == set(saved)
        for name in range(4):
            w.network.cut(str(name))
        async with life(w, datastore):
            pass
        assert {each.peer_id for each in await snapshot.load()} == set(saved)


class Broken(MemoryDatastore):
    """Does nothing but fail."""

    async def get(self, key: bytes) -> bytes | None:
        raise StorageError("the disk is on fire")

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        raise StorageError("the disk is on fire")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_broken_datastore_is_told_of_and_no_more(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with world() as w:
            (other,) = await w.start(1)
            async with life(w, Broken()) as node:
                await node.dht._refresher.gather()
                await node.meet(other)
                assert len(node.dht.routing_table) == 1

    with caplog.at_level(logging.WARNING):
        virtual_time.run(work, backend=backend)
    assert "could not be restored" in caplog.text
    assert "could not be saved" in caplog.text


@in_virtual_time
async def test_a_long_picture_is_asked_in_part_and_its_first_peers_are_from_all_distances() -> None:
    async with world() as w:
        others, datastore = await w.join(12), MemoryDatastore()
        await live_once(w, datastore, others)
        saved = await TableSnapshot(datastore).load()
        async with life(w, datastore) as node:
            table = node.dht.routing_table
            cpls = [(table.local ^ key_of(each.peer_id.to_bytes())).bit_length() for each in saved]
            first = cpls[: len(set(cpls))]
            assert len(set(first)) == len(first)
            asked: list[object] = []

            async def find_node(who: object, key: bytes) -> list[PeerInfo]:
                asked.append(who)
                return []

            node.dht._node.find_node = find_node  # type: ignore[assignment, method-assign]
            address = others[0].host.peer_info.addresses
            await TableSnapshot(datastore).save([PeerInfo(peer(number), address) for number in range(MAX_ASKED + 9)])
            await node.dht._refresher.gather()
            assert set(asked) == {peer(number) for number in range(MAX_ASKED)}
