"""The commands on peers, connections and streams."""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio
import psutil
from anyio.abc import TaskGroup
from handlers import AWAIT_RESET, ECHO, RESET, Handlers
from tap import Tap

from py_p2pstack import Dht, Host, PeerId, PeerInfo, PrivateKey, StreamReset
from py_p2pstack.storage.memory import MemoryDatastore

Result = dict[str, Any]
Command = Callable[..., Awaitable[Result | None]]


class Peer:
    """What the commands work on: one node of this process."""

    def __init__(
        self, host: Host, identity: PrivateKey, handlers: Handlers, tasks: TaskGroup, nodes: list[Peer]
    ) -> None:
        self.host = host
        self.identity = identity
        self.nodes = nodes
        """All of the process, this one among them."""
        self.handlers = handlers
        self.tasks = tasks
        self._dht: Dht | None = None
        self.tap: Tap | None = None
        self.datastore: MemoryDatastore | None = None

    def serve_dht(self, dht: Dht, datastore: MemoryDatastore, tap: Tap | None) -> None:
        """From now on there is a DHT, where it keeps things, and perhaps a tap on what it serves."""
        self._dht, self.datastore, self.tap = dht, datastore, tap

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


async def stats(peer: Peer) -> Result:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    rss = psutil.Process().memory_info().rss // 1024
    connections = len(peer.host.network.conns())
    return {"rss_kib": rss, "cpu_seconds": usage.ru_utime + usage.ru_stime, "connections": connections}


COMMANDS: dict[str, Command] = {
    function.__name__: function
    for function in (
        connect, disconnect, peers, ping, identify, echo, streams, reset, send_reset, last_reset, close, last_close,
        stats,
    )
}  # fmt: skip
