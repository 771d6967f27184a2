"""The commands that measure speed."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus
from commands import Command, Peer, Result, ping
from handlers import ECHO, SINK

from py_p2pstack import Host, PeerId, PeerInfo


async def bench_bulk(peer: Peer, peer_id: str, seconds: float, chunk: int) -> Result:
    data = os.urandom(chunk)
    async with await peer.host.new_stream(PeerId.parse(peer_id), SINK) as stream:
        start = time.perf_counter()
        end = start + seconds
        while time.perf_counter() < end:
            for _ in range(16):
                await stream.send(data)
        await stream.send_eof()
        count = int.from_bytes(await stream.receive_exactly(8), "big")
    return {"bytes": count, "seconds": time.perf_counter() - start}


async def bench_streams(peer: Peer, peer_id: str, seconds: float, concurrency: int) -> Result:
    who = PeerId.parse(peer_id)
    count = 0
    start = time.perf_counter()
    end = start + seconds

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < end:
            async with await peer.host.new_stream(who, ECHO) as stream:
                await stream.send(b"x")
                await stream.receive_exactly(1)
            count += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(work)
    return {"count": count, "seconds": time.perf_counter() - start}


async def bench_ping(peer: Peer, peer_id: str, count: int) -> Result:
    rtts = sorted((await ping(peer, peer_id, count))["rtt_ms"])
    return {"p50_us": rtts[len(rtts) // 2] * 1e3, "p99_us": rtts[int(len(rtts) * 0.99)] * 1e3}


async def bench_dial(peer: Peer, addr: str, count: int) -> Result:
    info = PeerInfo.parse(addr)
    peer.host.peerstore.add_addresses(info.peer_id, info.addresses, 3600)
    start = time.perf_counter()
    for _ in range(count):
        connection = await peer.host.network.dial_peer(info.peer_id)
        await connection.aclose()
    return {"count": count, "seconds": time.perf_counter() - start}


async def bench_idle(peer: Peer, addr: str, count: int) -> None:
    """Connect `count` hosts of their own to an address and keep them: what the listener then holds is idle."""
    for _ in range(count):
        await peer.tasks.start(_keep_connected, addr)


async def _keep_connected(addr: str, *, task_status: TaskStatus[None]) -> None:
    async with Host() as host:
        await host.connect(addr)
        task_status.started()
        await anyio.sleep_forever()


async def dht_join(peer: Peer, addr: str) -> Result:
    """All nodes of this process connect to one address and fill their tables, at once."""
    info = PeerInfo.parse(addr)

    async def join(node: Peer) -> None:
        if node.host.id != info.peer_id:
            await node.host.connect(info)
            await node.dht.bootstrap()

    async with anyio.create_task_group() as tasks:
        for node in peer.nodes:
            tasks.start_soon(join, node)
    return {"tables": [len(node.dht.routing_table) for node in peer.nodes]}


async def bench_put(peer: Peer, prefix: str, count: int, concurrency: int, size: int) -> Result:
    async def one(index: int) -> None:
        result = await peer.dht.put_value(f"/v/{prefix} {index}", os.urandom(size))
        replicas.append(len(result.replicas))

    replicas: list[int] = []
    seconds = await _timed(one, count, concurrency)
    return {"count": count, "seconds": seconds, "replicas": min(replicas)}


async def bench_get(peer: Peer, prefix: str, count: int, concurrency: int, size: int, quorum: int = 1) -> Result:
    async def one(index: int) -> None:
        if len(await peer.dht.get_value(f"/v/{prefix} {index}", quorum=quorum)) != size:
            raise ValueError("another value")

    assert peer.datastore is not None
    while stored := await peer.datastore.scan(b""):  # no local copies
        await peer.datastore.write([(key, None) for key, _ in stored])
    return {"count": count, "seconds": await _timed(one, count, concurrency)}


async def _timed(work: Callable[[int], Awaitable[None]], count: int, concurrency: int) -> float:
    """Seconds for `count` pieces of work, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    start = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(worker)
    return time.perf_counter() - start


BENCHMARKS: dict[str, Command] = {
    function.__name__: function
    for function in (
        bench_bulk, bench_streams, bench_ping, bench_dial, bench_idle, dht_join, bench_put, bench_get,
    )
}  # fmt: skip
