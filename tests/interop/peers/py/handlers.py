"""The test protocols this peer serves, and what their streams and connections left to tell."""

from __future__ import annotations

import trio
from libp2p.abc import IHost, INetConn, INetStream, INetwork, INotifee
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamEOF, StreamError, StreamReset
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr import Multiaddr

ECHO = TProtocol("/echo/1.0.0")
SINK = TProtocol("/sink/1.0.0")
RESET = TProtocol("/reset/1.0.0")
AWAIT_RESET = TProtocol("/await-reset/1.0.0")

MAX_STREAMS = 65_536
BLOCK = 65_536  # the library's own perf service reads this much at a time


class Handlers(INotifee):
    """Registers the protocols; remembers the last reset and the last close by the remote."""

    def __init__(self, host: IHost) -> None:
        self.reset_served = trio.Event()
        self.reset_end: ResetEnd | None = None
        self.closed_by_remote = trio.Event()
        self.closed_here: set[INetConn] = set()
        for protocol, handler in {ECHO: echo, SINK: sink, RESET: reset, AWAIT_RESET: self.await_reset}.items():
            host.set_stream_handler(protocol, handler)
        host.get_network().register_notifee(self)

    async def await_reset(self, stream: INetStream) -> None:
        self.reset_end = end = ResetEnd()
        self.reset_served.set()
        try:
            await stream.write(await read_exactly(stream, 1))
            end.reset = await ended_by_reset(stream)
        finally:
            end.over.set()
        await stream.close()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self.closed_by_remote = trio.Event()
        if isinstance(conn.muxed_conn, Yamux):
            # The library's own 256 count all streams that are open, not only those not yet acknowledged.
            conn.muxed_conn.stream_backlog_semaphore = trio.Semaphore(MAX_STREAMS)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        if conn in self.closed_here:
            self.closed_here.discard(conn)
        else:
            self.closed_by_remote.set()

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None: ...

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None: ...

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None: ...


class ResetEnd:
    """How a stream of /await-reset/1.0.0 ended, once `over` is set."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.reset = False


async def ended_by_reset(stream: INetStream) -> bool:
    """Read to the end. A read of limited size would take a reset for an end of input (seen with yamux in 0.8.1)."""
    try:
        while await stream.read():
            pass
    except StreamReset:
        return True
    except StreamEOF:
        pass
    return False


async def echo(stream: INetStream) -> None:
    try:
        while data := await stream.read(BLOCK):
            await stream.write(data)
    except StreamEOF:
        pass
    except StreamError:
        return
    await stream.close()


async def sink(stream: INetStream) -> None:
    count = 0
    try:
        while data := await stream.read(BLOCK):
            count += len(data)
    except StreamEOF:
        pass
    except StreamError:
        return
    await stream.write(count.to_bytes(8, "big"))
    await stream.close()


async def reset(stream: INetStream) -> None:
    await read_exactly(stream, 4)  # when, not with what: the library has no codes
    await stream.reset()
