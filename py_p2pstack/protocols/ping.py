"""Ping: 32 random bytes there and back, as often as one likes, on one stream. Source: libp2p/specs, ping."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

import anyio

from py_p2pstack.core.network import Dialer
from py_p2pstack.core.stream import Stream, StreamHandler
from py_p2pstack.core.types import ProtocolId
from py_p2pstack.errors import OperationTimeout, RemoteProtocolError
from py_p2pstack.identity import PeerId

PROTOCOL = "/ipfs/ping/1.0.0"
SIZE = 32
IDLE_TIMEOUT = 60.0  # go cuts after 10 s, but rust pings every 15 s on one stream: let it keep its stream


class PingHost(Protocol):
    """What ping needs of a host."""

    @property
    def network(self) -> Dialer: ...

    def set_stream_handler(self, protocol: ProtocolId, handler: StreamHandler) -> None: ...

    async def new_stream(self, peer: PeerId, protocols: list[ProtocolId]) -> Stream: ...


async def serve_ping(stream: Stream) -> None:
    """Echo 32 bytes at a time until the peer closes, or says nothing for a minute."""
    stream.set_service("ping")
    while True:
        with anyio.move_on_after(IDLE_TIMEOUT):
            try:
                data = await stream.receive_exactly(SIZE)
            except anyio.IncompleteRead:
                return
            await stream.send(data)
            continue
        stream.reset()
        return


class PingService:
    """Answers pings and sends them."""

    def __init__(self, host: PingHost, *, timeout: float, clock: Callable[[], float]) -> None:
        """`clock` measures round trips: an event loop's own may have a resolution of milliseconds (uvloop)."""
        self._host = host
        self._timeout = timeout
        self._clock = clock
        host.set_stream_handler(PROTOCOL, serve_ping)

    async def ping(self, peer: PeerId) -> float:
        """Return one round-trip time in seconds; the peerstore's latency average takes it in.

        Raises OperationTimeout, DialError, NegotiationError, RemoteProtocolError (another answer than what was sent).
        """
        async with aclosing(self.pings(peer)) as rounds:
            return await anext(rounds)

    async def pings(self, peer: PeerId) -> AsyncGenerator[float, None]:
        """Ping as often as the iterator is asked, on one stream; each step is bounded by the timeout.

        Close the iterator (`contextlib.aclosing`) to close the stream.
        """
        peerstore = self._host.network.peerstore
        async with await self._host.new_stream(peer, [PROTOCOL]) as stream:
            while True:
                data = secrets.token_bytes(SIZE)
                start = self._clock()
                try:
                    with anyio.fail_after(self._timeout):
                        await stream.send(data)
                        answer = await stream.receive_exactly(SIZE)
                except TimeoutError:
                    raise OperationTimeout(f"no pong from {peer} within {self._timeout:g} s") from None
                except anyio.IncompleteRead:
                    raise RemoteProtocolError("the peer closed the stream instead of answering the ping") from None
                if answer != data:
                    raise RemoteProtocolError("the peer answered a ping with other bytes")
                rtt = self._clock() - start
                peerstore.record_latency(peer, rtt)
                yield rtt
