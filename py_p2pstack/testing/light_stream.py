"""A stream of a light host: whole messages, handed over after their journey; what is lost on it never comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from py_p2pstack.core.stream import StreamHandler
from py_p2pstack.core.types import Buffer, Direction, ProtocolId
from py_p2pstack.errors import ConnectionClosed, MessageTooLarge, StreamClosed, StreamError, StreamReset
from py_p2pstack.event_loop import Signal
from py_p2pstack.identity import PeerId
from py_p2pstack.wire.framing import FrameDecoder

if TYPE_CHECKING:
    from py_p2pstack.testing.light_host import LightConnection

MAX_MESSAGE = 4 * 1024 * 1024  # bytes; what one `send` may hold of messages


class LightStream:
    """Implements `core.stream.Stream` for protocols that send and receive messages; bytes have no business here."""

    __slots__ = ("_ended", "_far", "_fault", "_handler", "_inbox", "_last_due", "_latency", "_waiter",
                 "connection", "direction", "id", "protocol", "remote_peer")  # fmt: skip

    def __init__(self, connection: LightConnection, number: int, direction: Direction, protocol: ProtocolId) -> None:
        """For the connection; see `pair`."""
        self.connection = connection
        self.id = number
        self.direction = direction
        self.protocol = protocol
        self.remote_peer: PeerId = connection.remote_peer
        self._latency = connection.latency
        self._handler: StreamHandler | None = None
        self._inbox: deque[bytes | None] = deque()
        self._waiter: Signal | None = None
        self._fault: StreamError | ConnectionClosed | None = None
        self._ended = False
        self._last_due = 0.0
        self._far: LightStream

    def set_service(self, service: str) -> None:
        """Nobody counts."""

    @classmethod
    def pair(
        cls, connection: LightConnection, number: int, protocol: ProtocolId, handler: StreamHandler
    ) -> LightStream:
        """Open a stream; at the other end `handler` serves it once something has arrived. Returns our end."""
        near = cls(connection, number, Direction.OUTBOUND, protocol)
        far = cls(connection.other, number, Direction.INBOUND, protocol)
        far._handler = handler
        near._far, far._far = far, near
        connection.streams[near] = None
        connection.other.streams[far] = None
        return near

    def __repr__(self) -> str:
        return f"<LightStream {self.protocol} {self.direction.value} {self.remote_peer}>"

    # --- sending ----------------------------------------------------------------------------------

    async def send_message(self, message: bytes) -> None:
        """Send one message. Never waits."""
        if self._fault is not None:
            raise copy(self._fault)
        if self._ended:
            raise StreamClosed("the stream was closed for writing")
        self._post(message)

    async def send(self, item: Buffer) -> None:
        """Send whole messages behind their lengths; half ones are a fault of the test."""
        decoder = FrameDecoder(MAX_MESSAGE)
        decoder.feed(item)
        for message in decoder:
            await self.send_message(message)
        assert not decoder.unread, "light streams carry whole messages"

    async def send_eof(self) -> None:
        """Close our side for writing."""
        if not self._ended and self._fault is None:
            self._ended = True
            self._post(None)

    def reset(self, code: int = 0) -> None:
        """End both directions and tell the peer."""
        if self._fault is None:
            far = self._far
            self._fail(StreamReset(code=code, remote=False))
            self._send_call(far._fail, StreamReset(code=code))

    async def aclose(self) -> None:
        """Close our side; what the peer still sends is dropped."""
        await self.send_eof()
        self._fail(StreamClosed("the stream was closed"))

    def _post(self, message: bytes | None) -> None:
        self._send_call(self._far._arrive, message)

    def _send_call(self, call: Callable[[Any], None], argument: object) -> None:
        connection = self.connection
        network = connection.light_network
        if network.reachable(connection.host.name, connection.remote.name):
            # The end of a stream is never lost: it would only keep a task that waits at the other end.
            lossless = not isinstance(argument, bytes)
            delay = self._latency if lossless else network.draw_delay(self._latency)
            due = max(network.clock() + delay, self._last_due)
            if due < float("inf"):
                self._last_due = due
                network.post_at(due, call, argument)

    # --- receiving --------------------------------------------------------------------------------

    async def receive_message(self, max_size: int) -> bytes:
        """Return the next message; raises anyio.EndOfStream behind the last."""
        while True:
            if self._fault is not None:
                raise copy(self._fault)
            if self._inbox:
                break
            self._waiter = self.connection.light_network.signal()
            try:
                await self._waiter.wait()
            finally:
                self._waiter = None
        message = self._inbox[0]
        if message is None:
            raise anyio.EndOfStream
        self._inbox.popleft()
        if len(message) > max_size:
            raise MessageTooLarge(f"a message of {len(message)} bytes; the limit is {max_size}")
        return message

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Bytes have no business here."""
        raise NotImplementedError("light streams carry messages")

    async def receive_exactly(self, count: int) -> bytes:
        """Bytes have no business here."""
        raise NotImplementedError("light streams carry messages")

    def _arrive(self, message: bytes | None) -> None:
        if self._fault is not None:
            return
        self._inbox.append(message)
        if self._handler is not None:
            handler, self._handler = self._handler, None
            self.connection.host.network.serve(self, handler)
        elif self._waiter is not None:
            self._waiter.set()

    def _fail(self, fault: StreamError | ConnectionClosed) -> None:
        """End here, for whatever reason."""
        if self._fault is None:
            self._fault = fault
            del self._far  # each holds the other: nobody else would let go of them
            self.connection.streams.pop(self, None)
            if self._waiter is not None:
                self._waiter.set()

    def lose(self, fault: ConnectionClosed) -> None:
        """The connection is gone."""
        self._fail(fault)

    # --- as a context -----------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        raise NotImplementedError("light streams carry messages")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None:
            await self.aclose()
        else:
            self.reset()
