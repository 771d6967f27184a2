"""The session: drives a muxer machine over a raw connection, one task reading, one writing, and lets streams wait.

Measured rules behind it (docs/performance.md): the buffers for reading and sealing are shared by all sessions of a
thread, since nothing awaits while they are in use; an idle session holds none, and no writer either: that task begins
when something cannot leave inline, and retires when idle. The writer pulls records from the machine. One small write
may go out inline, past the writer, after each batch read or written: a lone request leaves at once, a burst still
gathers. What is sent in the turn that follows a read goes out with one call behind it. A sender that waits is woken
once, when its own bytes are out.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from py_p2pstack.core.error_codes import StreamCode
from py_p2pstack.core.muxer import ConnectionInfo, MuxedStream
from py_p2pstack.core.security import RecordLayer
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, P2PError, RemoteProtocolError
from py_p2pstack.muxers.machine import Event, MuxerMachine, StreamEnded, StreamOpened, StreamReadable
from py_p2pstack.muxers.mplex.config import MplexConfig
from py_p2pstack.muxers.mplex.machine import MplexMachine
from py_p2pstack.muxers.stream import CONNECTION_HIGH, SessionStream
from py_p2pstack.muxers.yamux.config import YamuxConfig
from py_p2pstack.muxers.yamux.machine import YamuxMachine
from py_p2pstack.muxers.yamux.stream_state import StreamState

_READ = 256 * 1024  # bytes read at once: what several records need, and little enough for the cache
_BATCH = 256 * 1024  # bytes sealed between two yields: bounds a ping's wait under bulk
_INLINE = 16 * 1024  # bytes up to which a write may go out inline
_FLUSH_TIMEOUT = 1.0  # seconds that closing waits for queued bytes and the go-away to leave
_LAST_WORDS = 0.25  # seconds in which the reader may still find the go-away of a peer that cut us off


class _Scratch(threading.local):
    """Buffers used between two awaits, shared by all sessions of a thread."""

    def __init__(self) -> None:
        self.inbound = memoryview(bytearray(_READ + 65537))
        self.outbound = memoryview(bytearray(_BATCH + 65537))


_scratch = _Scratch()


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
        self._raw = raw
        self._records = records
        self._partial = unread
        self._early = early_plaintext
        self._head = unsent
        self._handler: Callable[[MuxedStream], bool] | None = None
        self._reason: Exception | None = None
        self._unsent = memoryview(b"")
        self._broken: Exception | None = None
        self._corked = False
        self._tasks: TaskGroup | None = None
        self._writer_busy = False
        self._wake: anyio.Event | None = None
        self._rested = False
        self._retire = False
        self._may_inline = True
        self._writing: CancelScope | None = None
        self._openers: deque[anyio.Event] = deque()
        self._granted = 0
        self.turns: deque[anyio.Event] = deque()
        """Senders waiting for the pipe to move, first come first."""
        self.bytes_in = 0
        """Sealed bytes received."""
        self.bytes_out = 0
        """Sealed bytes sent."""

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
        turn = anyio.Event()
        self._openers.append(turn)
        try:
            with anyio.fail_after(self.machine.open_timeout):
                await turn.wait()
        except BaseException as fault:
            if turn.is_set():
                self._granted -= 1
                self._grant()
            else:
                self._openers.remove(turn)
            if isinstance(fault, TimeoutError):
                raise self.machine.no_slot() from None
            raise
        self._granted -= 1

    def _grant(self) -> None:
        """Let as many waiting openers go on as the peer's backlog has room for; all of them at the end."""
        while self._openers and (self.closed or self.machine.open_slots > self._granted):
            self._granted += 1
            self._openers.popleft().set()

    def read(self, stream: SessionStream, max_bytes: int) -> bytes:
        """Give out bytes of a stream that has some."""
        machine = self.machine
        data = machine.read(stream, max_bytes)
        if stream.consumed * 2 >= stream.capacity:
            machine.update_window(stream, anyio.current_time())
            self.flush()
        return data

    def reset(self, stream: SessionStream, code: int) -> None:
        """End a stream and tell the peer."""
        events: list[Event] = []
        self.machine.reset(stream, code, events)
        if events:
            self._dispatch(events)
            self.flush()

    # --- lifetime ---------------------------------------------------------------------------------

    async def serve(self, handler: Callable[[MuxedStream], bool]) -> None:
        """See `MuxedConnection.serve`."""
        self._handler = handler
        reason: Exception = ConnectionClosed("the connection was cancelled")
        try:
            if self._reason is None:
                self.machine.ping(anyio.current_time())
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    try:
                        self._send_now()
                        reason = await self._read()
                    finally:
                        self._tasks = None
                    tasks.cancel_scope.cancel()
        finally:
            self._end(reason)

    def close(self, code: int = 0) -> None:
        """See `MuxedConnection.close`."""
        if self._reason is None:
            self._reason = ConnectionClosed("the connection was closed by us", code=code)
            self.machine.go_away(code)
            if self._handler is None:  # nobody serves it: what fits goes out now
                self._send_now()
                self._end(self._reason)
                return
            events: list[Event] = []
            self.machine.fail_all(self._reason, events, flush=True)
            self._dispatch(events)
            self._send_now()
            if self._writing is not None:
                self._writing.deadline = anyio.current_time() + _FLUSH_TIMEOUT
            if self._tasks is not None and not (self._unsent or self._broken or self.machine.has_output):
                self._tasks.cancel_scope.cancel()
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
        if self.machine.has_output:
            self.flush()
        if self._wake is not None:
            if self._rested:  # since the last tick
                self._retire = True
                self._wake_writer()
            self._rested = True

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
            if self._early:
                early, self._early = self._early, b""
                await self._feed([early])
            if self._partial:
                await self._feed(self._open(memoryview(self._partial)))
            while not machine.went_away:  # a code other than 0: the peer has cut, not merely said goodbye
                view = _scratch.inbound
                kept = len(self._partial)
                view[:kept] = self._partial
                count = raw.receive_nowait(view[kept:])
                if count is None:
                    await raw.wait_readable()
                    continue
                if count == 0:
                    break
                self.bytes_in += count
                self._may_inline = True
                await self._feed(self._open(view[: kept + count]))
                if machine.full:
                    await self._wait_for_readers()
            return ConnectionClosed("the peer closed the connection", code=machine.went_away, remote=True)
        except RemoteProtocolError as fault:
            events: list[Event] = []
            machine.fail_all(_closed_by(fault), events)
            machine.go_away(fault.code or 0)
            self._send_now()
            self._dispatch(events)
            return fault
        except P2PError as fault:
            return fault
        except OSError as fault:
            return ConnectionClosed(f"the connection broke: {fault}", code=machine.went_away, remote=True)

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

    def _open(self, sealed: memoryview) -> list[bytes]:
        """Open what is whole, keep the rest."""
        plaintexts, used = self._records.open_records(sealed)
        self._partial = bytes(sealed[used:])
        return plaintexts

    async def _feed(self, plaintexts: list[bytes]) -> None:
        """Feed the machine, give those it woke a turn, and send what they had to say with one call."""
        machine = self.machine
        now = anyio.current_time()
        self._corked = True
        try:
            for plaintext in plaintexts:
                rest = plaintext
                while rest:
                    events: list[Event] = []
                    try:
                        rest = machine.receive_data(rest, now, events)
                    finally:  # what came before a fault counts
                        self._dispatch(events)
                    if rest:
                        await anyio.lowlevel.checkpoint()
            del plaintexts
            await anyio.lowlevel.checkpoint()
        finally:
            self._corked = False
        if machine.has_output:
            self._send_now()

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

    # --- writing ----------------------------------------------------------------------------------

    @property
    def stuck(self) -> bool:
        """Whether enough waits for the writer, who is at work: a sender waits its turn before it queues more.

        While the writer idles, what is queued waits for windows, and must not keep other streams from sending.
        """
        return self._writer_busy and self.machine.queued > CONNECTION_HIGH

    def pass_turn(self, turn: anyio.Event) -> None:
        """Whoever waited will not send: out of the queue, or, if it was let go already, the next in its place."""
        if turn in self.turns:
            self.turns.remove(turn)
        else:
            self._next_turn()

    def _next_turn(self) -> None:
        if self.turns:
            self.turns.popleft().set()

    def flush(self) -> None:
        """See that what is queued goes out soon: at once, if it is small and the first since the last batch."""
        if self._corked:
            return
        if self._may_inline and self.machine.queued <= _INLINE:
            self._may_inline = False
            self._send_now()
        else:
            self._wake_writer()

    def flush_later(self) -> None:
        """See that what is queued goes out with whatever is sent next, or when the writer gets its turn."""
        if not self._corked:
            self._wake_writer()

    def _wake_writer(self) -> None:
        """See that there is a writer, and that it is at work; before `serve` there is none."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None
            self._writer_busy = True
        elif not self._writer_busy and self._tasks is not None:
            self._writer_busy = True
            self._tasks.start_soon(self._write, self._tasks.cancel_scope)

    def _send_now(self) -> None:
        """Seal and send one batch without waiting; what does not fit is left to the writer."""
        if self._unsent or self._broken is not None:
            return
        try:
            self._send_batch()
        except (OSError, P2PError) as fault:
            self._broken = fault
        if self._unsent or self._broken is not None or self.machine.has_output:
            self._wake_writer()

    def _send_batch(self) -> None:
        """Pull records up to a batch, seal them, send what the pipe takes, keep the rest."""
        machine, records = self.machine, self._records
        view = _scratch.outbound
        size = len(self._head)
        if size:
            view[:size] = self._head
            self._head = b""
        while size < _BATCH and machine.has_output:
            pieces = machine.next_record(records.max_plaintext)
            if pieces:
                size += records.seal_into(pieces[0] if len(pieces) == 1 else b"".join(pieces), view[size:])
        sent = self._raw.send_nowait(view[:size]) if size else 0
        self.bytes_out += sent
        if sent < size:
            self._unsent = memoryview(bytes(view[sent:size]))
        if self.turns and (not self._unsent or machine.queued <= CONNECTION_HIGH):
            self._next_turn()
        if machine.drained:
            for stream in machine.drained:
                stream.wake_sender()  # type: ignore[attr-defined]
            machine.drained.clear()
        if machine.ended:
            ended, machine.ended = machine.ended, []
            for stream in ended:
                stream.tell_end()  # type: ignore[attr-defined]

    async def _rest(self) -> bool:
        """The writer waits for work; returns whether there is some, or else it retires."""
        self._may_inline = True
        self._writer_busy = self._rested = False
        wake = self._wake = anyio.Event()
        await wake.wait()
        retire, self._retire = self._retire and not self.machine.has_output, False
        if retire:
            self._writer_busy = False
        return not retire

    async def _write(self, session_scope: CancelScope) -> None:
        """Write until there is nothing to write for long, until closed by us and flushed, or until the pipe breaks."""
        raw = self._raw
        try:
            with CancelScope() as self._writing:
                if self._reason is not None:
                    self._writing.deadline = anyio.current_time() + _FLUSH_TIMEOUT
                while True:
                    if self._broken is not None:
                        raise self._broken
                    if self._unsent:
                        await raw.wait_writable()
                        sent = raw.send_nowait(self._unsent)
                        self.bytes_out += sent
                        self._unsent = self._unsent[sent:]
                    elif self.machine.has_output:
                        self._send_batch()
                        await anyio.lowlevel.checkpoint()
                    elif self._reason is not None:
                        break
                    elif self.turns:
                        self._next_turn()
                        await anyio.lowlevel.checkpoint()
                    elif not await self._rest():
                        return
        except (OSError, P2PError) as fault:
            self._broken = fault
            await anyio.sleep(_LAST_WORDS)  # the reader may find that the peer said goodbye
            if self._reason is None:
                self._reason = ConnectionClosed(f"the connection broke: {fault}", remote=True)
        session_scope.cancel()


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
        return Session(lambda new: MplexMachine(config, new_stream=new), **parts)

    return make
