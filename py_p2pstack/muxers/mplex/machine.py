"""Everything that changes mplex state: messages in, events out; writes in, messages out. No I/O, no clock.

Sending is pulled, as in yamux: streams keep their own queues, `next_record` walks them in turns, resets first. What
comes is handed on in pieces as it comes; no message is ever gathered whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from py_p2pstack.core.error_codes import ConnectionCode, StreamCode
from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import (
    LocalProtocolError,
    RemoteProtocolError,
    ResourceLimitExceeded,
    StreamReset,
)
from py_p2pstack.muxers.machine import Event, StreamEnded, StreamOpened, StreamReadable
from py_p2pstack.muxers.mplex.codec import MAX_HEADER, Flag, decode_header, encode_header
from py_p2pstack.muxers.mplex.config import MplexConfig
from py_p2pstack.muxers.stream_state import StreamState
from py_p2pstack.muxers.streams import Streams

_UNANNOUNCED = 1  # in a stream's flags: the peer has not been told of it
_MESSAGES = 256  # taken in at a time
_MIN_PIECE = 1024  # rather a new record than a message with less room than this


class MplexMachine(Streams):
    """One side of an mplex connection; implements `muxers.machine.MuxerMachine`."""

    rtt: float | None = None  # nothing to measure it with
    went_away: int | None = None  # nor to say goodbye

    def __init__(self, config: MplexConfig, *, new_stream: Callable[..., StreamState] = StreamState) -> None:
        """`new_stream` makes the stream objects (called as StreamState is)."""
        super().__init__(config, new_stream)
        self.config = config
        self.streams: dict[tuple[int, bool], StreamState] = {}
        """By number and whether the peer opened it: both sides count for themselves."""
        self.full: dict[StreamState, None] = {}
        self._next_id = 0

    # --- opening and using streams ----------------------------------------------------------------

    @property
    def stall_timeout(self) -> float:
        """Seconds a stream may be full before it is reset."""
        return self.config.stall_timeout

    @property
    def open_slots(self) -> int:
        """How many more streams we may have open."""
        return self.config.max_outbound_streams - (len(self.streams) - self._inbound)

    def charge(self, budget: MemoryBudget) -> None:
        """Nothing to charge: there are no windows."""

    def no_slot(self) -> ResourceLimitExceeded:
        """What is raised when we have all the streams open that we may."""
        limit = self.config.max_outbound_streams
        return ResourceLimitExceeded("outbound streams", limit, limit + 1)

    def open_stream(self) -> StreamState:
        """Open a stream; word of it rides with the first bytes sent.

        Raises LocalProtocolError, ResourceLimitExceeded.
        """
        if self._going_away:
            raise LocalProtocolError("no stream can be opened on a connection that is being closed")
        if self.open_slots <= 0:
            raise self.no_slot()
        stream = self._new_stream(self._next_id, inbound=False, flags=_UNANNOUNCED)
        self.streams[self._next_id, False] = stream
        self._next_id += 1
        self._prepare(stream)
        self._enter_round(stream)
        return stream

    def _prepare(self, stream: StreamState) -> None:
        """`capacity` stands for what may be unread; there is no window to send by."""
        stream.capacity = self.config.max_unread
        stream.unacknowledged = False

    def reset(self, stream: StreamState, code: int, events: list[Event]) -> None:
        """End both directions now and tell the peer, who hears no code; if they have ended, drop what was not read."""
        if not self._is_live(stream):
            self._drop(stream)
        elif stream.fault is None:
            if not stream.flags:  # a stream the peer never heard of needs no word
                flag = Flag.RESET_RECEIVER if stream.inbound else Flag.RESET_INITIATOR
                self._control += encode_header(stream.id, flag, 0)
            self._fail(stream, StreamReset("the stream was reset by us", code=code, remote=False), events)

    def read(self, stream: StreamState, max_bytes: int) -> bytes:
        """Give out bytes that came."""
        data = stream.read(max_bytes)
        self.buffered -= len(data)
        if stream in self.full and stream.unread * 2 <= stream.capacity:
            self._no_longer_full(stream)
        return data

    def update_window(self, stream: StreamState, now: float) -> None:
        """There are no windows."""

    def ping(self, now: float) -> int:
        """There are no pings."""
        return 0

    def go_away(self, code: int) -> None:
        """Open no stream any more; the peer sees the connection end."""
        self._going_away = True

    def handle_timeout(self, now: float, events: list[Event]) -> None:
        """Reset streams whose close the peer never answered. Call it about once a second."""
        self._reset_overdue(now, events)

    # --- sending ----------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether `next_record` would give something."""
        return bool(self._control or self._ready)

    def next_record(self, room: int) -> list[Buffer]:
        """Take whole messages of at most `room` bytes together (room ≥ 2048): resets first, then streams in turns."""
        out: list[Buffer] = []
        ready = self._ready
        if self._control:
            room -= self._take_control(room, out)
        while ready and room > _MIN_PIECE:
            stream = ready.popleft()
            if stream.fault is not None and self._is_stale(stream):
                continue
            stream.ready = False
            if stream.flags:
                stream.flags = 0
                room -= _append(out, encode_header(stream.id, Flag.NEW_STREAM, 0))
            size = min(stream.queued, room - 3 * MAX_HEADER, self.config.max_frame)
            if size:
                flag = Flag.MESSAGE_RECEIVER if stream.inbound else Flag.MESSAGE_INITIATOR
                room -= _append(out, encode_header(stream.id, flag, size)) + size
                stream.take(size, out)
                self._taken(stream, size)
            if stream.queued:
                self._enter_round(stream)
            elif stream.fin_queued and not stream.fin_sent:
                flag = Flag.CLOSE_RECEIVER if stream.inbound else Flag.CLOSE_INITIATOR
                room -= _append(out, encode_header(stream.id, flag, 0))
                stream.fin_sent = True
                if stream.remote_fin and stream.fault is None:
                    self._forget(stream)
                    self.ended.append(stream)
        return out

    # --- receiving --------------------------------------------------------------------------------

    def receive_data(self, plaintext: Buffer, now: float, events: list[Event]) -> bytes:
        """Take in opened bytes; what happened is appended to `events`.

        Returns what is left behind a few hundred messages, to be handed in again when others had their turn. Raises
        RemoteProtocolError; the machine is dead from then on.
        """
        if self._head:
            plaintext = self._head + plaintext
            self._head = b""
        position, end = 0, len(plaintext)
        messages = 0
        while position < end:
            if self._body_left:
                position = self._take_body(plaintext, position, end, events)
                continue
            messages += 1
            if messages > _MESSAGES:
                return bytes(plaintext[position:])
            header = decode_header(plaintext, position)
            if header is None:
                self._head = bytes(plaintext[position:])
                break
            stream_id, flag, self._body_left, position = header
            self._body_stream = self._take_header(stream_id, flag, now, events)
        return b""

    def _take_header(self, stream_id: int, flag: int, now: float, events: list[Event]) -> StreamState | None:
        """Act on a message's header; returns the stream its body is for, if it is for any."""
        if flag == Flag.NEW_STREAM:
            self._accept(stream_id, now, events)
            return None  # the body is a name nobody asks for
        stream = self.streams.get((stream_id, flag in _OF_INITIATORS))
        if stream is None:
            return None  # it has ended on our side
        if flag in (Flag.MESSAGE_INITIATOR, Flag.MESSAGE_RECEIVER):
            if stream.remote_fin:
                raise RemoteProtocolError(f"bytes for mplex stream {stream_id} behind its end")
            return stream
        if flag in (Flag.CLOSE_INITIATOR, Flag.CLOSE_RECEIVER):
            self._take_close(stream, events)
        else:
            self._count_reset(now)
            self._fail(stream, StreamReset("the stream was reset by the peer"), events)
        return None

    def _accept(self, stream_id: int, now: float, events: list[Event]) -> None:
        if (stream_id, True) in self.streams:
            raise RemoteProtocolError(f"mplex stream {stream_id} is open and cannot be opened again")
        if len(self._control) > self.config.max_control:
            raise RemoteProtocolError("the peer opens streams and reads no answer", code=ConnectionCode.RATE_LIMITED)
        if self._going_away or self._inbound >= self.config.max_inbound_streams:
            self._count_reset(now)
            self._control += encode_header(stream_id, Flag.RESET_RECEIVER, 0)
            return
        self._inbound += 1
        stream = self._new_stream(stream_id, inbound=True, flags=0)
        self.streams[stream_id, True] = stream
        self._prepare(stream)
        events.append(StreamOpened(stream))

    def _take_body(self, plaintext: Buffer, position: int, end: int, events: list[Event]) -> int:
        """Hand the body, or as much of it as is here, to its stream; returns where the rest begins."""
        stop = min(end, position + self._body_left)
        size = stop - position
        self._body_left -= size
        stream = self._body_stream
        if stream is not None and stream.fault is None and not stream.discarding:
            if self.buffered + size > self.config.max_buffered:
                self.reset(stream, StreamCode.RESOURCE_LIMIT_EXCEEDED, events)
            else:
                self.buffered += size
                if not stream.received:
                    events.append(StreamReadable(stream))
                stream.deliver(plaintext, position, stop)
                if stream.unread > stream.capacity:
                    self.full[stream] = None
        return stop

    def _take_close(self, stream: StreamState, events: list[Event]) -> None:
        if not stream.remote_fin:
            stream.remote_fin = True
            events.append(StreamReadable(stream))
            if stream.fin_sent:
                self._forget(stream)
                events.append(StreamEnded(stream))

    # --- ends -------------------------------------------------------------------------------------

    def _drop(self, stream: StreamState, now: float | None = None) -> None:
        self.buffered -= stream.drop()
        if stream in self.full:
            self._no_longer_full(stream)

    def _no_longer_full(self, stream: StreamState) -> None:
        del self.full[stream]
        if not self.full:
            self.on_room()

    def _all(self) -> Collection[StreamState]:
        return self.streams.values()

    def _is_live(self, stream: StreamState) -> bool:
        return self.streams.get((stream.id, stream.inbound)) is stream

    def _forget(self, stream: StreamState) -> None:
        if self.streams.pop((stream.id, stream.inbound), None) is stream:
            self._closing.pop(stream, None)
            if stream.inbound:
                self._inbound -= 1


_OF_INITIATORS = frozenset((Flag.MESSAGE_INITIATOR, Flag.CLOSE_INITIATOR, Flag.RESET_INITIATOR))


def _append(out: list[Buffer], piece: bytes) -> int:
    out.append(piece)
    return len(piece)
