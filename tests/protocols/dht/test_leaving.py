"""Leaving the block of a DHT while operations run: each ends with one typed error, and nothing is left behind."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from itertools import count

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, Host
from py_p2pstack.errors import DhtClosed, P2PError
from py_p2pstack.protocols.dht import DualDht, OptimisticConfig, ProviderConfig
from py_p2pstack.testing import virtual_time
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time, settle, wall_clock, world

KEY = "/v/greeting"
CID = "bafkreicu6unwomkhrak3sy22mex7eswalvik2mdeoyokwdhmheyapg3xei"
STEP = 0.07  # seconds: a lookup takes some moments of it


async def search_value(dht: Dht) -> None:
    async with dht.search_value(KEY) as values:
        async for _ in values:
            pass


async def find_providers(dht: Dht) -> None:
    async with dht.find_providers(CID, count=0) as providers:
        async for _ in providers:
            pass


OPERATIONS: dict[str, Callable[[Dht], Awaitable[object]]] = {
    "bootstrap": lambda dht: dht.bootstrap(),
    "find_node": lambda dht: dht.find_node(dht.host.network.peers()[0], b"key"),
    "find_peer": lambda dht: dht.find_peer(peer(12345)),
    "find_providers": find_providers,
    "get_closest_peers": lambda dht: dht.get_closest_peers(b"key"),
    "get_value": lambda dht: dht.get_value(KEY),
    "look_up": lambda dht: dht.look_up(b"key"),
    "ping": lambda dht: dht.ping(dht.host.network.peers()[0]),
    "provide": lambda dht: dht.provide(CID),
    "provide_many": lambda dht: dht.provide_many([CID]),
    "put_value": lambda dht: dht.put_value(KEY, b"hello"),
    "search_value": search_value,
    "stop_providing": lambda dht: dht.stop_providing(CID),
    "stop_publishing": lambda dht: dht.stop_publishing(KEY),
}


def streams_of(host: Host, protocol: str) -> list[object]:
    return [stream for each in host.network.conns() for stream in each.streams if stream.protocol == protocol]


def config() -> DhtConfig:
    return DhtConfig(mode="client", auto_refresh=False, providers=ProviderConfig(optimistic=OptimisticConfig()))


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_operation_that_is_left_at_any_moment_ends_at_once_with_one_error(backend: str, name: str) -> None:
    async def operate(dht: Dht, ends: list[str]) -> None:
        try:
            await OPERATIONS[name](dht)
        except P2PError as fault:
            ends.append(type(fault).__name__)
        else:
            ends.append("done")

    async def left_ever_later() -> list[str]:
        async with world(latency=0.1) as w:
            await w.join(5)
            await w.nodes[1].dht.put_value(KEY, b"old")
            await w.nodes[2].dht.provide(CID)
            host = await w.start_host()
            await host.connect(w.nodes[0].host.peer_info)
            await settle()
            ends: list[str] = []
            for moment in count():
                async with anyio.create_task_group() as tasks:
                    async with Dht(host, config(), wall_clock=wall_clock) as dht:
                        await settle()
                        tasks.start_soon(operate, dht, ends)
                        await anyio.sleep(moment * STEP)
                    left = anyio.current_time()
                assert anyio.current_time() == left
                assert len(ends) == moment + 1
                await settle()  # until the other side has heard of the end of the streams
                assert streams_of(host, dht.config.protocol) == []
                if ends[-1] != "DhtClosed":
                    return ends
        raise AssertionError

    ends = virtual_time.run(left_ever_later, backend=backend)
    assert set(ends[:-1]) <= {"DhtClosed"}
    assert ends[-1] in ("done", "PeerNotFound")


def test_no_operation_is_left_out() -> None:
    public = {
        name for name, method in vars(Dht).items() if not name.startswith("_") and callable(inspect.unwrap(method))
    }
    assert public - {"watch", "network_size"} == set(OPERATIONS)


@in_virtual_time
async def test_before_and_after_its_block_a_dht_refuses_every_operation() -> None:
    async with world() as w:
        (alice,) = await w.start()
        host = await w.start_host()
        await host.connect(alice.host.peer_info)
        dht = Dht(host, config())
        for _ in range(2):
            for operation in OPERATIONS.values():
                with pytest.raises(DhtClosed):
                    await operation(dht)
            async with dht:
                pass


@in_virtual_time
async def test_an_operation_of_both_dhts_ends_with_them() -> None:
    async with world(latency=0.1) as w:
        await w.join(5, prefix="/p2pstack/lan")
        host = await w.start_host()
        await host.connect(w.nodes[0].host.peer_info)
        await settle()
        failures: list[P2PError] = []

        async def find() -> None:
            try:
                await dht.find_peer(peer(12345))
            except P2PError as fault:
                failures.append(fault)

        async with anyio.create_task_group() as tasks, DualDht(host, config()) as dht:
            await settle()
            tasks.start_soon(find)
            await anyio.sleep(STEP)
        assert [type(failure) for failure in failures] == [DhtClosed]
