"""One stream of a session: a machine's books, and the waiting of those who read and write it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING

import anyio

from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import StreamClosed
from py_p2pstack.event_loop import Signal
from py_p2pstack.muxers.outbox import CONNECTION_HIGH
from py_p2pstack.muxers.stream_state import StreamState

if TYPE_CHECKING:
    from py_p2pstack.muxers.session import Session

_STREAM_HIGH = 448 * 1024  # bytes queued in a stream above which its sender waits
_STREAM_LOW = 256 * 1024  # … until no more than this is left


class SessionStream(StreamState):
    """One stream of a session; implements `core.muxer.MuxedStream`."""

    __slots__ = ("_drained", "_readable", "_session", "on_end")

    def __init__(self, session: Session, stream_id: int, *, inbound: bool, flags: int) -> None:
        super().__init__(stream_id, inbound=inbound, flags=flags)
        self._session = session
        self._readable: Signal | None = None
        self._drained: Signal | None = None
        self.on_end: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<SessionStream {self.id} {self.unread} unread, {self.queued} unsent>"

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """See `MuxedStream.receive`."""
        while not self.received:
            if self.remote_fin and not self.discarding:
                raise anyio.EndOfStream
            if self.fault is not None:
                raise copy(self.fault) from self.fault.__cause__
            if self.discarding:
                raise StreamClosed("the stream was closed")
            if self._readable is not None:
                raise anyio.BusyResourceError("receiving from")
            if self.flags:
                self._session.outbox.flush()
            self._readable = self._session.signal()
            try:
                await self._readable.wait()
            finally:
                self._readable = None
        return self._session.read(self, max_bytes)

    async def send(self, item: Buffer) -> None:
        """See `MuxedStream.send`."""
        session = self._session
        machine = session.machine
        if self.queued > _STREAM_HIGH:
            await self._wait_for_room()
        if session.outbox.stuck and self.fault is None:
            await self._wait_turn()
        machine.send_data(self, item)
        if self.queued > _STREAM_HIGH or machine.queued > CONNECTION_HIGH:
            await self._wait_drained(_STREAM_LOW if machine.queued <= CONNECTION_HIGH else 0)
        else:
            session.outbox.flush()

    def send_soon(self, item: bytes) -> None:
        """See `MuxedStream.send_soon`."""
        self._session.machine.send_data(self, item)
        self._session.outbox.flush()

    async def _wait_for_room(self) -> None:
        """Sends cancelled before this one left too much behind."""
        try:
            await self._wait_drained(_STREAM_LOW)
        except anyio.get_cancelled_exc_class():
            self.reset()
            raise

    async def _wait_turn(self) -> None:
        """Queue nothing while the pipe is stuck; a reset or the connection's end wakes too."""
        if self._drained is not None:
            raise anyio.BusyResourceError("sending to")
        turn = self._drained = self._session.outbox.take_turn()
        try:
            await turn.wait()
        except BaseException:
            self._session.outbox.pass_turn(turn)
            raise
        finally:
            self._drained = None
        if self.fault is not None:
            self._session.outbox.pass_turn(turn)

    async def _wait_drained(self, low: int) -> None:
        if self._drained is not None:
            raise anyio.BusyResourceError("sending to")
        self.drain_at = low
        self._drained = self._session.signal()
        try:
            self._session.outbox.flush()
            await self._drained.wait()
        finally:
            self._drained = None
            self.drain_at = -1
        if self.fault is not None:
            raise copy(self.fault) from self.fault.__cause__

    async def send_eof(self) -> None:
        """See `MuxedStream.send_eof`."""
        self._session.machine.send_eof(self)
        self._session.outbox.flush_later()

    def reset(self, code: int = 0) -> None:
        """See `MuxedStream.reset`."""
        self._session.reset(self, code)

    async def aclose(self) -> None:
        """See `MuxedStream.aclose`."""
        session = self._session
        session.machine.send_eof(self)
        if not (self.remote_fin or self.discarding) or self.unread:
            session.machine.discard(self, anyio.current_time())
            if self._readable is not None:
                self._readable.set()
        session.outbox.flush_later()

    # --- called by the session --------------------------------------------------------------------

    def wake_reader(self) -> None:
        """Something came."""
        if self._readable is not None:
            self._readable.set()

    def wake_sender(self) -> None:
        """What was queued is out, or never will be."""
        if self._drained is not None:
            self._drained.set()

    def tell_end(self) -> None:
        """Both directions have ended."""
        self.wake_reader()
        self.wake_sender()
        callback, self.on_end = self.on_end, None
        if callback is not None:
            callback()
