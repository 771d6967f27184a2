"""A QUIC connection as the swarm sees it: streams over a machine, and what time and the endpoint do to it.

The endpoint feeds it datagrams and calls `process` and `flush` behind each batch; senders flush by themselves. Nothing
is taken from the machine while the application has not consumed what came before: its windows then stay shut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from py_p2pstack.core.error_codes import ConnectionCode
from py_p2pstack.core.muxer import ConnectionInfo, MemoryBudget, MuxedStream
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ConnectionClosed, P2PError, ResourceLimitExceeded
from py_p2pstack.identity import PeerId
from py_p2pstack.transports.quic.address import SocketAddress, quic_multiaddr
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.farewell import Farewell
from py_p2pstack.transports.quic.machine import QuicMachine
from py_p2pstack.transports.quic.stream import QuicStream
from py_p2pstack.transports.quic.streams import STREAM_EVENTS, QuicStreams

if TYPE_CHECKING:
    from py_p2pstack.transports.quic.endpoint import QuicEndpoint

SECURITY = "/tls/1.0.0"
MUXER = "/quic-v1"
_MAX_HELD = 64 * 1024  # events that may wait while the application does not read
_PACKET = 1200  # bytes of frames that fill a packet, about
_FRAME = 8  # bytes of a frame beside its data, about


class QuicConnection:
    """Implements `core.muxer.MuxedConnection`."""

    info: ConnectionInfo
    """Known once the handshake is complete."""

    def __init__(self, endpoint: QuicEndpoint, machine: QuicMachine, config: QuicConfig, now: float) -> None:
        self.machine = machine
        self.party = endpoint.party()
        """Who waits for this connection to do something, and drives the endpoint meanwhile."""
        self.cids = {machine.cid}
        """The ids under which the endpoint knows it."""
        self.timer: float | None = None
        """When the endpoint will look at it."""
        self.far_timer: float | None = None
        """The last such time that was more than a second away."""
        self.farewell: Farewell | None = None
        """A close of ours that waits for what was sent before."""
        self.heard_at = now
        """When a datagram came last."""
        self.streams = QuicStreams(self, config, endpoint.signal)
        self._endpoint = endpoint
        self._config = config
        self._corked = False
        self._held = False
        self._gathered = 0
        self._reason: Exception | None = None
        self._code = 0
        self._asked_at = now
        self._kept_up = 0
        self._ended = False

    def __repr__(self) -> str:
        who = self.info.remote_peer if self.established else self.machine.remote
        return f"<QuicConnection {who} {len(self.streams)} streams{' closed' if self.closed else ''}>"

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

    async def open_stream(self) -> QuicStream:
        """Open a stream; waits while the peer allows no more.

        Raises ConnectionClosed, or ResourceLimitExceeded when that takes longer than `open_timeout`.
        """
        return await self.streams.open()

    # --- lifetime ---------------------------------------------------------------------------------

    async def serve(self, handler: Callable[[MuxedStream], bool], budget: MemoryBudget | None = None) -> None:
        """See `MuxedConnection.serve`."""
        self.streams.serve(handler, budget)
        self.party.again()
        try:
            if self._reason is None or self.farewell is not None:  # it may have been closed before we came
                self.process()
                self.flush()
                await self._endpoint.drive(self.party)
        finally:
            self._end(ConnectionClosed("the connection was cancelled"))

    def close(self, code: int = 0) -> None:
        """See `MuxedConnection.close`.

        One with streams is to be served even then, for what was sent before: else only others on its socket see to
        that, if there are any.
        """
        if self._reason is not None:
            return
        self._reason = ConnectionClosed("the connection was closed by us", code=code)
        self._code = code
        self.streams.close_all(self._reason)
        if not self.streams.served and not self.streams:  # nothing was sent
            self._end(self._reason)
            return
        until = self._endpoint.now() + self._config.flush_timeout
        self.farewell = Farewell(self.machine, self.streams, until, self._ask_at_once)
        self.flush()

    def fail(self, fault: P2PError, code: int | None = None) -> None:
        """It broke; the peer is told so with `code`, if there is one."""
        if code is not None:
            self._code = code
        if self._reason is None:
            self._reason = fault
        self.party.finish()

    def _end(self, reason: Exception) -> None:
        """Tell the peer, if it does not know; release everything. Idempotent."""
        if self._ended:
            return
        if self._reason is None:
            self._reason = reason
        if not self.machine.ended:
            self.machine.close(self._code)
        self.send()
        self._endpoint.forget(self)
        self._ended = True
        fault = self._reason
        if not isinstance(fault, ConnectionClosed):
            fault = ConnectionClosed(f"the connection failed: {fault}", code=getattr(fault, "code", None))
            fault.__cause__ = self._reason
        self.streams.fail_all(fault)
        self.party.finish()

    def abort(self) -> None:
        """End a connection that nobody was given, or serves."""
        self._end(ConnectionClosed("the dial was given up"))

    def tick(self, now: float) -> None:
        """Ask a silent peer for a word."""
        interval = self._config.keepalive_interval
        if not self.closed and now - max(self.heard_at, self._asked_at) >= interval:
            self._asked_at = now
            self.machine.command(self.machine.core.send_ping, 0)
            self.flush()

    # --- called by the endpoint -------------------------------------------------------------------

    def next_look(self) -> float | None:
        """When time will demand something of it."""
        machine, grants = self.machine, self.streams.grants
        times = [machine.timer()]
        if grants:
            times.append(grants.deadline(machine.core.smoothed_rtt))
        if self.farewell is not None:
            times.append(self.farewell.until)
        return min((time for time in times if time is not None), default=None)

    def cork(self) -> None:
        """A batch is under way, whose end sends what does not fill a packet before."""
        self._corked = True

    def uncork(self) -> None:
        """The batch is over."""
        self._corked = False
        if self._held:
            self.process()
        self.flush()

    def heard(self, now: float) -> None:
        """A datagram came."""
        self.heard_at = now

    def process(self) -> None:
        """Take what the machine has to tell, as long as the application keeps up."""
        machine, streams = self.machine, self.streams
        while machine.early_cids:
            self._endpoint.learn(self, machine.early_cids.pop())
        if machine.fault is not None:
            self.fail(machine.fault)
            return
        if not self.established:
            return
        if not streams.served or self._ended:
            self.party.finish()
            return
        next_event, limit, about_streams = machine.core.next_event, self._config.max_unread, STREAM_EVENTS.get
        self._held = False
        while streams.unread < limit or self._reason is not None:
            event = next_event()
            if event is None:
                self._kept_up = machine.told
                break
            handle = about_streams(event[0])
            if handle is not None:
                handle(streams, event)
            else:
                self._told(event[0], event)
        else:
            self._hold()

    def _hold(self) -> None:
        """The application does not keep up; a peer that goes on telling nevertheless is cut off."""
        self._held = True
        if self.machine.core.state in ("draining", "terminated"):
            self._reason = self._reason or ConnectionClosed("the peer closed the connection", remote=True)
            self.process()
            return
        held = self.machine.told - self._kept_up
        if held > _MAX_HELD:
            fault = ResourceLimitExceeded("events of a connection nobody reads", _MAX_HELD, held)
            self.fail(fault, ConnectionCode.RATE_LIMITED)

    def _told(self, kind: str, event: tuple[Any, ...]) -> None:
        """Everything that is not about streams."""
        if kind == "connection_id_issued":
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

    # --- sending ----------------------------------------------------------------------------------

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, SocketAddress]]:
        """All that may go out now, each with where to."""
        machine, grants = self.machine, self.streams.grants
        frames = grants.frames(now, machine.core.smoothed_rtt) if grants else b""
        datagrams = machine.datagrams_to_send(now, frames)
        if machine.carrier is not None:
            grants.sent(machine.carrier, now)
        return datagrams

    def send(self) -> None:
        """Send what can go out, whatever it is."""
        self._gathered = 0
        self._endpoint.send(self)

    def flush(self) -> None:
        """Send what can go out, unless a batch is under way that will."""
        if not self._corked and not self._ended:
            self._flush()

    def wrote(self, size: int) -> None:
        """There are so many bytes more to send. What fills a packet leaves at once: the peer has work meanwhile."""
        if self._corked:
            self._gathered += size + _FRAME
            if self._gathered < _PACKET:
                return
        if not self._ended:
            self._flush()

    def _flush(self) -> None:
        self.send()
        self.streams.count_sent()
        farewell = self.farewell
        if farewell is not None and farewell.is_over(self._endpoint.now()):
            if self.streams.served:
                self.party.finish()
            else:
                self.abort()

    def grant(self, stream: QuicStream) -> None:
        """Tell the peer that it may send more on a stream."""
        if not self._ended:
            self.streams.grants.grant(stream, self._endpoint.now(), self.machine.core.smoothed_rtt)
            self.flush()

    def resume(self) -> None:
        """The application has caught up: take what waits in the machine, unless a batch is under way that will."""
        if not self._corked:
            self.process()
            self.flush()

    def _ask_at_once(self) -> None:
        """Have the peer acknowledge all it has: with the second packet it does so at once, else up to 25 ms later."""
        for _ in range(2):
            self.send()
            self.machine.command(self.machine.core.send_ping, 0)
        self.send()
