"""A QUIC connection as the swarm sees it: streams over a machine, and what time and the endpoint do to it.

The endpoint feeds it datagrams and calls `process` and `flush` behind each batch; senders flush by themselves. Nothing
is taken from the machine while the application has not consumed what came before: its windows then stay shut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from py_p2pstack.core.error_codes import ConnectionCode, StreamCode
from py_p2pstack.core.muxer import ConnectionInfo, MemoryBudget, MuxedStream
from py_p2pstack.core.types import Buffer, Direction
from py_p2pstack.errors import ConnectionClosed, P2PError, ResourceLimitExceeded, StreamReset
from py_p2pstack.identity import PeerId
from py_p2pstack.transports.quic.address import SocketAddress, quic_multiaddr
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.farewell import Farewell
from py_p2pstack.transports.quic.grants import Grants
from py_p2pstack.transports.quic.machine import QuicMachine
from py_p2pstack.transports.quic.openers import Openers
from py_p2pstack.transports.quic.outflow import Outflow
from py_p2pstack.transports.quic.stream import QuicStream

if TYPE_CHECKING:
    from py_p2pstack.transports.quic.endpoint import QuicEndpoint

SECURITY = "/tls/1.0.0"
MUXER = "/quic-v1"
_FLOW_CONTROL_ERROR = 3  # RFC 9000 §20.1
_MAX_HELD = 64 * 1024  # events that may wait while the application does not read


class QuicConnection:
    """Implements `core.muxer.MuxedConnection`."""

    info: ConnectionInfo
    """Known once the handshake is complete."""

    def __init__(self, endpoint: QuicEndpoint, machine: QuicMachine, config: QuicConfig, now: float) -> None:
        self.machine = machine
        self.party = endpoint.party()
        """Who waits for this connection to do something, and drives the endpoint meanwhile."""
        self.outflow = Outflow()
        """What waits to be sent."""
        self.unread = 0
        """Bytes received and not consumed, over all streams."""
        self.cids = {machine.cid}
        """The ids under which the endpoint knows it."""
        self.timer: float | None = None
        """When the endpoint will look at it."""
        self.far_timer: float | None = None
        """The last such time that was more than a second away."""
        self.corked = False
        """Whether a batch is under way, whose end sends everything with few calls."""
        self.farewell: Farewell | None = None
        """A close of ours that waits for what was sent before."""
        self.signal = endpoint.signal
        """Makes what readers and writers of its streams wait for."""
        self._endpoint = endpoint
        self._config = config
        self._streams: dict[int, QuicStream | None] = {}
        self._unwanted: set[QuicStream] = set()
        self._openers = Openers(self._stream_limits, config.open_timeout)
        self._handler: Callable[[MuxedStream], bool] | None = None
        self._grants = Grants(config)
        self._reason: Exception | None = None
        self._code = 0
        self._heard_at = now
        self._asked_at = now
        self._kept_up = 0
        self._resets_left = float(config.max_resets)
        self._resets_at = now
        self._ended = False

    def __repr__(self) -> str:
        who = self.info.remote_peer if self.established else self.machine.remote
        return f"<QuicConnection {who} {len(self._streams)} streams{' closed' if self.closed else ''}>"

    @property
    def established(self) -> bool:
        """Whether the handshake is complete."""
        return self.machine.public_key is not None

    @property
    def closed(self) -> bool:
        """Whether it takes no new streams."""
        return self._reason is not None

    @property
    def close_reason(self) -> Exception | None:
        """Why it ended; None while it lives."""
        return self._reason

    @property
    def rtt(self) -> float | None:
        """The last round trip, in seconds."""
        return None if self._ended else self.machine.core.latest_rtt

    def describe(self, local_peer: PeerId, local: Any) -> None:
        """Fill in `info`, when the handshake is complete."""
        public_key = self.machine.public_key
        assert public_key is not None
        self.info = ConnectionInfo(
            direction=Direction.OUTBOUND if self.machine.client else Direction.INBOUND,
            local_peer=local_peer,
            remote_peer=public_key.peer_id(),
            remote_public_key=public_key,
            local_address=local,
            remote_address=quic_multiaddr(self.machine.remote),
            transport="quic-v1",
            security=SECURITY,
            muxer=MUXER,
        )

    # --- streams ----------------------------------------------------------------------------------

    async def open_stream(self) -> QuicStream:
        """Open a stream; waits while the peer allows no more.

        Raises ConnectionClosed, or ResourceLimitExceeded when that takes longer than `open_timeout`.
        """
        await self._openers.wait()
        if self._reason is not None:
            raise ConnectionClosed("the connection is closed") from self._reason
        try:
            stream_id = self.machine.core.open_stream(False)
        except RuntimeError as fault:  # it has just ended, and nobody was told yet
            raise ConnectionClosed(f"the connection is closed: {fault}") from None
        stream = QuicStream(self, stream_id, window=self._config.stream_window, credit=self.machine.credit_of_ours)
        self._streams[stream_id] = stream
        return stream

    def _stream_limits(self) -> tuple[int, int]:
        """How many streams the peer allows in all, and how many we have opened."""
        if self.closed:
            return 1, 0  # nobody waits any more
        limits = self.machine.core.stream_limits
        return limits[0], limits[2]

    def write(self, stream: QuicStream, data: Buffer) -> None:
        """Hand over bytes to be sent; `stream` was asked whether it may."""
        self.machine.command(self.machine.core.send_stream, stream.id, data, False)
        self.outflow.add(stream, len(data))
        self.flush()

    def write_eof(self, stream: QuicStream) -> None:
        """End our side; idempotent."""
        if stream.fin_sent or stream.send_fault is not None:
            return
        stream.fin_sent = True
        self.machine.command(self.machine.core.send_stream, stream.id, b"", True)
        self._settle(stream)
        self.flush()

    def reset(self, stream: QuicStream, code: int) -> None:
        """End both directions at once and tell the peer; drops what was not read."""
        self._drop(stream)
        if self._live(stream):
            if not stream.remote_fin and not stream.discarding:
                self.machine.command(self.machine.core.stop_sending, stream.id, code)
            if not stream.fin_sent or stream.queued:
                self._reset_sending(stream, code)
        self._fail(stream, StreamReset("the stream was reset by us", code=code, remote=False))
        self.flush()

    def discard(self, stream: QuicStream) -> None:
        """Nobody reads any more: drop what came, and ask the peer to send no more."""
        if stream.discarding:
            return
        stream.discarding = True
        self._unwanted.add(stream)
        self._drop(stream)
        stream.wake_reader()
        self._settle(stream)
        self.flush()

    def _stop_unwanted(self) -> None:
        """Ask for nothing more on streams that were discarded, once all that we sent on them is out.

        The core holds back what is not, from then on until the peer has answered: a round trip.
        """
        timer = self.machine.core.get_timer()
        if timer is not None and timer[0] == "pacing":
            return
        out = [stream for stream in self._unwanted if not stream.queued]
        self._unwanted.difference_update(out)
        for stream in out:
            if not stream.remote_fin and self._live(stream):
                self.machine.command(self.machine.core.stop_sending, stream.id, int(StreamCode.NO_ERROR))
        self._endpoint.send(self)

    def consumed(self, stream: QuicStream, size: int) -> None:
        """The application took bytes of a stream."""
        self._release(size)
        if self._grants.is_due(stream, size) and not self._ended:
            self._grants.grant(stream, self._endpoint.now(), self.machine.core.smoothed_rtt)
            self.flush()

    def _live(self, stream: QuicStream) -> bool:
        """Whether the machine still knows the stream."""
        return not self._ended and self._streams.get(stream.id) is stream

    def _reset_sending(self, stream: QuicStream, code: int) -> None:
        self.machine.command(self.machine.core.reset_stream, stream.id, code)
        self.outflow.forget(stream)

    def _drop(self, stream: QuicStream) -> None:
        self._release(stream.drop())

    def _release(self, size: int) -> None:
        """So many bytes are no longer unread: what waits in the machine may come."""
        before = self.unread
        self.unread -= size
        limit = self._config.max_unread
        if before >= limit > self.unread and not self.corked:
            self.process()
            self.flush()

    def _fail(self, stream: QuicStream, fault: Exception) -> None:
        stream.fail(fault)
        self._settle(stream)

    def _settle(self, stream: QuicStream) -> None:
        if not stream.settle():
            return
        self._grants.forget(stream)
        if self._streams.get(stream.id) is stream and not stream.queued:
            self._streams[stream.id] = None

    # --- lifetime ---------------------------------------------------------------------------------

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        """See `MuxedConnection.serve`."""
        self._handler = handler
        self._grants.budget = budget
        self.party.again()
        try:
            if self._reason is None:
                self.process()
                self.flush()
                await self._endpoint.drive(self.party)
        finally:
            self._end(ConnectionClosed("the connection was cancelled"))

    def close(self, code: int = 0) -> None:
        """See `MuxedConnection.close`."""
        if self._reason is not None:
            return
        self._reason = ConnectionClosed("the connection was closed by us", code=code)
        self._code = code
        for stream in self._open_streams():
            stream.fault = stream.fault or (None if stream.remote_fin else self._reason)
            stream.send_fault = stream.send_fault or self._reason
            stream.wake_reader()
            stream.wake_sender()
            stream.settle()
        self._openers.wake_all()
        self.outflow.release()
        if self._handler is None:  # nobody serves it
            self._end(self._reason)
            return
        until = self._endpoint.now() + self._config.flush_timeout
        self.farewell = Farewell(self.machine.core, until, self._ask_at_once)
        self.flush()

    def _open_streams(self) -> list[QuicStream]:
        return [stream for stream in self._streams.values() if stream is not None]

    def fail(self, fault: P2PError) -> None:
        """It broke."""
        if self._reason is None:
            self._reason = fault
        self.party.finish()

    def _end(self, reason: Exception) -> None:
        """Tell the peer, if it does not know; release everything. Idempotent."""
        if self._ended:
            return
        if self._reason is None:
            self._reason = reason
        machine = self.machine
        if not machine.ended:
            machine.close(self._code)
        self._endpoint.send(self)
        self._endpoint.forget(self)
        self._ended = True
        fault = self._reason
        if not isinstance(fault, ConnectionClosed):
            fault = ConnectionClosed(f"the connection failed: {fault}", code=getattr(fault, "code", None))
            fault.__cause__ = self._reason
        for stream in self._open_streams():
            self._fail(stream, fault)
        self._streams.clear()
        self.outflow.clear()
        self._unwanted.clear()
        self._openers.wake_all()
        self.party.finish()

    def abort(self) -> None:
        """End a connection that nobody was given."""
        self._end(ConnectionClosed("the dial was given up"))

    def tick(self, now: float) -> None:
        """Ask a silent peer for a word."""
        interval = self._config.keepalive_interval
        if not self.closed and now - max(self._heard_at, self._asked_at) >= interval:
            self._asked_at = now
            self.machine.command(self.machine.core.send_ping, 0)
            self.flush()

    # --- called by the endpoint -------------------------------------------------------------------

    def next_look(self) -> float | None:
        """When time will demand something of it."""
        machine = self.machine
        times = [machine.timer()]
        if self._grants:
            times.append(self._grants.deadline(machine.core.smoothed_rtt))
        if self.farewell is not None:
            times.append(self.farewell.until)
        return min((time for time in times if time is not None), default=None)

    def heard(self, now: float) -> None:
        """A datagram came."""
        self._heard_at = now

    def process(self) -> None:
        """Take what the machine has to tell, as long as the application keeps up."""
        machine = self.machine
        while machine.early_cids:
            self._endpoint.learn(self, machine.early_cids.pop())
        if machine.fault is not None:
            self.fail(machine.fault)
            return
        if not self.established:
            return
        if self._handler is None or self._ended:
            self.party.finish()
            return
        next_event, limit = machine.core.next_event, self._config.max_unread
        while self.unread < limit or self._reason is not None:
            event = next_event()
            if event is None:
                self._kept_up = machine.told
                break
            kind = event[0]
            if kind == "stream_data":
                self._received(event[1], event[2], event[3])
            else:
                self._told(kind, event)
        else:
            self._hold()

    def _hold(self) -> None:
        """The application does not keep up; a peer that goes on telling nevertheless is cut off."""
        if self.machine.core.state in ("draining", "terminated"):
            self._reason = self._reason or ConnectionClosed("the peer closed the connection", remote=True)
            self.process()
            return
        held = self.machine.told - self._kept_up
        if held > _MAX_HELD:
            self._code = ConnectionCode.RATE_LIMITED
            self.fail(ResourceLimitExceeded("events of a connection nobody reads", _MAX_HELD, held))

    def _received(self, stream_id: int, data: bytes, fin: bool) -> None:
        stream = self._stream(stream_id)
        if stream is None:
            return
        if data:
            stream.taken += len(data)
            if stream.taken > stream.granted:
                self._accuse(stream)
            if not stream.discarding and stream.fault is None:
                stream.deliver(data)
                self.unread += len(data)
        if fin:
            stream.remote_fin = True
            self._settle(stream)
        stream.wake_reader()

    def _accuse(self, stream: QuicStream) -> None:
        """The peer sends more than it may."""
        self.machine.violated(_FLOW_CONTROL_ERROR)
        self.fail(ConnectionClosed(f"the peer broke QUIC's rules: stream {stream.id} beyond its window"))

    def _told(self, kind: str, event: tuple[Any, ...]) -> None:
        """Everything but data."""
        if kind == "stream_finished":
            self._streams.pop(event[1], None)
        elif kind == "stream_reset":
            if (stream := self._stream(event[1])) is not None:
                self._reset_by_peer(stream, event[2])
        elif kind == "stop_sending":
            if (stream := self._stream(event[1])) is not None:
                self._stopped_by_peer(stream, event[2])
        elif kind == "stream_credit":
            if (stream := self._streams.get(event[1])) is not None:
                stream.credit = event[2]
        elif kind == "streams_available":
            self._openers.wake()
        elif kind == "ping_acknowledged":
            self._grants.acknowledged(event[1])
        elif kind == "connection_id_issued":
            self._endpoint.learn(self, event[1])
        elif kind == "connection_id_retired":
            self._endpoint.unlearn(self, event[1])
        elif kind == "handshake_done":
            self.machine.confirmed()
        elif kind == "peer_closed":
            application, code = event[1], event[2]
            reason = event[4].decode("utf8", "replace")
            text = "the peer closed the connection" if application else f"QUIC error {code:#x}: {reason}".rstrip(": ")
            self.fail(ConnectionClosed(text, code=code if application else None, remote=True))
        elif kind == "protocol_error":
            self.fail(ConnectionClosed(f"the peer broke QUIC's rules: {event[3]}"))
        elif kind == "connection_terminated":
            reason = event[3].decode("utf8", "replace") or "reset"
            self.fail(ConnectionClosed(f"the connection broke: {reason}", remote=True))

    def _stream(self, stream_id: int) -> QuicStream | None:
        """The stream of an event; a new one, if the peer opened it just now."""
        if stream_id in self._streams:
            return self._streams[stream_id]
        if (stream_id & 1 == 0) == self.machine.client:
            return None  # ours, and long over
        stream = QuicStream(self, stream_id, window=self._config.stream_window, credit=self.machine.credit_of_theirs)
        self._streams[stream_id] = stream
        if self._reason is not None:
            self._fail(stream, ConnectionClosed("the connection is closed"))
            return None
        assert self._handler is not None
        if not self._handler(stream):
            self.reset(stream, StreamCode.RESOURCE_LIMIT_EXCEEDED)
            self._count_reset()
            return None
        return stream

    def _reset_by_peer(self, stream: QuicStream, code: int) -> None:
        """Both directions end, as with every muxer, unless that is the peer's answer to our wish to read no more."""
        self._drop(stream)
        if stream.discarding:
            stream.remote_fin = True
        else:
            if not stream.fin_sent or stream.queued:
                self._reset_sending(stream, code)
            stream.fail(StreamReset("the peer reset the stream", code=code))
        self._settle(stream)
        self._count_reset()

    def _stopped_by_peer(self, stream: QuicStream, code: int) -> None:
        """The peer reads no more; the machine has answered with a reset."""
        self.outflow.forget(stream)
        if not stream.fin_sent:
            stream.send_fault = stream.send_fault or StreamReset("the peer reads no more", code=code)
        stream.wake_sender()
        self._settle(stream)

    def _count_reset(self) -> None:
        """Bound the rate of streams opened in vain: each costs us more than the peer."""
        now = self._heard_at
        earned = (now - self._resets_at) * self._config.resets_per_second
        self._resets_left = min(self._config.max_resets, self._resets_left + earned) - 1
        self._resets_at = now
        if self._resets_left < 0:
            self._code = ConnectionCode.RATE_LIMITED
            self.fail(ConnectionClosed("too many streams reset in a short time", code=ConnectionCode.RATE_LIMITED))

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """All that may go out now, each with where to."""
        machine, grants = self.machine, self._grants
        frames = grants.frames(now, machine.core.smoothed_rtt) if grants else b""
        datagrams = machine.datagrams_to_send(now, frames)
        if machine.carrier is not None:
            grants.sent(machine.carrier, now)
        return datagrams

    def flush(self) -> None:
        """Send what can go out, unless a batch is under way that will."""
        if self.corked or self._ended:
            return
        self._endpoint.send(self)
        if self.outflow:
            self.outflow.count(self.machine.core.get_send_buffer_size)
        if self._unwanted:
            self._stop_unwanted()
        farewell = self.farewell
        if farewell is not None and (self.machine.ended or farewell.is_over(self.outflow.queued, self._endpoint.now())):
            self.party.finish()

    def _ask_at_once(self) -> None:
        """Have the peer acknowledge all it has: with the second packet it does so at once, else up to 25 ms later."""
        for _ in range(2):
            self._endpoint.send(self)
            self.machine.command(self.machine.core.send_ping, 0)
        self._endpoint.send(self)
