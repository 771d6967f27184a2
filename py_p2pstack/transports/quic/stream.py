"""One stream of a QUIC connection: what came and was not read yet, and the waiting of those who read and write it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

import anyio

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import StreamClosed, StreamReset
from py_p2pstack.event_loop import Signal

if TYPE_CHECKING:
    from py_p2pstack.transports.quic.streams import QuicStreams

CONNECTION_HIGH = 512 * 1024  # bytes unsent in all streams above which each sender waits for its own to be out
_SMALL = 4096  # bytes below which pieces are gathered in one buffer
_GATHERED = 64 * 1024  # bytes at which a gathering buffer is full
_HIGH = 320 * 1024  # bytes unsent in a stream above which its sender waits
_LOW = 192 * 1024  # … until no more than this is left


class QuicStream:
    """Implements `core.muxer.MuxedStream`."""

    __slots__ = (
        "_drained",
        "_readable",
        "_streams",
        "capacity",
        "consumed",
        "credit",
        "discarding",
        "drain_at",
        "ended",
        "fault",
        "fin_sent",
        "granted",
        "granted_at",
        "id",
        "on_end",
        "queued",
        "received",
        "refused",
        "remote_fin",
        "send_fault",
        "taken",
        "unread",
        "written",
    )

    def __init__(self, streams: QuicStreams, stream_id: int, *, window: int, credit: int) -> None:
        self._streams = streams
        self.id = stream_id
        self.received: list[bytes | bytearray | memoryview] = []
        self.unread = 0
        """Bytes in `received`."""
        self.taken = 0
        """Bytes received ever."""
        self.consumed = 0
        """Bytes the application took ever."""
        self.capacity = window
        """Bytes that may be received and not consumed."""
        self.granted = window
        """Bytes the peer may send ever, as we told it."""
        self.granted_at = float("-inf")
        """When that was."""
        self.remote_fin = False
        """Nothing more comes: the peer ended or reset its side."""
        self.discarding = False
        """Nobody will read."""
        self.refused = False
        """… and the peer was asked to send no more."""
        self.fault: Exception | None = None
        """Why nothing can be received any more: a reset, or the connection's end."""
        self.send_fault: Exception | None = None
        """Why nothing can be sent any more."""
        self.fin_sent = False
        self.queued = 0
        """Bytes handed to QUIC and not sent yet."""
        self.written = 0
        """Bytes handed to QUIC ever."""
        self.credit = credit
        """Bytes the peer lets us send ever."""
        self.drain_at = -1
        """A sender waits until `queued` is no more than this; -1: none waits."""
        self.ended = False
        self.on_end: Callable[[], None] | None = None
        self._readable: Signal | None = None
        self._drained: Signal | None = None

    def __repr__(self) -> str:
        return f"<QuicStream {self.id} {self.unread} unread, {self.queued} unsent>"

    # --- receiving --------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `MuxedStream.receive`."""
        while not self.received:
            if self.remote_fin and self.fault is None and not self.discarding:
                raise anyio.EndOfStream
            if self.fault is not None:
                raise copy(self.fault) from self.fault.__cause__
            if self.discarding:
                raise StreamClosed("the stream was closed")
            if self._readable is not None:
                raise anyio.BusyResourceError("receiving from")
            self._readable = self._streams.signal()
            try:
                await self._readable.wait()
            finally:
                self._readable = None
        data = self._take(max_bytes)
        self._streams.consumed(self, len(data))
        return data

    def _take(self, max_bytes: int) -> bytes:
        received = self.received
        piece = received[0]
        if len(piece) <= max_bytes:
            del received[0]
            self.unread -= len(piece)
            return piece if type(piece) is bytes else bytes(piece)
        self.unread -= max_bytes
        view = piece if type(piece) is memoryview else memoryview(bytes(piece))
        received[0] = view[max_bytes:]
        return bytes(view[:max_bytes])

    def deliver(self, data: bytes) -> None:
        """Take in what came; small pieces are gathered, so that many cost no more than their bytes."""
        self.unread += len(data)
        received = self.received
        if len(data) < _SMALL and received:
            tail = received[-1]
            if type(tail) is bytearray and len(tail) < _GATHERED:
                tail += data
                return
            if len(tail) < _SMALL:
                received[-1] = bytearray(tail) + data
                return
        received.append(data)

    @property
    def expects(self) -> bool:
        """Whether more may come that somebody reads."""
        return not (self.remote_fin or self.discarding or self.fault is not None)

    def drop(self) -> int:
        """Forget what was not read; returns how many bytes that were."""
        size = self.unread
        self.received.clear()
        self.unread = 0
        return size

    # --- sending ----------------------------------------------------------------------------------

    async def send(self, item: Buffer) -> None:
        """See `MuxedStream.send`."""
        outflow = self._streams.outflow
        if self.queued > _HIGH:  # cancelled sends left too much behind
            try:
                await self._wait_drained(_LOW)
            except anyio.get_cancelled_exc_class():
                self.reset()
                raise
        while outflow.stuck and self.send_fault is None:
            await outflow.wait_turn()
        if self.fin_sent or self.send_fault is not None:
            self.check_sending()
        if not len(item):
            return
        self._streams.write(self, item)
        if self.queued > _HIGH or outflow.queued > CONNECTION_HIGH:
            await self._wait_drained(_LOW if outflow.queued <= CONNECTION_HIGH else 0)

    def send_soon(self, item: bytes) -> None:
        """See `MuxedStream.send_soon`."""
        self.check_sending()
        if item:
            self._streams.write(self, item)

    def check_sending(self) -> None:
        """Raise why nothing can be sent, if so."""
        if self.send_fault is not None:
            raise copy(self.send_fault) from self.send_fault.__cause__
        if self.fin_sent:
            raise StreamClosed("the stream was closed for writing")

    async def _wait_drained(self, low: int) -> None:
        if self._drained is not None:
            raise anyio.BusyResourceError("sending to")
        if self.queued <= low:
            return
        self.drain_at = low
        self._drained = self._streams.signal()
        try:
            await self._drained.wait()
        finally:
            self._drained = None
            self.drain_at = -1
        if self.send_fault is not None:
            raise copy(self.send_fault) from self.send_fault.__cause__

    async def send_eof(self) -> None:
        """See `MuxedStream.send_eof`."""
        self._streams.write_eof(self)

    def reset(self, code: int = 0) -> None:
        """See `MuxedStream.reset`."""
        self._streams.reset(self, code)

    async def aclose(self) -> None:
        """See `MuxedStream.aclose`."""
        self._streams.close(self)

    # --- called by the connection -----------------------------------------------------------------

    def wake_reader(self) -> None:
        """Something came, or nothing ever will."""
        if self._readable is not None:
            self._readable.set()

    def wake_sender(self) -> None:
        """What was queued is out, or never will be."""
        if self._drained is not None:
            self._drained.set()

    def fail(self, fault: Exception) -> None:
        """Nothing can be received or sent any more. A reset drops what was not read, the connection's end leaves it."""
        if isinstance(fault, StreamReset):
            self.remote_fin = False
        if self.fault is None and not (self.remote_fin and not self.discarding):
            self.fault = fault
        if self.send_fault is None:
            self.send_fault = fault
        self.queued = 0
        self.wake_reader()
        self.wake_sender()

    def settle(self) -> bool:
        """Tell the end, once, if both directions have ended; returns whether it was told now."""
        if self.ended or self.expects or not (self.fin_sent or self.send_fault is not None):
            return False
        self.ended = True
        callback, self.on_end = self.on_end, None
        if callback is not None:
            callback()
        return True
