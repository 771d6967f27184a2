"""The commands on peers, connections and streams."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import trio
from handlers import AWAIT_RESET, BLOCK, ECHO, RESET, Handlers, ended_by_reset
from libp2p.abc import IHost, INetConn, INetStream
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.io.utils import read_exactly
from libp2p.kad_dht.kad_dht import KadDHT
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils.varint import read_length_prefixed_protobuf
from multiaddr import Multiaddr

PATIENCE = 5.0  # seconds, of last_reset and last_close
Result = dict[str, Any]


class Node:
    """What the commands work on; `dht` is None with --dht off."""

    def __init__(self, host: IHost, handlers: Handlers, nodes: list[Node]) -> None:
        self.host = host
        self.nodes = nodes  # all of the process, this one among them
        self.handlers = handlers
        self.dht: KadDHT | None = None

    def connections(self, peer_id: str) -> list[INetConn]:
        """The connections to a peer; an error if there is none."""
        connections = self.host.get_network().get_connections(ID.from_string(peer_id))
        if not connections:
            raise ValueError(f"not connected to {peer_id}")
        return connections

    @asynccontextmanager
    async def stream(self, peer_id: str, protocol: TProtocol) -> AsyncIterator[INetStream]:
        """A stream on a connection there is; closed after the block, reset if that failed."""
        self.connections(peer_id)
        stream = await self.host.new_stream(ID.from_string(peer_id), [protocol])
        try:
            yield stream
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        await stream.close()


async def connect(node: Node, addr: str) -> Result:
    info = info_from_p2p_addr(Multiaddr(addr))
    await node.host.connect(info)
    connection = node.connections(str(info.peer_id))[0]
    return {
        "peer_id": str(info.peer_id),
        "security": connection.get_negotiated_security_protocol(),
        "muxer": connection.get_negotiated_muxer_protocol(),
    }


async def disconnect(node: Node, peer: str) -> None:
    node.handlers.closed_here.update(node.connections(peer))
    await node.host.disconnect(ID.from_string(peer))


async def peers(node: Node) -> Result:
    return {"peers": [str(each) for each in node.host.get_connected_peers()]}


async def round_trips(node: Node, peer: str, count: int) -> list[float]:
    """Seconds of each of `count` pings over one stream; the library itself tells whole milliseconds only."""
    seconds = []
    async with node.stream(peer, PING) as stream:
        for _ in range(count):
            start = trio.current_time()
            await perform_ping_roundtrip(stream)
            seconds.append(trio.current_time() - start)
    return seconds


async def ping(node: Node, peer: str, count: int) -> Result:
    return {"rtt_ms": [seconds * 1e3 for seconds in await round_trips(node, peer, count)]}


async def identify(node: Node, peer: str) -> Result:
    async with node.stream(peer, IDENTIFY) as stream:
        seen = Identify()
        seen.ParseFromString(await read_length_prefixed_protobuf(stream, use_varint_format=True))
    return {
        "agent": seen.agent_version,
        "protocol_version": seen.protocol_version,
        "protocols": list(seen.protocols),
        "listen_addrs": [str(Multiaddr(address)) for address in seen.listen_addrs],
        "observed_addr": str(Multiaddr(seen.observed_addr)) if seen.observed_addr else None,
        "key_type": deserialize_public_key(seen.public_key).get_type().name.lower(),
    }


async def echo(node: Node, peer: str, size: int, chunk: int) -> Result:
    data = os.urandom(size)
    received = bytearray()
    async with node.stream(peer, ECHO) as stream:

        async def write() -> None:
            for offset in range(0, size, chunk):
                await stream.write(data[offset : offset + chunk])
            await stream.close_write()

        async with trio.open_nursery() as tasks:
            tasks.start_soon(write)
            try:
                while piece := await stream.read(BLOCK):
                    received += piece
            except StreamEOF:
                pass
    return {"bytes": len(received), "ok": received == data}


async def read_all(stream: INetStream, count: int) -> bytes:
    """As `read_exactly`, which gives up when the bytes come in more than a hundred pieces."""
    received = bytearray()
    while len(received) < count:
        received += await stream.read(count - len(received))
    return bytes(received)


async def streams(node: Node, peer: str, count: int, size: int) -> Result:
    exchanged = 0
    all_exchanged = trio.Event()

    async def one() -> None:
        nonlocal exchanged
        data = os.urandom(size)
        async with node.stream(peer, ECHO) as stream:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(stream.write, data)
                if await read_all(stream, size) != data:
                    raise ValueError("an echo differs from what was sent")
            exchanged += 1
            if exchanged == count:
                all_exchanged.set()
            await all_exchanged.wait()
            await stream.close_write()
            if await ended_by_reset(stream):
                raise ValueError("a stream was reset instead of closed")

    async with trio.open_nursery() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return {"opened": exchanged}


async def reset(node: Node, peer: str, code: int) -> Result:
    async with node.stream(peer, RESET) as stream:
        await stream.write(code.to_bytes(4, "big"))
        return {"reset": await ended_by_reset(stream), "code": None}


async def send_reset(node: Node, peer: str, code: int) -> None:
    async with node.stream(peer, AWAIT_RESET) as stream:
        await stream.write(b"x")
        await read_exactly(stream, 1)
        await stream.reset()


async def last_reset(node: Node) -> Result:
    with trio.fail_after(PATIENCE):
        await node.handlers.reset_served.wait()
        end = node.handlers.reset_end
        assert end is not None
        await end.over.wait()
    return {"reset": end.reset, "code": None}


async def close(node: Node, peer: str, code: int) -> None:
    for connection in node.connections(peer):
        node.handlers.closed_here.add(connection)
        if isinstance(connection.muxed_conn, Yamux):
            await connection.muxed_conn.close(error_code=code)
        await connection.close()


async def last_close(node: Node) -> Result:
    with trio.fail_after(PATIENCE):
        await node.handlers.closed_by_remote.wait()
    node.handlers.closed_by_remote = trio.Event()
    return {"code": None}


async def stats(node: Node) -> Result:
    process = psutil.Process()
    cpu = process.cpu_times()
    return {
        "rss_kib": process.memory_info().rss // 1024,
        "cpu_seconds": cpu.user + cpu.system,
        "connections": len(node.host.get_network().get_connections()),
    }


COMMANDS = {
    function.__name__: function
    for function in (
        connect, disconnect, peers, ping, identify, echo, streams, reset, send_reset, last_reset, close, last_close,
        stats,
    )
}  # fmt: skip
