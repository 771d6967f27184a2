"""The endpoint: one UDP socket, the connections that share it, and who looks after them.

No task belongs to an endpoint. Whoever waits for something on it (a listener, a dial, a connection that is served)
looks after all of it meanwhile, one at a time; when that one has what it waited for, the next takes over. So an
endpoint lives exactly as long as somebody needs it, and a connection's fault, contained here, ends nobody's task.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
from collections.abc import Callable
from functools import partial

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.errors import ConnectionClosed
from py_p2pstack.event_loop import clock, signals
from py_p2pstack.identity import PeerId
from py_p2pstack.transports.quic import codec
from py_p2pstack.transports.quic.address import SocketAddress
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.connection import QuicConnection
from py_p2pstack.transports.quic.credentials import Credentials
from py_p2pstack.transports.quic.machine import QuicMachine, is_panic
from py_p2pstack.transports.quic.party import Party
from py_p2pstack.transports.quic.sockets import DatagramSocket
from py_p2pstack.transports.quic.strangers import Strangers

logger = logging.getLogger(__name__)

_BATCH = 16  # reads of the socket between two looks at what they brought


class QuicEndpoint:
    """A socket and its connections."""

    def __init__(
        self, socket: DatagramSocket, credentials: Credentials, config: QuicConfig, on_idle: Callable[[], None]
    ) -> None:
        """`on_idle` is called when nothing needs the endpoint any more; its socket is closed then."""
        self.socket = socket
        self.now = clock()
        self.signal = signals()
        """Makes what readers and writers of streams wait for."""
        self.on_inbound: Callable[[QuicConnection], bool] | None = None
        """Asked about each arriving connection, before its handshake: whether there is a place for it."""
        self.pending = 0
        """Inbound connections in their handshake."""
        self.dropped = 0
        """Datagrams that belonged to nothing."""
        self._credentials = credentials
        self._config = config
        self._on_idle = on_idle
        self._cids: dict[bytes, QuicConnection] = {}
        self._connections: dict[QuicConnection, None] = {}
        self._remotes: dict[SocketAddress, QuicConnection] = {}  # of several at one address the last
        self._parties: dict[Party, None] = {}
        self._driver: Party | None = None
        self._waiting: anyio.CancelScope | None = None
        self._timers: list[tuple[float, int, QuicConnection]] = []
        self._serials = itertools.count()
        self._touched: dict[QuicConnection, None] = {}
        self._backlog: list[tuple[list[bytes], SocketAddress]] = []
        self._strangers = Strangers(socket, credentials)
        self._users = 0
        self.closed = False

    def __repr__(self) -> str:
        return f"<QuicEndpoint {self.socket.name} {len(self._connections)} connections>"

    # --- who needs it -----------------------------------------------------------------------------

    def party(self) -> Party:
        """Somebody new who will wait for something."""
        return Party(self)

    def hold(self) -> None:
        """Somebody besides its connections needs the endpoint."""
        self._users += 1

    def let_go(self) -> None:
        """… and no longer."""
        self._users -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not (self._users or self._connections or self.closed):
            self.closed = True
            self.socket.close()
            self._on_idle()

    async def drive(self, party: Party) -> None:
        """Wait until `party` is done; look after the endpoint meanwhile if nobody else does."""
        self._parties[party] = None
        try:
            while not party.done:
                if self._driver is not None:
                    await party.wait()
                    continue
                self._driver = party
                try:
                    await self._run(party)
                finally:
                    self._driver = None
        finally:
            del self._parties[party]
            if self._driver is None and self._parties:
                next(iter(self._parties)).wake()

    def interrupt(self, party: Party) -> None:
        """Wake `party` if it looks after the endpoint."""
        if self._driver is party and self._waiting is not None:
            self._waiting.cancel()

    async def _run(self, party: Party) -> None:
        while not party.done:
            now = self.now()
            try:
                more = self._receive(now)
            except OSError as fault:
                self._break(fault)
                return
            self._on_time(now)
            if self._touched:
                await self._finish_batch()
            elif more:  # than what strangers sent just now
                await checkpoint()
            deadline = self._deadline()
            if more or party.done or (deadline <= self.now() and not self._backlog):
                continue
            with anyio.CancelScope(deadline=deadline) as self._waiting:
                if self._backlog:
                    await self.socket.wait_writable()
                else:
                    await self.socket.wait_readable()
            self._waiting = None
            self._send_backlog()

    def _break(self, fault: OSError) -> None:
        """The socket is of no further use."""
        for connection in tuple(self._connections):
            connection.fail(ConnectionClosed(f"the socket broke: {fault}"))
        for party in tuple(self._parties):
            party.finish()

    # --- receiving --------------------------------------------------------------------------------

    def _receive(self, now: float) -> bool:
        """Read what is there, up to a bound; returns whether there may be more."""
        receive = self.socket.receive_nowait
        for _ in range(_BATCH):
            found = receive()
            if found is None:
                return False
            self._sort(*found, now)
        return True

    def _sort(self, data: bytes, segment: int, sender: SocketAddress, now: float) -> None:
        """Hand datagrams to their connection; those of one batch mostly have the same."""
        if segment < len(data) and not self._is_uniform(data, segment):
            for start in range(0, len(data), segment):
                piece = data[start : start + segment]
                self._deliver(piece, len(piece), sender, now)
        else:
            self._deliver(data, segment, sender, now)

    @staticmethod
    def _is_uniform(data: bytes, segment: int) -> bool:
        cid = codec.short_destination(data)
        if cid is None:
            return False
        end = 1 + codec.CID_LENGTH
        return all(
            data[start] < 0x80 and data[start + 1 : start + end] == cid for start in range(segment, len(data), segment)
        )

    def _deliver(self, data: bytes, segment: int, sender: SocketAddress, now: float) -> None:
        cid = codec.short_destination(data)
        connection = self._cids.get(cid) if cid is not None else self._find_by_long(data, sender, now)
        if connection is None:
            self.dropped += 1
            if cid is not None and not self._is_reset(data, segment, sender, now):
                self._strangers.reset(data[:segment], cid, sender, now)
            return
        self._touch(connection)
        connection.heard(now)
        connection.machine.receive(data, segment, sender, now)

    def _is_reset(self, data: bytes, segment: int, sender: SocketAddress, now: float) -> bool:
        """Whether a datagram is the word of a peer that has forgotten our connection to it (RFC 9000 §10.3)."""
        connection = self._remotes.get(sender)
        if connection is None or connection.machine.public_key is None:
            return False
        connection.machine.receive(data, segment, sender, now)  # its core knows the tokens, and drops what has none
        if connection.machine.ended:
            self._touch(connection)
        return connection.machine.ended

    def _touch(self, connection: QuicConnection) -> None:
        connection.cork()
        self._touched[connection] = None

    def _find_by_long(self, data: bytes, sender: SocketAddress, now: float) -> QuicConnection | None:
        header = codec.read_long(data)
        if header is None:
            return None
        connection = self._cids.get(header.destination)
        if connection is not None or self.on_inbound is None or len(data) < codec.MIN_INITIAL:
            return connection
        if header.version not in (0, codec.VERSION):
            self._strangers.tell_version(header, sender, now)
        elif header.initial and len(header.destination) >= 8:
            return self._arrive(header, sender, now)
        return None

    def _arrive(self, header: codec.LongHeader, sender: SocketAddress, now: float) -> QuicConnection | None:
        """The first packet of a new connection."""
        if self.pending >= self._config.max_pending_inbound:
            return None
        proven = self._strangers.proven(header, sender, now)
        if proven is None and self.pending >= self._config.retry_above:
            self._strangers.ask_again(header, sender, now)
            return None
        cid = os.urandom(codec.CID_LENGTH)
        machine = QuicMachine(
            self._credentials.server,
            self._config,
            verify=self._credentials.verify,
            expected=None,
            remote=sender,
            now=now,
            cid=cid,
            reset_token=codec.reset_token(self._credentials.reset_key, cid),
            destination_cid=header.destination,
            original_cid=header.destination if proven is None else proven,
            retried=proven is not None,
        )
        connection = QuicConnection(self, machine, self._config, now)
        assert self.on_inbound is not None
        if not self.on_inbound(connection):
            return None
        self._add(connection)
        self.learn(connection, cid)
        self.learn(connection, header.destination)
        return connection

    async def _finish_batch(self) -> None:
        """Let connections tell what came, give those they woke a turn, and send what they had to say."""
        touched, self._touched = self._touched, {}
        for connection in touched:
            self._contained(connection, connection.process)
        try:
            await checkpoint()
        finally:
            for connection in touched:
                self._contained(connection, connection.uncork)

    def _contained(self, connection: QuicConnection, work: Callable[[], None]) -> None:
        """The boundary that keeps one connection's fault from all others."""
        try:
            work()
        except BaseException as fault:  # a panic of qh3's Rust parts is no Exception
            if not isinstance(fault, Exception) and not is_panic(fault):
                raise
            logger.exception("a connection with %s failed", connection.machine.remote)
            connection.fail(ConnectionClosed(f"the connection failed: {fault}"))

    # --- time -------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return self._timers[0][0] if self._timers else float("inf")

    def _schedule(self, connection: QuicConnection) -> None:
        """Look at the connection again when its machine wants it."""
        when = connection.next_look()
        if when is None or (connection.timer is not None and when >= connection.timer):
            return
        if when > self.now() + 1.0:  # the idle timeout, put off with every packet: a few entries do for all of them
            when = math.ceil(when)
            if connection.far_timer != when:
                connection.far_timer = when
                heapq.heappush(self._timers, (when, next(self._serials), connection))
        else:
            heapq.heappush(self._timers, (when, next(self._serials), connection))
        connection.timer = when
        if self._waiting is not None and when < self._waiting.deadline:
            self._waiting.deadline = when

    def _on_time(self, now: float) -> None:
        """Look at the connections whose time has come."""
        while self._timers and self._timers[0][0] <= now:
            set_for, _, connection = heapq.heappop(self._timers)
            if connection not in self._connections or connection.timer != set_for:
                continue  # it has ended, or was put off
            connection.timer = None
            when = connection.machine.timer()
            if when is not None and when <= now:
                connection.machine.handle_timer(now)
            if connection.farewell is not None and connection.farewell.until <= now:
                connection.party.finish()
            self._touch(connection)

    # --- connections ------------------------------------------------------------------------------

    def dial(self, remote: SocketAddress, peer: PeerId | None) -> QuicConnection:
        """Begin a connection to `remote`, who must prove to be `peer`."""
        now = self.now()
        machine = QuicMachine(
            self._credentials.client,
            self._config,
            verify=self._credentials.verify,
            expected=peer,
            remote=remote,
            now=now,
            cid=os.urandom(codec.CID_LENGTH),
        )
        connection = QuicConnection(self, machine, self._config, now)
        self._add(connection)
        self.learn(connection, machine.cid)
        connection.flush()
        return connection

    def _add(self, connection: QuicConnection) -> None:
        self._connections[connection] = None
        self._remotes[connection.machine.remote] = connection

    def learn(self, connection: QuicConnection, cid: bytes) -> None:
        """Packets to `cid` are the connection's."""
        connection.cids.add(cid)
        self._cids[cid] = connection

    def unlearn(self, connection: QuicConnection, cid: bytes) -> None:
        """… and no longer."""
        connection.cids.discard(cid)
        self._cids.pop(cid, None)

    def forget(self, connection: QuicConnection) -> None:
        """The connection has ended; what still comes for it is a stranger's."""
        for cid in connection.cids:
            self._cids.pop(cid, None)
        self._connections.pop(connection, None)
        if self._remotes.get(connection.machine.remote) is connection:
            del self._remotes[connection.machine.remote]
        self._touched.pop(connection, None)
        self._close_if_idle()

    # --- sending ----------------------------------------------------------------------------------

    def send(self, connection: QuicConnection) -> None:
        """Send what a connection has to send now."""
        if not self._backlog and not self.closed:
            transmits = connection.datagrams_to_send(self.now())
            if transmits:
                to = transmits[0][1]
                if all(address == to for _, address in transmits):
                    self._send([data for data, _ in transmits], to)
                else:
                    for data, address in transmits:
                        self._send([data], address)
        self._schedule(connection)

    def _send(self, datagrams: list[bytes], to: SocketAddress) -> None:
        if self._backlog:
            self._backlog.append((datagrams, to))
            return
        sent = self.socket.send_nowait(datagrams, to)
        if sent < len(datagrams):
            self._backlog.append((datagrams[sent:], to))
            if self._waiting is not None:
                self._waiting.cancel()  # to wait for room

    def _send_backlog(self) -> None:
        """The kernel may have room again."""
        if not self._backlog:
            return
        backlog, self._backlog = self._backlog, []
        for datagrams, to in backlog:
            self._send(datagrams, to)
        if not self._backlog:
            for connection in tuple(self._connections):
                self._contained(connection, partial(QuicConnection.flush, connection))
