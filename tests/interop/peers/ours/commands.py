"""The commands of the interop contract."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import psutil
from anyio.abc import TaskGroup, TaskStatus
from handlers import AWAIT_RESET, ECHO, RESET, SINK, Handlers

from py_p2pstack import Dht, Host, PeerId, PeerInfo, StreamReset

Result = dict[str, Any]


class Peer:
    """What the commands work on."""

    def __init__(self, host: Host, dht: Dht | None, handlers: Handlers, tasks: TaskGroup) -> None:
        self.host = host
        self._dht = dht
        self.handlers = handlers
        self.tasks = tasks

    @property
    def dht(self) -> Dht:
        if self._dht is None:
            raise ValueError("started with --dht off")
        return self._dht


async def connect(peer: Peer, addr: str) -> Result:
    info = PeerInfo.parse(addr)
    await peer.host.connect(info)
    details = peer.host.network.conns_to_peer(info.peer_id)[0].info
    return {"peer_id": str(info.peer_id), "security": details.security, "muxer": details.muxer}


async def disconnect(peer: Peer, peer_id: str) -> None:
    await peer.host.network.close_peer(PeerId.parse(peer_id))


async def peers(peer: Peer) -> Result:
    return {"peers": [str(each) for each in peer.host.network.peers()]}


async def ping(peer: Peer, peer_id: str, count: int) -> Result:
    rtts = []
    async with aclosing(peer.host.pings(PeerId.parse(peer_id))) as rounds:
        for _ in range(count):
            rtts.append(await anext(rounds) * 1e3)
    return {"rtt_ms": rtts}


async def identify(peer: Peer, peer_id: str) -> Result:
    store, who = peer.host.peerstore, PeerId.parse(peer_id)
    key = store.public_key(who)
    return {
        "agent": store.get(who, "AgentVersion"),
        "protocol_version": store.get(who, "ProtocolVersion"),
        "protocols": sorted(store.protocols(who)),
        "listen_addrs": [str(address) for address in store.addresses(who)],
        "observed_addr": peer.handlers.observed.get(who),
        "key_type": key.key_type.name.lower() if key else None,
    }


async def echo(peer: Peer, peer_id: str, size: int, chunk: int) -> Result:
    data = os.urandom(size)
    received = bytearray()
    async with await peer.host.new_stream(PeerId.parse(peer_id), ECHO) as stream:

        async def write() -> None:
            for offset in range(0, size, chunk):
                await stream.send(data[offset : offset + chunk])
            await stream.send_eof()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            async for piece in stream:
                received += piece
    return {"bytes": len(received), "ok": received == data}


async def streams(peer: Peer, peer_id: str, count: int, size: int) -> Result:
    who = PeerId.parse(peer_id)
    exchanged = 0
    all_done = anyio.Event()

    async def one() -> None:
        nonlocal exchanged
        async with await peer.host.new_stream(who, ECHO) as stream:
            data = os.urandom(size)
            await stream.send(data)
            if await stream.receive_exactly(size) != data:
                raise ValueError("other bytes came back")
            exchanged += 1
            if exchanged == count:
                all_done.set()
            await all_done.wait()
            await stream.send_eof()
            async for _ in stream:
                raise ValueError("more bytes came back")

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return {"opened": exchanged}


async def reset(peer: Peer, peer_id: str, code: int) -> Result:
    stream = await peer.host.new_stream(PeerId.parse(peer_id), RESET)
    await stream.send(code.to_bytes(4, "big"))
    try:
        async for _ in stream:
            pass
    except StreamReset as fault:
        return {"reset": True, "code": fault.code}
    return {"reset": False, "code": None}


async def send_reset(peer: Peer, peer_id: str, code: int) -> None:
    stream = await peer.host.new_stream(PeerId.parse(peer_id), AWAIT_RESET)
    await stream.send(b"x")
    await stream.receive_exactly(1)
    stream.reset(code)


async def last_reset(peer: Peer) -> Result:
    with anyio.move_on_after(5):
        await peer.handlers.reset_seen.wait()
    code = peer.handlers.reset_code
    return {"reset": code is not None, "code": code}


async def close(peer: Peer, peer_id: str, code: int) -> None:
    for connection in peer.host.network.conns_to_peer(PeerId.parse(peer_id)):
        await connection.aclose(code)


async def last_close(peer: Peer) -> Result:
    with anyio.move_on_after(5):
        await peer.handlers.close_seen.wait()
    code, peer.handlers.close_code = peer.handlers.close_code, None
    peer.handlers.close_seen = anyio.Event()  # each close is told once
    return {"code": code}


def _infos(infos: list[PeerInfo]) -> list[Result]:
    return [{"id": str(info.peer_id), "addrs": [str(address) for address in info.addresses]} for info in infos]


async def find_node(peer: Peer, peer_id: str, target: str) -> Result:
    return {"closer": _infos(await peer.dht.find_node(PeerId.parse(peer_id), PeerId.parse(target).to_bytes()))}


async def find_peer(peer: Peer, target: str) -> Result:
    return _infos([await peer.dht.find_peer(PeerId.parse(target))])[0]


async def bootstrap(peer: Peer) -> None:
    await peer.dht.bootstrap()


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


async def stats(peer: Peer) -> Result:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    rss = psutil.Process().memory_info().rss // 1024
    connections = len(peer.host.network.conns())
    return {"rss_kib": rss, "cpu_seconds": usage.ru_utime + usage.ru_stime, "connections": connections}


COMMANDS: dict[str, Callable[..., Awaitable[Result | None]]] = {
    function.__name__: function
    for function in (
        connect, disconnect, peers, ping, identify, echo, streams, reset, send_reset, last_reset, close, last_close,
        find_node, find_peer, bootstrap, bench_bulk, bench_streams, bench_ping, bench_dial, bench_idle, stats,
    )
}  # fmt: skip
