"""What leaves a session: records pulled from the machine, sealed in batches, and the task that waits for the pipe.

That task, the writer, begins when something cannot leave inline, and retires when idle. One small write may go out
inline, past the writer, after each batch read or written: a lone request leaves at once, a burst still gathers. A
sender that waits is woken once, when its own bytes are out.
"""

from __future__ import annotations

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup

from py_p2pstack.core.security import RecordLayer
from py_p2pstack.core.transport import RawConnection
from py_p2pstack.errors import P2PError
from py_p2pstack.event_loop import Signal
from py_p2pstack.muxers.machine import MuxerMachine
from py_p2pstack.turns import Turns
from py_p2pstack.wire.scratch import Scratch

CONNECTION_HIGH = 640 * 1024  # bytes queued in all streams above which each sender waits for its own to be out
_BATCH = 512 * 1024  # bytes sealed between two yields: bounds a ping's wait under bulk
_SOME = 120 * 1024  # bytes sealed and sent at a time: two large records stay in the cache, and the peer can begin
_INLINE = 16 * 1024  # bytes up to which a write may go out inline
_FLUSH_TIMEOUT = 1.0  # seconds that closing waits for queued bytes and the go-away to leave
_LAST_WORDS = 0.25  # seconds in which the reader may still find the go-away of a peer that cut us off


_scratch = Scratch(_SOME + 65537)


class Outbox:
    """The writing half of a session."""

    __slots__ = ("_busy", "_closing", "_head", "_machine", "_may_inline", "_raw", "_records", "_rested", "_retire",
                 "_tasks", "_turns", "_wake", "_writing", "broken", "bytes_out", "corked", "unsent")  # fmt: skip

    def __init__(self, machine: MuxerMachine, raw: RawConnection, records: RecordLayer, unsent: bytes) -> None:
        """`unsent` goes before all else, with the first batch."""
        self._machine = machine
        self._raw = raw
        self._records = records
        self._head = unsent
        self.unsent = memoryview(b"")
        """Sealed bytes that the pipe did not take."""
        self.broken: Exception | None = None
        """Why nothing can be sent any more."""
        self.corked = False
        """Whether what is queued waits for the end of a read, to go out with one call."""
        self.bytes_out = 0
        """Sealed bytes sent."""
        self._tasks: TaskGroup | None = None
        self._busy = False
        self._wake: anyio.Event | None = None
        self._rested = False
        self._retire = False
        self._may_inline = True
        self._closing = False
        self._writing: CancelScope | None = None
        self._turns = Turns()

    @property
    def empty(self) -> bool:
        """Whether all is out."""
        return not (self.unsent or self._machine.has_output)

    @property
    def has_writer(self) -> bool:
        """Whether there is a writing task."""
        return self._busy or self._wake is not None

    # --- lifetime ---------------------------------------------------------------------------------

    def start(self, tasks: TaskGroup) -> None:
        """From now on a writer may run in `tasks`, which it cancels once all is out or nothing more can go."""
        self._tasks = tasks

    def stop(self) -> None:
        """The group is ending: no writer may begin."""
        self._tasks = None

    def close(self) -> None:
        """Send what is left, within a second, then end the group: by closing the pipe if that is done at once."""
        self._closing = True
        self.send_now()
        if self._writing is not None:
            self._writing.deadline = anyio.current_time() + _FLUSH_TIMEOUT
        if self._tasks is not None and self.empty and self.broken is None:
            self._raw.close()  # the reader ends, and with it the session

    def tick(self) -> None:
        """Let a writer that rested since the last tick retire."""
        if self._machine.has_output:
            self.flush()
        if self._wake is not None:
            if self._rested:
                self._retire = True
                self._wake_writer()
            self._rested = True

    # --- senders' turns ---------------------------------------------------------------------------

    @property
    def stuck(self) -> bool:
        """Whether enough waits for the writer, who is at work: a sender waits its turn before it queues more.

        While the writer idles, what is queued waits for windows, and must not keep other streams from sending.
        """
        return self._busy and self._machine.queued > CONNECTION_HIGH

    def take_turn(self) -> Signal:
        """Queue up behind the senders that wait for the pipe to move; the signal tells when it is time."""
        return self._turns.join()

    def pass_turn(self, turn: Signal) -> None:
        """Whoever waited will not send: out of the queue, or, if it was let go already, the next in its place."""
        if not self._turns.leave(turn):
            self._turns.let_go()

    # --- sending ----------------------------------------------------------------------------------

    def may_inline(self) -> None:
        """Something came: the next small write may go out inline."""
        self._may_inline = True

    def flush(self) -> None:
        """See that what is queued goes out soon: at once, if it is small and the first since the last batch."""
        if self.corked:
            return
        if self._may_inline and self._machine.queued <= _INLINE:
            self._may_inline = False
            self.send_now()
        else:
            self._wake_writer()

    def flush_later(self) -> None:
        """See that what is queued goes out with whatever is sent next, or when the writer gets its turn."""
        if not self.corked:
            self._wake_writer()

    def send_now(self) -> None:
        """Seal and send one batch without waiting; what does not fit is left to the writer."""
        if self.unsent or self.broken is not None:
            return
        try:
            self._send_batch()
        except (OSError, P2PError) as fault:
            self.broken = fault
        if self.broken is not None or not self.empty:
            self._wake_writer()

    def _send_batch(self) -> None:
        """Seal and send up to a batch, or what the pipe takes."""
        machine = self._machine
        end = self.bytes_out + _BATCH
        try:
            self._send_some()
            while machine.has_output and not self.unsent and self.bytes_out < end:
                self._send_some()
        finally:
            self._tell()
        if self._turns and (not self.unsent or machine.queued <= CONNECTION_HIGH):
            self._turns.let_go()

    def _send_some(self) -> None:
        """Pull a few records, seal them, send what the pipe takes, keep the rest."""
        machine, records = self._machine, self._records
        view = _scratch.view
        size = len(self._head)
        if size:
            view[:size] = self._head
            self._head = b""
        while size < _SOME and machine.has_output:
            pieces = machine.next_record(records.max_plaintext)
            if pieces:
                size += records.seal_into(pieces[0] if len(pieces) == 1 else b"".join(pieces), view[size:])
        sent = self._raw.send_nowait(view[:size]) if size else 0
        self.bytes_out += sent
        if sent < size:
            self.unsent = memoryview(bytes(view[sent:size]))

    def _tell(self) -> None:
        """Wake senders whose bytes have been taken, and tell of streams that ended with the last of theirs."""
        machine = self._machine
        if machine.drained:
            for stream in machine.drained:
                stream.wake_sender()  # type: ignore[attr-defined]
            machine.drained.clear()
        if machine.ended:
            ended, machine.ended = machine.ended, []
            for stream in ended:
                stream.tell_end()  # type: ignore[attr-defined]

    # --- the writer -------------------------------------------------------------------------------

    def _wake_writer(self) -> None:
        """See that there is a writer, and that it is at work."""
        if self._wake is not None:
            self._wake.set()
            self._wake = None
            self._busy = True
        elif not self._busy and self._tasks is not None:
            self._busy = True
            self._tasks.start_soon(self._write, self._tasks.cancel_scope)

    async def _write(self, session: CancelScope) -> None:
        """Write until there is nothing to write for long, until closed by us and flushed, or until the pipe breaks."""
        try:
            with CancelScope() as self._writing:
                if self._closing:
                    self._writing.deadline = anyio.current_time() + _FLUSH_TIMEOUT
                while await self._write_some():
                    pass
                if not self._closing:
                    return
        except (OSError, P2PError) as fault:
            self.broken = fault
            await anyio.sleep(_LAST_WORDS)  # the reader may find that the peer said goodbye
        session.cancel()

    async def _write_some(self) -> bool:
        """One step; returns whether there is another. Raises what broke the pipe."""
        if self.broken is not None:
            raise self.broken
        if self.unsent:
            await self._raw.wait_writable()
            sent = self._raw.send_nowait(self.unsent)
            self.bytes_out += sent
            self.unsent = self.unsent[sent:]
        elif self._machine.has_output:
            self._send_batch()
            await anyio.lowlevel.checkpoint()
        elif self._closing:
            return False
        elif self._turns:
            self._turns.let_go()
            await anyio.lowlevel.checkpoint()
        else:
            return await self._rest()
        return True

    async def _rest(self) -> bool:
        """Wait for work; returns whether there is some, or else the writer retires."""
        self._may_inline = True
        self._busy = self._rested = False
        wake = self._wake = anyio.Event()
        await wake.wait()
        retire, self._retire = self._retire and not self._machine.has_output, False
        if retire:
            self._busy = False
        return not retire
