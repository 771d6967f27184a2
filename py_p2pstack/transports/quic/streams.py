"""The streams of one QUIC connection: opened by us or by the peer, read, written and ended.

What the connection is told of them comes in through `STREAM_EVENTS`; what becomes of its own end is `connection`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from py_p2pstack.allowance import Allowance
from py_p2pstack.core.error_codes import ConnectionCode, StreamCode
from py_p2pstack.core.muxer import MemoryBudget, MuxedStream
from py_p2pstack.core.types import Buffer
from py_p2pstack.errors import ConnectionClosed, StreamReset
from py_p2pstack.event_loop import Signal
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.grants import Grants
from py_p2pstack.transports.quic.openers import Openers
from py_p2pstack.transports.quic.outflow import Outflow
from py_p2pstack.transports.quic.stream import QuicStream

if TYPE_CHECKING:
    from py_p2pstack.transports.quic.connection import QuicConnection

_FLOW_CONTROL_ERROR = 3  # RFC 9000 §20.1


class QuicStreams:
    """All streams that are not over, and what waits in them."""

    def __init__(self, connection: QuicConnection, config: QuicConfig, signal: Callable[[], Signal]) -> None:
        self.outflow = Outflow()
        """What waits to be sent."""
        self.grants = Grants(config)
        """What readers have earned."""
        self.unread = 0
        """Bytes received and not consumed."""
        self.signal = signal
        """Makes what readers and writers wait for."""
        self._connection = connection
        self._machine = connection.machine
        self._config = config
        self._handler: Callable[[MuxedStream], bool] | None = None
        self._table: dict[int, QuicStream] = {}
        self._unwanted: dict[QuicStream, None] = {}
        self._openers = Openers(self._limits, config.open_timeout)
        self._resets = Allowance(config.max_resets, config.resets_per_second)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def served(self) -> bool:
        """Whether somebody takes the streams that the peer opens."""
        return self._handler is not None

    def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None) -> None:
        """See `MuxedConnection.serve`."""
        self._handler = handler
        self.grants.budget = budget

    # --- for the application ----------------------------------------------------------------------

    async def open(self) -> QuicStream:
        """See `QuicConnection.open_stream`."""
        if not self._openers.may_go_on():
            await self._openers.wait()
        reason = self._connection.close_reason
        if reason is not None:
            raise ConnectionClosed("the connection is closed") from reason
        try:
            stream_id = self._machine.core.open_stream(False)
        except RuntimeError as fault:  # it has just ended, and nobody was told yet
            raise ConnectionClosed(f"the connection is closed: {fault}") from None
        return self._add(stream_id, self._machine.credit_of_ours)

    def _add(self, stream_id: int, credit: int) -> QuicStream:
        stream = self._table[stream_id] = QuicStream(self, stream_id, window=self._config.stream_window, credit=credit)
        return stream

    def _limits(self) -> tuple[int, int]:
        """How many streams the peer allows in all, and how many we have opened."""
        if self._connection.closed:
            return 1, 0  # nobody waits any more
        limits = self._machine.core.stream_limits
        return limits[0], limits[2]

    def write(self, stream: QuicStream, data: Buffer) -> None:
        """Hand over bytes to be sent; `stream` was asked whether it may."""
        self._machine.command(self._machine.core.send_stream, stream.id, data, False)
        size = len(data)
        self.outflow.add(stream, size)
        self._connection.wrote(size)

    def write_eof(self, stream: QuicStream) -> None:
        """End our side; idempotent."""
        if self._finish(stream):
            self._settle(stream)
            self._connection.wrote(0)

    def close(self, stream: QuicStream) -> None:
        """End our side, and drop what comes: nobody reads any more."""
        finished = self._finish(stream)
        if not stream.discarding:
            stream.discarding = True
            self._drop(stream)
            stream.wake_reader()
            if stream.taken >= stream.granted and not stream.remote_fin:  # it waits for credit that will never come
                self._refuse(stream)
        elif not finished:
            return
        if not stream.ended:
            self._settle(stream)
        self._connection.wrote(0)

    def _finish(self, stream: QuicStream) -> bool:
        if stream.fin_sent or stream.send_fault is not None:
            return False
        stream.fin_sent = True
        self._machine.command(self._machine.core.send_stream, stream.id, b"", True)
        return True

    def reset(self, stream: QuicStream, code: int) -> None:
        """End both directions at once and tell the peer; drops what was not read."""
        self._drop(stream)
        if self._table.get(stream.id) is stream:
            if not stream.remote_fin and not stream.refused:
                stream.refused = True
                self._machine.command(self._machine.core.stop_sending, stream.id, code)
            if not stream.fin_sent or stream.queued:
                self._reset_sending(stream, code)
        self._fail(stream, StreamReset("the stream was reset by us", code=code, remote=False))
        self._connection.flush()

    def consumed(self, stream: QuicStream, size: int) -> None:
        """The application took bytes of a stream."""
        self._release(size)
        stream.consumed += size
        if stream.granted - stream.consumed <= stream.capacity // 2 and stream.expects:
            self._connection.grant(stream)

    def _release(self, size: int) -> None:
        """So many bytes are no longer unread: what waits in the machine may come."""
        limit = self._config.max_unread
        left = self.unread = self.unread - size
        if left < limit <= left + size:
            self._connection.resume()

    def _drop(self, stream: QuicStream) -> None:
        if stream.unread:
            self._release(stream.drop())

    def _reset_sending(self, stream: QuicStream, code: int) -> None:
        self._machine.command(self._machine.core.reset_stream, stream.id, code)
        self.outflow.forget(stream)

    def _fail(self, stream: QuicStream, fault: Exception) -> None:
        stream.fail(fault)
        self._settle(stream)

    def _settle(self, stream: QuicStream) -> None:
        if stream.settle():
            self.grants.forget(stream)

    # --- for the connection -----------------------------------------------------------------------

    def count_sent(self) -> None:
        """Something may have gone out."""
        if self.outflow:
            self.outflow.count(self._machine.core.get_send_buffer_size)
        if self._unwanted:
            self._stop_unwanted()

    def _refuse(self, stream: QuicStream) -> None:
        """Have the peer send no more on a stream that nobody reads."""
        if not stream.refused:
            stream.refused = True
            self._unwanted[stream] = None

    def _stop_unwanted(self) -> None:
        """Tell so, once all that we sent is out.

        The core holds back what is not, from then on until the peer has answered: a round trip.
        """
        if self._machine.is_pacing:
            return
        out = [stream for stream in self._unwanted if not stream.queued]
        for stream in out:
            del self._unwanted[stream]
            if not stream.remote_fin:
                self._machine.command(self._machine.core.stop_sending, stream.id, int(StreamCode.NO_ERROR))
        self._connection.send()

    def close_all(self, reason: Exception) -> None:
        """We close the connection: nothing more is taken or begun, what was sent still goes out."""
        for stream in tuple(self._table.values()):
            stream.fault = stream.fault or (None if stream.remote_fin else reason)
            stream.send_fault = stream.send_fault or reason
            stream.wake_reader()
            stream.wake_sender()
            stream.settle()
        self._openers.wake_all()
        self.outflow.release()

    def fail_all(self, fault: Exception) -> None:
        """The connection is over."""
        table, self._table = self._table, {}
        for stream in table.values():
            self._fail(stream, fault)
        self.outflow.clear()
        self._unwanted.clear()
        self._openers.wake_all()

    # --- what the machine tells -------------------------------------------------------------------

    def _received(self, event: tuple[Any, ...]) -> None:
        _, stream_id, data, fin = event
        stream = self._table.get(stream_id) or self._arrived(stream_id)
        if stream is None:
            return
        if data:
            stream.taken += len(data)
            if stream.taken > stream.granted:
                self._machine.violated(_FLOW_CONTROL_ERROR)
                self._connection.fail(
                    ConnectionClosed(f"the peer broke QUIC's rules: stream {stream_id} beyond its window")
                )
            if stream.discarding:
                if not fin:
                    self._refuse(stream)
            elif stream.fault is None:
                stream.deliver(data)
                self.unread += len(data)
        if fin:
            stream.remote_fin = True
            if not stream.ended:
                self._settle(stream)
        stream.wake_reader()

    def _arrived(self, stream_id: int) -> QuicStream | None:
        """The peer opened a stream; None if nobody takes it."""
        if (stream_id & 1 == 0) == self._machine.client:
            return None  # ours, and long over
        stream = self._add(stream_id, self._machine.credit_of_theirs)
        if self._connection.closed:
            self._fail(stream, ConnectionClosed("the connection is closed"))
            return None
        assert self._handler is not None
        if not self._handler(stream):
            self.reset(stream, StreamCode.RESOURCE_LIMIT_EXCEEDED)
            self._count_reset()
            return None
        return stream

    def _over(self, event: tuple[Any, ...]) -> None:
        self._table.pop(event[1], None)

    def _reset_by_peer(self, event: tuple[Any, ...]) -> None:
        """Both directions end, as with every muxer, unless that is the peer's answer to our wish to read no more."""
        _, stream_id, code, *_ = event
        stream = self._table.get(stream_id) or self._arrived(stream_id)
        if stream is None:
            return
        self._drop(stream)
        if stream.discarding:
            stream.remote_fin = True
        else:
            if not stream.fin_sent or stream.queued:
                self._reset_sending(stream, code)
            stream.fail(StreamReset("the peer reset the stream", code=code))
        self._settle(stream)
        if not stream.refused:  # which it was bound to answer
            self._count_reset()

    def _stopped_by_peer(self, event: tuple[Any, ...]) -> None:
        """The peer reads no more; the machine has answered with a reset."""
        _, stream_id, code, *_ = event
        stream = self._table.get(stream_id) or self._arrived(stream_id)
        if stream is None:
            return
        self.outflow.forget(stream)
        if not stream.fin_sent:
            stream.send_fault = stream.send_fault or StreamReset("the peer reads no more", code=code)
        stream.wake_sender()
        self._settle(stream)

    def _credited(self, event: tuple[Any, ...]) -> None:
        if (stream := self._table.get(event[1])) is not None:
            stream.credit = event[2]

    def _may_open(self, event: tuple[Any, ...]) -> None:
        self._openers.wake()

    def _acknowledged(self, event: tuple[Any, ...]) -> None:
        self.grants.acknowledged(event[1])

    def _count_reset(self) -> None:
        """Bound the rate of streams opened in vain: each costs us more than the peer."""
        if not self._resets.take(self._connection.heard_at):
            code = ConnectionCode.RATE_LIMITED
            self._connection.fail(ConnectionClosed("too many streams reset in a short time", code=code), code)


STREAM_EVENTS: Mapping[str, Callable[[QuicStreams, tuple[Any, ...]], None]] = {
    "stream_data": QuicStreams._received,
    "stream_finished": QuicStreams._over,
    "stream_reset": QuicStreams._reset_by_peer,
    "stop_sending": QuicStreams._stopped_by_peer,
    "stream_credit": QuicStreams._credited,
    "streams_available": QuicStreams._may_open,
    "ping_acknowledged": QuicStreams._acknowledged,
}
"""What to do about what the machine tells of streams."""
