"""What the machines of all muxers do alike: the books of their streams, their turns to send, and how they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from copy import copy
from typing import Protocol

from py_p2pstack.allowance import Allowance
from py_p2pstack.core.error_codes import ConnectionCode, StreamCode
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import RemoteProtocolError, StreamClosed, StreamReset
from py_p2pstack.muxers.machine import Event, StreamEnded
from py_p2pstack.muxers.stream_state import StreamState

_STALE = 64  # streams that ended while they waited for their turn, above which we look for them


class Bounds(Protocol):
    """The knobs that every muxer has."""

    @property
    def open_timeout(self) -> float: ...

    @property
    def close_timeout(self) -> float: ...

    @property
    def max_resets(self) -> int: ...

    @property
    def resets_per_second(self) -> float: ...


class Streams(ABC):
    """The streams of one connection. A muxer's machine is a subclass that knows the wire."""

    def __init__(self, bounds: Bounds, new_stream: Callable[..., StreamState]) -> None:
        """`new_stream` makes the stream objects (called as StreamState is)."""
        self.drained: list[StreamState] = []
        """Streams whose waiting sender may go on; whoever pulls records wakes them and clears the list."""
        self.ended: list[StreamState] = []
        """Streams that ended with the last frame pulled; likewise."""
        self.queued = 0
        """Bytes to send over all streams."""
        self.buffered = 0
        """Bytes received and not consumed over all streams."""
        self.on_room: Callable[[], None] = _nothing
        self._bounds = bounds
        self._new_stream = new_stream
        self._inbound = 0
        self._going_away = False
        self._control = bytearray()
        self._ready: deque[StreamState] = deque()
        self._stale = 0
        self._closing: dict[StreamState, float] = {}
        self._resets = Allowance(bounds.max_resets, bounds.resets_per_second)
        # where the parser stands
        self._head = b""
        self._body_left = 0
        self._body_stream: StreamState | None = None

    @property
    def open_timeout(self) -> float:
        """Seconds an opener may wait for a slot."""
        return self._bounds.open_timeout

    @abstractmethod
    def _all(self) -> Collection[StreamState]:
        """Every live stream."""

    @abstractmethod
    def _is_live(self, stream: StreamState) -> bool:
        """Whether the stream is in the books."""

    @abstractmethod
    def reset(self, stream: StreamState, code: int, events: list[Event]) -> None:
        """End both directions now and tell the peer; if they have ended, only drop what was not read."""

    @abstractmethod
    def _drop(self, stream: StreamState, now: float | None = None) -> None:
        """Forget what was not read; with a time, tell the peer of the room as if it had been."""

    @abstractmethod
    def _forget(self, stream: StreamState) -> None:
        """Both directions have ended: out of the books."""

    # --- using streams ----------------------------------------------------------------------------

    def send_data(self, stream: StreamState, data: Buffer) -> None:
        """Queue `data`. Raises the stream's fault, or StreamClosed behind `send_eof`."""
        if stream.fault is not None:
            raise copy(stream.fault) from stream.fault.__cause__
        if stream.fin_queued:
            raise StreamClosed("the stream was closed for writing")
        stream.queue(data)
        self.queued += len(data)
        if not stream.ready and stream.send_window:
            stream.ready = True
            self._ready.append(stream)

    def send_eof(self, stream: StreamState) -> None:
        """Queue the end of our side behind what is queued; idempotent."""
        if stream.fault is None and not stream.fin_queued:
            stream.fin_queued = True
            self._enter_round(stream)

    def refuse(self, stream: StreamState, code: int, now: float, events: list[Event]) -> None:
        """Reset a stream the peer has just opened; that counts as one it opened in vain."""
        self._count_reset(now)
        self.reset(stream, code, events)

    def discard(self, stream: StreamState, now: float) -> None:
        """Nobody reads any more: drop what came and what comes; give the peer a time to end its side."""
        if not stream.discarding:
            stream.discarding = True
            self._drop(stream, now)
            if self._is_live(stream):
                self._closing[stream] = now + self._bounds.close_timeout

    def fail_all(self, fault: Exception, events: list[Event], *, flush: bool = False) -> None:
        """The connection ended: so does every stream. `flush`: what they queued may still be sent."""
        for stream in list(self._all()):
            stream.flushing = flush and stream.ready
            self._fail(stream, fault, events)
        if not flush:
            self._ready.clear()
            self._stale = 0
            self._control.clear()
            self.queued = 0

    # --- turns ------------------------------------------------------------------------------------

    def _enter_round(self, stream: StreamState) -> None:
        """Let the stream have its turn: it has something to say that needs no window."""
        if not stream.ready:
            stream.ready = True
            self._ready.append(stream)

    def _is_stale(self, stream: StreamState) -> bool:
        """Whether the stream whose turn it is ended meanwhile."""
        if stream.fault is None or stream.flushing:
            return False
        self._stale -= 1
        return True

    def _taken(self, stream: StreamState, size: int) -> None:
        """So many bytes of the stream go out."""
        self.queued -= size
        if stream.queued <= stream.drain_at:
            stream.drain_at = -1
            self.drained.append(stream)

    def _take_control(self, room: int, out: list[Buffer]) -> int:
        """Move at most `room` bytes of control frames to `out`; returns how many."""
        control = self._control
        size = min(len(control), room)
        out.append(bytes(control[:size]))
        del control[:size]
        return size

    # --- ends -------------------------------------------------------------------------------------

    def _count_reset(self, now: float) -> None:
        """Bound the rate of streams opened in vain: each costs us more than the peer."""
        if not self._resets.take(now):
            raise RemoteProtocolError("too many streams reset in a short time", code=ConnectionCode.RATE_LIMITED)

    def _reset_overdue(self, now: float, events: list[Event]) -> None:
        """Reset the streams whose close the peer never answered."""
        while self._closing:  # in the order of their deadlines
            stream, deadline = next(iter(self._closing.items()))
            if deadline > now:
                break
            del self._closing[stream]
            self.reset(stream, StreamCode.NO_ERROR, events)

    def _fail(self, stream: StreamState, fault: Exception, events: list[Event]) -> None:
        """End both directions at once. A reset drops what was not read; the end of a connection leaves it."""
        stream.fault = fault
        if isinstance(fault, StreamReset):
            stream.remote_fin = False
            self._drop(stream)
        if not stream.flushing:
            self.queued -= stream.queued
            stream.to_send.clear()
            stream.queued = 0
            if stream.ready:
                self._stale += 1
                if self._stale > _STALE and self._stale * 2 > len(self._ready):
                    live = [other for other in self._ready if other.fault is None or other.flushing]
                    self._ready.clear()
                    self._ready.extend(live)
                    self._stale = 0
        self._forget(stream)
        events.append(StreamEnded(stream))


def _nothing() -> None:
    pass
