"""The commands that measure speed."""

from __future__ import annotations

import os
import time

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


BENCHMARKS: dict[str, Command] = {
    function.__name__: function for function in (bench_bulk, bench_streams, bench_ping, bench_dial, bench_idle)
}
