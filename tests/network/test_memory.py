"""What a peer may make us hold is in the books: receive windows grow at the expense of their connection's scopes."""

from __future__ import annotations

import anyio
import pytest

from py_p2pstack import Host, HostConfig, Stream
from py_p2pstack.network.resources import ResourceLimits, ScopeLimit
from py_p2pstack.testing import virtual_time
from tests.hosts import memory_hosts

SINK = "/sink/1.0.0"
MIB = 1 << 20


async def sink(stream: Stream) -> None:
    async for _ in stream:
        pass


async def pour(host: Host, other: Host) -> Stream:
    """Send enough, over a path of 100 ms, for the window of the one who reads to grow as far as it may."""
    stream = await host.new_stream(other.id, SINK)
    for _ in range(64):
        await stream.send(bytes(MIB))
    return stream


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_windows_grow_at_the_expense_of_their_peer_and_of_all(backend: str) -> None:
    async def main() -> None:
        async with memory_hosts(2, latency=0.05) as (alice, bob):
            bob.set_stream_handler(SINK, sink)
            await alice.connect(bob.peer_info)
            stream = await pour(alice, bob)
            stats = bob.network.resources.stats()
            [connection] = bob.network.conns()
            assert stats.system.memory == stats.peers[alice.id].memory == connection.scope.memory > 0
            await stream.aclose()
            await anyio.sleep(1)
            assert bob.network.resources.stats().system.memory == 0

    virtual_time.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_where_memory_is_short_windows_stay_small_and_bytes_still_flow(backend: str) -> None:
    limits = ResourceLimits(system=ScopeLimit(memory=MIB))

    async def main() -> None:
        async with memory_hosts(3, latency=0.05, options=[{"config": HostConfig(resources=limits)}]) as hosts:
            alice, *others = hosts
            alice.set_stream_handler(SINK, sink)
            for other in others:
                await other.connect(alice.peer_info)
            async with anyio.create_task_group() as tasks:
                for other in others:
                    tasks.start_soon(pour, other, alice)
            assert 0 < alice.network.resources.stats().system.memory <= MIB // 2

    virtual_time.run(main, backend=backend)
