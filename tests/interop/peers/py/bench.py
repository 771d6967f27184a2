"""The commands that measure speed."""

from __future__ import annotations

import os
import time

import trio
from commands import Node, Result, round_trips
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


BENCHMARKS = {function.__name__: function for function in (bench_bulk, bench_streams, bench_ping, bench_dial)}
