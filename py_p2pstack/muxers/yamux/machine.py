"""Everything that changes yamux state: frames in, events out; writes in, frames out. No I/O, no clock.

Sending is pulled: streams keep their own queues, `next_record` walks them in turns, control frames first. What a peer
sends is checked against windows and limits before any state is made for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from py_p2pstack.core.error_codes import ConnectionCode, StreamCode
from py_p2pstack.core.muxer import MemoryBudget
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import LocalProtocolError, RemoteProtocolError, ResourceLimitExceeded, StreamReset
from py_p2pstack.muxers.machine import Event, Ponged, StreamEnded, StreamOpened, StreamReadable, WentAway
from py_p2pstack.muxers.stream_state import INITIAL_WINDOW, StreamState
from py_p2pstack.muxers.streams import Streams
from py_p2pstack.muxers.yamux.codec import HEADER_SIZE, VERSION, Flag, FrameType, GoAway, pack, unpack_from
from py_p2pstack.muxers.yamux.config import YamuxConfig
from py_p2pstack.muxers.yamux.growth import Growth
from py_p2pstack.muxers.yamux.round_trips import RoundTrips

_SYN, _ACK, _FIN, _RST = int(Flag.SYN), int(Flag.ACK), int(Flag.FIN), int(Flag.RST)
_DATA, _WINDOW, _PING, _GO_AWAY = (int(kind) for kind in FrameType)
_MAX_U32 = 2**32 - 1
_FRAMES = 256  # taken in at a time
_ROOMY = 1024 * 1024  # bytes of a window: 1.5 ms in a queue on loopback
_MIN_PIECE = 1024  # rather a new record than a data frame with less room than this


class YamuxMachine(Streams):
    """One side of a yamux connection; implements `muxers.machine.MuxerMachine`."""

    full = ()  # windows see to it
    stall_timeout = 0.0

    def __init__(
        self, config: YamuxConfig, *, client: bool, new_stream: Callable[..., StreamState] = StreamState
    ) -> None:
        """`new_stream` makes the stream objects (called as StreamState is)."""
        super().__init__(config, new_stream)
        self.config = config
        self.streams: dict[int, StreamState] = {}
        self.round_trips = RoundTrips()
        self.went_away: int | None = None
        """The peer's go-away code."""
        self._next_id = 1 if client else 2
        self._unacknowledged = 0
        self._last_word: bytes | None = None
        self._pongs: deque[int] = deque()
        self._growth = Growth(config)
        self._heard_at = float("-inf")
        self._body_fin = False

    def charge(self, budget: MemoryBudget) -> None:
        """See `MuxerMachine.charge`."""
        self._growth.budget = budget

    # --- opening and using streams ----------------------------------------------------------------

    @property
    def rtt(self) -> float | None:
        """The last round trip, in seconds."""
        return self.round_trips.last

    def no_slot(self) -> ResourceLimitExceeded:
        """What is raised when the peer's accept backlog is full."""
        limit = self.config.max_unacknowledged
        return ResourceLimitExceeded("unacknowledged streams", limit, limit + 1)

    @property
    def open_slots(self) -> int:
        """How many streams the peer's accept backlog has room for."""
        return self.config.max_unacknowledged - self._unacknowledged

    def open_stream(self) -> StreamState:
        """Open a stream; its SYN rides with the first bytes sent. Raises LocalProtocolError, ResourceLimitExceeded."""
        if self._going_away or self.went_away is not None:
            raise LocalProtocolError("no stream can be opened after a go-away")
        if self.open_slots <= 0:
            raise self.no_slot()
        outbound = len(self.streams) - self._inbound
        if outbound >= self.config.max_outbound_streams:
            raise ResourceLimitExceeded("outbound streams", self.config.max_outbound_streams, outbound + 1)
        stream_id = self._next_id
        if stream_id > _MAX_U32:
            raise ResourceLimitExceeded("stream ids", _MAX_U32, stream_id)
        self._next_id += 2
        self._unacknowledged += 1
        stream = self.streams[stream_id] = self._new_stream(stream_id, inbound=False, flags=_SYN)
        self._enter_round(stream)
        return stream

    def reset(self, stream: StreamState, code: int, events: list[Event]) -> None:
        """End both directions now and tell the peer; if they have ended, only drop what was not read."""
        if not self._is_live(stream):
            self._drop(stream)
        elif stream.fault is None:
            if not stream.flags & _SYN:  # a stream the peer never heard of needs no word
                self._control += pack(VERSION, _WINDOW, stream.flags | _RST, stream.id, code)
            self._fail(stream, StreamReset("the stream was reset by us", code=code, remote=False), events)

    def read(self, stream: StreamState, max_bytes: int) -> bytes:
        """Give out bytes that came. Call `update_window` when `stream.consumed` has reached half of its capacity."""
        data = stream.read(max_bytes)
        size = len(data)
        self.buffered -= size
        stream.consumed += size
        return data

    def ping(self, now: float) -> int:
        """Queue a ping unless one is on its way; returns its opaque value."""
        if self.round_trips.begin(now):
            self._control += pack(VERSION, _PING, _SYN, 0, self.round_trips.opaque)
        return self.round_trips.opaque

    def go_away(self, code: int) -> None:
        """Queue a go-away: no stream is opened by either side any more. Only the first counts.

        It goes behind all that the windows let through: go and js cut everything when they see it.
        """
        if not self._going_away:
            self._going_away = True
            self._last_word = pack(VERSION, _GO_AWAY, 0, 0, code)

    def handle_timeout(self, now: float, events: list[Event]) -> None:
        """Do what is due: keepalive, streams whose close the peer never answered.

        Call it about once a second. Raises RemoteProtocolError when the peer answers no ping.
        """
        config = self.config
        sent_at = self.round_trips.sent_at
        # A pong may stand behind much else: any byte is a sign of life.
        if sent_at is not None and now - max(sent_at, self._heard_at) >= config.keepalive_timeout:
            raise RemoteProtocolError("the peer answers no ping", code=GoAway.NORMAL)
        if now - self.round_trips.begun_at >= config.keepalive_interval:
            self.ping(now)
        self._reset_overdue(now, events)

    # --- sending ----------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Whether `next_record` would give something."""
        return bool(self._control or self._ready or self._pongs or self._last_word)

    def next_record(self, room: int) -> list[Buffer]:
        """Take whole frames of at most `room` bytes together (room ≥ 2048): control first, then streams in turns."""
        out: list[Buffer] = []
        pongs, ready = self._pongs, self._ready
        if self._control:
            room -= self._take_control(room - room % HEADER_SIZE, out)
        while pongs and room >= HEADER_SIZE:
            out.append(pack(VERSION, _PING, _ACK, 0, pongs.popleft()))
            room -= HEADER_SIZE
        while ready and room > _MIN_PIECE:
            stream = ready.popleft()
            if stream.fault is not None and self._is_stale(stream):
                continue
            room -= HEADER_SIZE
            size = min(stream.queued, stream.send_window, room, self.config.max_frame)
            flags = stream.flags
            stream.flags = 0
            if size or flags:
                out.append(pack(VERSION, _DATA if size else _WINDOW, flags, stream.id, size))
            else:
                room += HEADER_SIZE
            if size:
                stream.take(size, out)
                stream.send_window -= size
                room -= size
                self._taken(stream, size)
            if stream.fin_queued and not stream.queued and not stream.fin_sent and room >= HEADER_SIZE:
                # A frame of its own: js-libp2p drops the bytes of a data frame that carries a FIN.
                out.append(pack(VERSION, _WINDOW, _FIN, stream.id, 0))
                room -= HEADER_SIZE
                stream.fin_sent = True
            if (stream.send_window and stream.queued) or (
                stream.fin_queued and not stream.queued and not stream.fin_sent
            ):
                ready.append(stream)
            else:
                stream.ready = False
                if stream.fin_sent and stream.remote_fin and stream.fault is None:
                    self._forget(stream)
                    self.ended.append(stream)
        if self._last_word is not None and not ready and not self._control and room >= HEADER_SIZE:
            out.append(self._last_word)
            self._last_word = None
        return out

    # --- receiving --------------------------------------------------------------------------------

    def receive_data(self, plaintext: Buffer, now: float, events: list[Event]) -> bytes:
        """Take in opened bytes; what happened is appended to `events`.

        Returns what is left behind a few hundred frames, to be handed in again when others had their turn: one record
        holds thousands of the smallest. Raises RemoteProtocolError, with the go-away code to send; the machine is dead
        from then on.
        """
        self._heard_at = now
        if self._head:
            plaintext = self._head + plaintext
            self._head = b""
        position, end = 0, len(plaintext)
        frames = 0
        while position < end:
            if self._body_left:
                position = self._take_body(plaintext, position, end, now, events)
                continue
            if end - position < HEADER_SIZE:
                self._head = bytes(plaintext[position:])
                break
            frames += 1
            if frames > _FRAMES:
                return bytes(plaintext[position:])
            version, kind, flags, stream_id, length = unpack_from(plaintext, position)
            position += HEADER_SIZE
            if version != VERSION or kind > _GO_AWAY:
                raise _violation(f"a frame of version {version}, type {kind}")
            if kind <= _WINDOW:
                self._take_stream_frame(kind, flags, stream_id, length, now, events)
            elif kind == _PING:
                self._take_ping(flags, length, now, events)
            else:
                self.went_away = length
                events.append(WentAway(length))
        return b""

    def _take_stream_frame(
        self, kind: int, flags: int, stream_id: int, length: int, now: float, events: list[Event]
    ) -> None:
        stream = self.streams.get(stream_id)
        if flags & _SYN:
            if stream is not None or stream_id == 0 or stream_id % 2 == self._next_id % 2:
                raise _violation(f"stream {stream_id} cannot be opened by the peer")
            if kind == _DATA and length > INITIAL_WINDOW:
                raise _violation(f"a stream opened with {length} bytes, above its window")
            if not flags & _RST:
                stream = self._accept(stream_id, now, events)
        elif stream_id == 0:
            raise _violation("a frame of stream 0")
        if stream is not None and flags & (_ACK | _RST):
            if flags & _ACK and stream.unacknowledged:
                stream.unacknowledged = False
                self._unacknowledged -= 1
            if flags & _RST:
                self._take_reset(stream, length if kind == _WINDOW else 0, now, events)
                stream = None
        if kind == _DATA:
            self._begin_body(stream, flags, length, events)
        elif stream is not None:
            if flags & _FIN:
                self._take_fin(stream, events)
            if length:
                if stream.send_window + length > _MAX_U32:
                    raise _violation(f"a window update that overflows the window of stream {stream_id}")
                stream.send_window += length
                if stream.queued:
                    self._enter_round(stream)

    def _accept(self, stream_id: int, now: float, events: list[Event]) -> StreamState | None:
        """Make the stream the peer opens, or refuse it."""
        if len(self._control) > self.config.max_control:
            raise RemoteProtocolError("the peer opens streams and reads no answer", code=ConnectionCode.RATE_LIMITED)
        if self._going_away or self._inbound >= self.config.max_inbound_streams:
            code = StreamCode.SHUTDOWN if self._going_away else StreamCode.RESOURCE_LIMIT_EXCEEDED
            self._count_reset(now)
            self._control += pack(VERSION, _WINDOW, _RST, stream_id, code)
            return None
        self._inbound += 1
        stream = self.streams[stream_id] = self._new_stream(stream_id, inbound=True, flags=_ACK)
        self._enter_round(stream)
        events.append(StreamOpened(stream))
        return stream

    def _begin_body(self, stream: StreamState | None, flags: int, length: int, events: list[Event]) -> None:
        if stream is not None:
            if length > stream.receive_window:
                raise _violation(f"{length} bytes for stream {stream.id}, whose window is {stream.receive_window}")
            if length and stream.remote_fin:
                raise _violation(f"bytes for stream {stream.id} behind its end")
        elif length > self.config.max_window:
            raise _violation(f"{length} bytes for a stream that is not open")
        fin = bool(flags & _FIN)
        if length:
            self._body_left = length
            self._body_stream = stream
            self._body_fin = fin
            if stream is not None:
                stream.receive_window -= length
        elif fin and stream is not None:
            self._take_fin(stream, events)

    def _take_body(self, plaintext: Buffer, position: int, end: int, now: float, events: list[Event]) -> int:
        """Hand the body, or as much of it as is here, to its stream; returns where the rest begins."""
        stop = min(end, position + self._body_left)
        size = stop - position
        self._body_left -= size
        stream = self._body_stream
        if stream is not None and stream.fault is None:
            if stream.discarding:
                self._consumed(stream, size, now)
            elif self.buffered + size > self.config.max_buffered:
                self.reset(stream, StreamCode.RESOURCE_LIMIT_EXCEEDED, events)
            else:
                self.buffered += size
                if not stream.received:
                    events.append(StreamReadable(stream))
                stream.deliver(plaintext, position, stop)
            if not self._body_left and self._body_fin:
                self._take_fin(stream, events)
        return stop

    def _take_fin(self, stream: StreamState, events: list[Event]) -> None:
        if not stream.remote_fin and stream.fault is None:
            stream.remote_fin = True
            events.append(StreamReadable(stream))
            if stream.fin_sent:
                self._forget(stream)
                events.append(StreamEnded(stream))

    def _take_reset(self, stream: StreamState, code: int, now: float, events: list[Event]) -> None:
        self._count_reset(now)
        self._fail(stream, StreamReset("the stream was reset by the peer", code=code), events)

    def _take_ping(self, flags: int, opaque: int, now: float, events: list[Event]) -> None:
        if flags & _SYN:
            if len(self._pongs) >= self.config.max_pending_pongs:
                raise RemoteProtocolError("pings sent without reading the answers", code=ConnectionCode.RATE_LIMITED)
            self._pongs.append(opaque)
        elif flags & _ACK:
            rtt = self.round_trips.answered(opaque, now)
            if rtt is not None:
                events.append(Ponged(opaque, rtt))

    # --- windows ----------------------------------------------------------------------------------

    def _consumed(self, stream: StreamState, size: int, now: float) -> None:
        stream.consumed += size
        if stream.consumed * 2 >= stream.capacity:
            self.update_window(stream, now)

    def update_window(self, stream: StreamState, now: float) -> None:
        """Tell the peer that it may send again as much as was consumed; more, if that went in under a round trip.

        Windows thus grow with consumption, never with what merely arrived, to between two and four times what the path
        holds: the peer hears of half a window at a time. What goes beyond stands in queues, in front of all else; up to
        `_ROOMY` that is little, and fewer updates are worth it, so two round trips will do. Each doubling waits for a
        round trip measured since the last.
        """
        if stream.fault is not None or stream.remote_fin:
            return
        delta = stream.consumed
        stream.consumed = 0
        best = self.round_trips.best
        trips = 1 if stream.capacity >= _ROOMY else 2
        quick = best is not None and now - stream.epoch < trips * best and not stream.discarding
        if quick and stream.capacity < self.config.max_window:
            if stream.grown_at < self.round_trips.measured_at:
                delta += self._growth.double(stream, now)
            else:
                self.ping(now)
        stream.epoch = now
        stream.receive_window += delta
        flags = stream.flags
        stream.flags = 0
        self._control += pack(VERSION, _WINDOW, flags, stream.id, delta)

    def _drop(self, stream: StreamState, now: float | None = None) -> None:
        size = stream.drop()
        self.buffered -= size
        if now is not None:
            self._consumed(stream, size, now)

    # --- ends -------------------------------------------------------------------------------------

    def _all(self) -> Collection[StreamState]:
        return self.streams.values()

    def _is_live(self, stream: StreamState) -> bool:
        return self.streams.get(stream.id) is stream

    def _forget(self, stream: StreamState) -> None:
        if self.streams.pop(stream.id, None) is stream:
            self._closing.pop(stream, None)
            if stream.inbound:
                self._inbound -= 1
            elif stream.unacknowledged:
                stream.unacknowledged = False
                self._unacknowledged -= 1
            self._growth.undo(stream)


def _violation(message: str) -> RemoteProtocolError:
    return RemoteProtocolError(message, code=GoAway.PROTOCOL_ERROR)
