"""The session: drives a muxer machine over a raw connection, one task reading, one writing, and lets streams wait.

Measured rules behind it (docs/performance.md): the buffers for reading and sealing are shared by all sessions of a
thread, since nothing awaits while they are in use; an idle session holds none. What is sent in the turn that follows a
read goes out with one call behind it. How things leave is the outbox's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.muxer import ConnectionInfo, MemoryBudget, MuxedStream
from py_p2pstack.core.security import RecordLayer
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Buffer, Direction
from py_p2pstack.errors import ConnectionClosed, P2PError, RemoteProtocolError
from py_p2pstack.event_loop import clock, signals
from py_p2pstack.muxers.machine import Event, MuxerMachine, StreamEnded, StreamOpened, StreamReadable
from py_p2pstack.muxers.mplex.config import MplexConfig
from py_p2pstack.muxers.outbox import Outbox
from py_p2pstack.muxers.stream import SessionStream
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.muxers.yamux.config import YamuxConfig
from py_p2pstack.muxers.yamux.machine import YamuxMachine
from py_p2pstack.turns import Turns
from py_p2pstack.wire.scratch import Scratch

_READ = 512 * 1024  # bytes read at once: what several records need, and little enough for the cache
_RECORDS = 256  # opened at a time: of very many tiny ones the rest waits until others had their turn


class _Inbound(Scratch):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        # glibc's malloc gives freed memory back to the kernel, batch by batch, unless it saw a large block freed.
        bytes(4 * _READ)


_inbound = _Inbound(_READ + 65537)


class Session:
    """One multiplexed connection; implements `core.muxer.MuxedConnection`."""

    def __init__(
        self,
        make_machine: Callable[[Callable[..., StreamState]], MuxerMachine],
        *,
        raw: RawConnection,
        records: RecordLayer,
        unread: bytes,
        early_plaintext: bytes,
        unsent: bytes,
        info: ConnectionInfo,
    ) -> None:
        """`make_machine` is given what makes the stream objects; the rest is `core.muxer.MuxerFactory`'s."""
        self.info = info
        self.machine = make_machine(partial(SessionStream, self))
        self._now = clock()
        self._raw = raw
        self._records = records
        self._partial = unread
        self._rest = early_plaintext
        self.outbox = Outbox(self.machine, raw, records, unsent)
        """What leaves."""
        self.signal = signals()
        """Makes what readers and writers of its streams wait for."""
        self._handler: Callable[[MuxedStream], bool] | None = None
        self._reason: Exception | None = None
        self._openers = Turns()
        self._granted = 0
        self.bytes_in = 0
        """Sealed bytes received."""

    def __repr__(self) -> str:
        return (
            f"<Session {self.info.remote_peer} {len(self.machine.streams)} streams{' closed' if self.closed else ''}>"
        )

    @property
    def closed(self) -> bool:
        """Whether it takes no new streams: it has ended, is ending, or the peer went away."""
        return self._reason is not None or self.machine.went_away is not None

    @property
    def close_reason(self) -> Exception | None:
        """Why it ended; None while it lives."""
        return self._reason

    @property
    def rtt(self) -> float | None:
        """The last round trip, in seconds."""
        return self.machine.rtt

    # --- streams ----------------------------------------------------------------------------------

    async def open_stream(self) -> SessionStream:
        """Open a stream; waits while the peer has too many to acknowledge.

        Raises ConnectionClosed, or ResourceLimitExceeded when that takes longer than `open_timeout`.
        """
        if self._openers or self.machine.open_slots - self._granted <= 0:
            await self._wait_to_open()
        if self.closed:
            raise ConnectionClosed("the connection is closed") from self._reason
        stream = self.machine.open_stream()
        assert isinstance(stream, SessionStream)
        return stream

    async def _wait_to_open(self) -> None:
        try:
            with anyio.fail_after(self.machine.open_timeout):
                await self._openers.wait(self._pass_grant)
        except TimeoutError:
            raise self.machine.no_slot() from None
        self._granted -= 1

    def _pass_grant(self) -> None:
        self._granted -= 1
        self._grant()

    def _grant(self) -> None:
        """Let as many waiting openers go on as the peer's backlog has room for; all of them at the end."""
        while self._openers and (self.closed or self.machine.open_slots > self._granted):
            self._granted += 1
            self._openers.let_go()

    def read(self, stream: SessionStream, max_bytes: int) -> bytes:
        """Give out bytes of a stream that has some."""
        machine = self.machine
        data = machine.read(stream, max_bytes)
        if stream.consumed * 2 >= stream.capacity:
            machine.update_window(stream, self._now())
            self.outbox.flush()
        return data

    def reset(self, stream: SessionStream, code: int) -> None:
        """End a stream and tell the peer."""
        events: list[Event] = []
        self.machine.reset(stream, code, events)
        if events:
            self._dispatch(events)
            self.outbox.flush()

    # --- lifetime ---------------------------------------------------------------------------------

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        """See `MuxedConnection.serve`."""
        if budget is not None:
            self.machine.charge(budget)
        self._handler = handler
        reason: Exception | None = None
        try:
            if self._reason is None:
                self.machine.ping(anyio.current_time())
                async with anyio.create_task_group() as tasks:
                    try:
                        self.outbox.start(tasks)
                        reason = await self._read()
                    finally:
                        self.outbox.stop()
                    if self.outbox.has_writer:
                        tasks.cancel_scope.cancel()
                if reason is None and (broken := self.outbox.broken) is not None:
                    reason = ConnectionClosed(f"the connection broke: {broken}", remote=True)
        finally:
            self._end(reason or ConnectionClosed("the connection was cancelled"))

    def close(self, code: int = 0) -> None:
        """See `MuxedConnection.close`."""
        if self._reason is None:
            self._reason = ConnectionClosed("the connection was closed by us", code=code)
            self.machine.go_away(code)
            if self._handler is None:  # nobody serves it: what fits goes out now
                self.outbox.send_now()
                self._end(self._reason)
                return
            events: list[Event] = []
            self.machine.fail_all(self._reason, events, flush=True)
            self._dispatch(events)
            self.outbox.close()
            self._grant()

    def tick(self, now: float) -> None:
        """Do what time demands; call it about once a second."""
        events: list[Event] = []
        try:
            self.machine.handle_timeout(now, events)
        except RemoteProtocolError as fault:
            self._break(fault)
        self._dispatch(events)
        if self.machine.went_away is not None and not self.machine.streams:
            self.close()
        self.outbox.tick()

    def _break(self, fault: Exception) -> None:
        """The connection is of no further use: closing the pipe ends both tasks."""
        if self._reason is None:
            self._reason = fault
        self._raw.close()

    def _end(self, reason: Exception) -> None:
        """Release everything; idempotent."""
        if self._reason is None:
            self._reason = reason
        self._raw.close()
        fault = self._reason
        if not isinstance(fault, ConnectionClosed):
            fault = _closed_by(fault)
        events: list[Event] = []
        self.machine.fail_all(fault, events)
        self._dispatch(events)
        self._grant()

    # --- reading ----------------------------------------------------------------------------------

    async def _read(self) -> Exception:
        """Read until the end; returns why it ended."""
        raw, machine = self._raw, self.machine
        try:
            await self._feed(memoryview(self._partial))
            self.outbox.send_now()
            while not machine.went_away:  # a code other than 0: the peer has cut, not merely said goodbye
                view = _inbound.view
                kept = len(self._partial)
                view[:kept] = self._partial
                count = raw.receive_nowait(view[kept:])
                if count is None:
                    await raw.wait_readable()
                    continue
                if count == 0:
                    break
                self.bytes_in += count
                self.outbox.may_inline()
                await self._feed(view[: kept + count])
                if machine.full:
                    await self._wait_for_readers()
        except ConnectionClosed:  # a goodbye of the security protocol
            pass
        except RemoteProtocolError as fault:
            events: list[Event] = []
            machine.fail_all(_closed_by(fault), events)
            machine.go_away(fault.code or 0)
            self.outbox.send_now()
            self._dispatch(events)
            return fault
        except P2PError as fault:
            return fault
        except OSError as fault:
            return ConnectionClosed(f"the connection broke: {fault}", code=machine.went_away, remote=True)
        return ConnectionClosed("the peer closed the connection", code=machine.went_away, remote=True)

    async def _wait_for_readers(self) -> None:
        """Without windows, not reading is the only way to hold a peer back; streams that stay full are reset."""
        machine = self.machine
        room = anyio.Event()
        machine.on_room = room.set
        with anyio.move_on_after(machine.stall_timeout):
            await room.wait()
        for stream in tuple(machine.full):
            assert isinstance(stream, SessionStream)
            self.reset(stream, StreamCode.RESOURCE_LIMIT_EXCEEDED)

    async def _feed(self, sealed: memoryview) -> None:
        """Take in what came, give those it woke a turn, and send what they had to say with one call."""
        more = True
        while more:
            self.outbox.corked = True
            try:
                more = self._take_in(sealed)
                await anyio.lowlevel.checkpoint()
            finally:
                self.outbox.corked = False
            if self.machine.has_output:
                self.outbox.send_now()
            sealed = memoryview(self._partial)

    def _take_in(self, sealed: memoryview) -> bool:
        """Open whole records, feed each to the machine, keep the rest; returns whether others shall go first."""
        receive, open_record, now = self.machine.receive_data, self._records.open_record, self._now()
        plaintext: Buffer = self._rest
        self._rest = b""
        end = 0
        more = True
        try:
            for _ in range(_RECORDS):
                if not plaintext:
                    start = end
                    plaintext, end = open_record(sealed, start)
                    if end == start:
                        more = False
                        break
                events: list[Event] = []
                try:
                    plaintext = self._rest = receive(plaintext, now, events)
                finally:  # what came before a fault counts
                    if events:
                        self._dispatch(events)
                if plaintext:
                    break
        finally:
            self._partial = bytes(sealed[end:])
        if self._openers:
            self._grant()
        return more

    def _dispatch(self, events: list[Event]) -> None:
        """Wake and tell whom events concern; the list may grow meanwhile."""
        for event in events:
            kind = type(event)
            if kind is StreamReadable:
                event.stream.wake_reader()  # type: ignore[union-attr]
            elif kind is StreamOpened:
                stream = event.stream  # type: ignore[union-attr]
                assert isinstance(stream, SessionStream)
                if stream.fault is not None:  # reset in the same breath
                    continue
                if self._handler is None or not self._handler(stream):
                    code = StreamCode.RESOURCE_LIMIT_EXCEEDED
                    self.machine.refuse(stream, code, anyio.current_time(), events)
            elif kind is StreamEnded:
                event.stream.tell_end()  # type: ignore[union-attr]
        if self._openers:
            self._grant()


def _closed_by(fault: Exception) -> ConnectionClosed:
    """What the streams of a connection that ended with `fault` raise."""
    closed = ConnectionClosed(f"the connection failed: {fault}", code=getattr(fault, "code", None))
    closed.__cause__ = fault
    return closed


def yamux_factory(config: YamuxConfig) -> Callable[..., Session]:
    """A `core.muxer.MuxerFactory` that makes yamux sessions."""

    def make(*, info: ConnectionInfo, **parts: Any) -> Session:
        client = info.direction is Direction.OUTBOUND
        return Session(lambda new: YamuxMachine(config, client=client, new_stream=new), info=info, **parts)

    return make


def mplex_factory(config: MplexConfig) -> Callable[..., Session]:
    """A `core.muxer.MuxerFactory` that makes mplex sessions."""

    def make(**parts: Any) -> Session:
        from py_p2pstack.muxers.mplex.machine import MplexMachine  # hardly anybody needs it

        return Session(lambda new: MplexMachine(config, new_stream=new), **parts)

    return make
