"""What the streams of a connection have handed to QUIC and QUIC has not sent yet, and the senders that wait for it."""

from __future__ import annotations

from collections.abc import Callable

from py_p2pstack.transports.quic.stream import CONNECTION_HIGH, QuicStream
from py_p2pstack.turns import Turns


class Outflow:
    """The unsent bytes of one connection."""

    def __init__(self) -> None:
        self.queued = 0
        """Bytes unsent over all streams."""
        self.stuck = False
        """Whether enough waits for the network: a sender waits its turn before it queues more."""
        self._pressing = 0  # of those, what only the network holds up, and not the peer's windows
        self._writing: dict[QuicStream, None] = {}
        self._turns = Turns()

    def __bool__(self) -> bool:
        """Whether anything is unsent."""
        return bool(self._writing)

    def add(self, stream: QuicStream, size: int) -> None:
        """So many bytes more."""
        stream.queued += size
        stream.written += size
        self.queued += size
        self._pressing += size
        self.stuck = self._pressing > CONNECTION_HIGH
        self._writing[stream] = None

    def forget(self, stream: QuicStream) -> None:
        """What the stream has unsent never will be sent."""
        self.queued -= stream.queued
        stream.queued = 0
        self._writing.pop(stream, None)

    def count(self, unsent_of: Callable[[int | None], int]) -> None:
        """See what of each stream went out, and wake the senders that waited for it; `unsent_of(None)` is of all."""
        pressing = 0
        if not unsent_of(None):  # nearly always
            for stream in self._writing:
                stream.queued = 0
                if stream.drain_at >= 0:
                    stream.drain_at = -1
                    stream.wake_sender()
            self._writing.clear()
            self.queued = 0
        for stream in tuple(self._writing):
            left = unsent_of(stream.id)
            self.queued -= stream.queued - left
            stream.queued = left
            if not left:
                self._writing.pop(stream, None)
            elif stream.written - left < stream.credit:
                pressing += left
            if left <= stream.drain_at:
                stream.drain_at = -1
                stream.wake_sender()
        self._pressing = pressing
        self.stuck = pressing > CONNECTION_HIGH
        self._next_turn()

    async def wait_turn(self) -> None:
        """Wait until `stuck` may have changed."""
        await self._turns.wait(self._next_turn)

    def _next_turn(self) -> None:
        """Let one go on, who lets go the next; all, if nothing is left that would."""
        if not self._pressing:
            self.release()
        elif not self.stuck:
            self._turns.let_go(1)

    def release(self) -> None:
        """Let all go on."""
        self._turns.release()

    def clear(self) -> None:
        """Nothing will be sent any more."""
        self._writing.clear()
        self._pressing = 0
        self.stuck = False
        self.release()
