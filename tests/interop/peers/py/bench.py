"""The commands that measure speed."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable

import trio
from commands import Node, Result, round_trips
from dht import bootstrap, dht_of
from handlers import ECHO, SINK
from libp2p.io.utils import read_exactly
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr


async def bench_bulk(node: Node, peer: str, seconds: float, chunk: int) -> Result:
    data = os.urandom(chunk)
    async with node.stream(peer, SINK) as stream:
        start = time.perf_counter()
        end = start + seconds
        while time.perf_counter() < end:
            await stream.write(data)
        await stream.close_write()
        count = int.from_bytes(await read_exactly(stream, 8), "big")
        elapsed = time.perf_counter() - start
    return {"bytes": count, "seconds": elapsed}


async def bench_streams(node: Node, peer: str, seconds: float, concurrency: int) -> Result:
    count = 0
    start = time.perf_counter()
    end = start + seconds

    async def work() -> None:
        nonlocal count
        while time.perf_counter() < end:
            async with node.stream(peer, ECHO) as stream:
                await stream.write(b"x")
                await read_exactly(stream, 1)
            count += 1

    async with trio.open_nursery() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(work)
    return {"count": count, "seconds": time.perf_counter() - start}


async def bench_ping(node: Node, peer: str, count: int) -> Result:
    rtts = sorted(await round_trips(node, peer, count))
    return {"p50_us": rtts[len(rtts) // 2] * 1e6, "p99_us": rtts[len(rtts) * 99 // 100] * 1e6}


async def bench_dial(node: Node, addr: str, count: int) -> Result:
    info = info_from_p2p_addr(Multiaddr(addr))
    network = node.host.get_network()
    if network.get_connections(info.peer_id):
        raise ValueError("connected already: a dial would find that connection")
    node.host.get_peerstore().add_addrs(info.peer_id, info.addrs, 3600)
    start = time.perf_counter()
    for _ in range(count):
        for connection in await network.dial_peer(info.peer_id):
            node.handlers.closed_here.add(connection)
            await connection.close()
    return {"count": count, "seconds": time.perf_counter() - start}


async def dht_join(node: Node, addr: str) -> Result:
    """All nodes of this process connect to one address and fill their tables, at once."""
    info = info_from_p2p_addr(Multiaddr(addr))

    async def join(each: Node) -> None:
        if each.host.get_id() != info.peer_id:
            await each.host.connect(info)
            await bootstrap(each)

    async with trio.open_nursery() as tasks:
        for each in node.nodes:
            tasks.start_soon(join, each)
    return {"tables": [dht_of(each).get_routing_table_size() for each in node.nodes]}


async def bench_put(node: Node, prefix: str, count: int, concurrency: int, size: int) -> Result:
    async def one(index: int) -> None:
        await dht_of(node).put_value(f"/v/{prefix} {index}", os.urandom(size))

    return {"count": count, "seconds": await timed(one, count, concurrency), "replicas": None}


async def bench_get(node: Node, prefix: str, count: int, concurrency: int, size: int, quorum: int = 1) -> Result:
    async def one(index: int) -> None:
        value = await dht_of(node).get_value(f"/v/{prefix} {index}", quorum)
        if value is None or len(value) != size:
            raise ValueError("another value, or none")

    dht_of(node).value_store.store.clear()  # no local copies
    return {"count": count, "seconds": await timed(one, count, concurrency)}


async def timed(work: Callable[[int], Awaitable[None]], count: int, concurrency: int) -> float:
    """Seconds for `count` pieces of work, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    start = time.perf_counter()
    async with trio.open_nursery() as tasks:
        for _ in range(concurrency):
            tasks.start_soon(worker)
    return time.perf_counter() - start


BENCHMARKS = {
    function.__name__: function
    for function in (bench_bulk, bench_streams, bench_ping, bench_dial, dht_join, bench_put, bench_get)
}
