"""The upgrader turns raw connections into finished ones, and a raw transport into a transport."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import anyio

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo, MuxedConnection, MuxerFactory
from py_p2pstack.core.security import SecurityTransport
from py_p2pstack.core.transport import A, Admission, InboundGate, Listener, RawConnection, RawListener, RawTransport
from py_p2pstack.core.types import Direction, ProtocolId
from py_p2pstack.errors import NegotiationError, OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.upgrade.negotiate import RawPipe, choose_muxer, secure
from py_p2pstack.workers import WorkerPool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgraderConfig:
    """The knobs of connection set-up."""

    handshake_timeout: float = 10.0
    """Seconds in which a connection must be secured and multiplexed; a slow-loris dies then."""
    max_pending_inbound: int = 256
    """Inbound connections in set-up at once on one listener; further ones wait in the system's accept queue."""
    max_idle_workers: int = 16
    """Tasks of ended connections that one listener keeps for the next; starting a task costs more than waking one."""


class Upgrader:
    """Secures and multiplexes raw connections with the protocols it was given."""

    def __init__(
        self,
        *,
        local_peer: PeerId,
        securities: Sequence[SecurityTransport],
        muxers: Mapping[ProtocolId, MuxerFactory],
        config: UpgraderConfig,
    ) -> None:
        """`securities` and `muxers` are in order of preference."""
        self.local_peer = local_peer
        self.config = config
        self._securities = {security.protocol: security for security in securities}
        self._muxers = dict(muxers)

    def can_fall_back(self, refusal: NegotiationError) -> bool:
        """Whether what the peer refused was our first security protocol, and there is another."""
        return len(self._securities) > 1 and refusal.protocols == (next(iter(self._securities)),)

    async def upgrade(
        self,
        raw: RawConnection,
        direction: Direction,
        *,
        transport: str,
        peer: PeerId | None = None,
        optimistic: bool = False,
        without: Collection[ProtocolId] = (),
    ) -> MuxedConnection:
        """Upgrade within `handshake_timeout`; on any failure, and when cancelled, the raw connection is closed.

        Args:
            raw: the pipe; owned from now on.
            direction: outbound: we begin.
            transport: the transport's name, for the connection's info.
            peer: who the remote must prove to be; None: anyone.
            optimistic: save a round trip, outbound, if the peer speaks our first security protocol; if it does not,
                the attempt fails with a NegotiationError of which `can_fall_back` is true: try again without it.
            without: security protocols not to propose.

        Raises:
            SecurityError, NegotiationError, RemoteProtocolError, ConnectionClosed, OperationTimeout, OSError.
        """
        timeout = self.config.handshake_timeout
        try:
            with anyio.move_on_after(timeout):
                return await self._upgrade(raw, direction, transport, peer, optimistic, without)
            raise OperationTimeout(f"the connection was not set up within {timeout:g} s")
        except BaseException:
            raw.close()
            raise

    async def _upgrade(
        self,
        raw: RawConnection,
        direction: Direction,
        transport: str,
        peer: PeerId | None,
        optimistic: bool,
        without: Collection[ProtocolId],
    ) -> MuxedConnection:
        initiator = direction is Direction.OUTBOUND
        pipe = RawPipe(raw)
        names = tuple(self._muxers)
        securities = self._securities
        if without:
            securities = {name: security for name, security in securities.items() if name not in without}
        security, secured = await secure(
            pipe, securities, initiator=initiator, peer=peer, muxers=names, optimistic=optimistic
        )
        muxer, unread, early = await choose_muxer(pipe, secured, names, initiator=initiator)
        info = ConnectionInfo(
            direction=direction,
            local_peer=self.local_peer,
            remote_peer=secured.remote_peer,
            remote_public_key=secured.remote_public_key,
            local_address=raw.local_address,
            remote_address=raw.remote_address,
            transport=transport,
            security=security,
            muxer=muxer,
        )
        return self._muxers[muxer](
            raw=raw, records=secured.records, unread=unread, early_plaintext=early, unsent=pipe.held, info=info
        )


class UpgradingTransport:
    """A raw transport with an upgrader behind it; implements `core.transport.Transport`."""

    def __init__(self, raw: RawTransport, upgrader: Upgrader) -> None:
        self._raw = raw
        self._upgrader = upgrader

    def __repr__(self) -> str:
        return f"<UpgradingTransport {self._raw.name}>"

    def can_dial(self, address: Multiaddr) -> bool:
        """Whether the raw transport can."""
        return self._raw.can_dial(address)

    def can_listen(self, address: Multiaddr) -> bool:
        """Whether the raw transport can."""
        return self._raw.can_listen(address)

    async def dial(self, address: Multiaddr, peer: PeerId | None) -> MuxedConnection:
        """Connect, then upgrade; see `core.transport.Transport.dial`.

        Our first security protocol is begun before the peer has agreed to it, which saves every dial a round trip and
        costs those that refuse it a second connection. (go, rust and js wait for the answer and keep the first.)
        """
        name, upgrader = self._raw.name, self._upgrader
        raw = await self._raw.dial(address)
        try:
            return await upgrader.upgrade(raw, Direction.OUTBOUND, transport=name, peer=peer, optimistic=True)
        except NegotiationError as refusal:
            if not upgrader.can_fall_back(refusal):
                raise
            refused = refusal.protocols
        raw = await self._raw.dial(address)
        return await upgrader.upgrade(raw, Direction.OUTBOUND, transport=name, peer=peer, without=refused)

    async def listen(self, address: Multiaddr) -> Listener:
        """Bind; see `core.transport.Transport.listen`."""
        return UpgradingListener(await self._raw.listen(address), self._upgrader, self._raw.name)


class UpgradingListener:
    """Upgrades what a raw listener accepts; implements `core.transport.Listener`."""

    def __init__(self, raw: RawListener, upgrader: Upgrader, transport: str) -> None:
        self._raw = raw
        self._upgrader = upgrader
        self._transport = transport
        self._pending = anyio.Semaphore(upgrader.config.max_pending_inbound, fast_acquire=True)
        self.accepted = 0
        """Connections that arrived."""
        self.refused = 0
        """Connections the gate refused before their handshake."""
        self.failed = 0
        """Connections whose handshake failed."""

    @property
    def address(self) -> Multiaddr:
        """Where it listens."""
        return self._raw.address

    def close(self) -> None:
        """Accept no more; connections made live on."""
        self._raw.close()

    async def serve(self, gate: InboundGate[A]) -> None:
        """See `core.transport.Listener.serve`."""
        async with anyio.create_task_group() as tasks:
            workers = WorkerPool(tasks, self._upgrader.config.max_idle_workers)
            while True:
                await self._pending.acquire()
                try:
                    raw = await self._raw.accept()
                except anyio.ClosedResourceError:
                    break
                except OSError as fault:  # connections, and other listeners, have nothing to do with that
                    logger.error("%s accepts no more connections: %s", self.address, fault)
                    self.close()
                    break
                self._admit(raw, gate, workers)
            workers.close()  # connections made are waited for here

    def _admit(self, raw: RawConnection, gate: InboundGate[A], workers: WorkerPool) -> None:
        self.accepted += 1
        try:
            admission = gate.admit(raw.local_address, raw.remote_address)
        except Exception as refusal:  # gates ask the application's gater: its fault costs one connection
            if not isinstance(refusal, P2PError):
                logger.exception("the gate failed over %s", raw.remote_address)
            self.refused += 1
            self._pending.release()
            logger.debug("refused %s: %s", raw.remote_address, refusal)
            raw.close()
            return
        workers.run(self._serve, (raw, gate, admission))

    async def _serve(self, arrival: tuple[RawConnection, InboundGate[A], A]) -> None:
        raw, gate, admission = arrival
        try:
            connection = await self._set_up(raw, admission)
            if connection is not None:
                await gate.serve(connection, admission)
        except Exception:  # the boundary that keeps one connection's fault from all others
            logger.exception("the connection from %s failed", raw.remote_address)
            raw.close()

    async def _set_up(self, raw: RawConnection, admission: Admission) -> MuxedConnection | None:
        """Upgrade; what fails gives its place back and is counted, what is no peer's fault is raised."""
        try:
            return await self._upgrader.upgrade(raw, Direction.INBOUND, transport=self._transport)
        except BaseException as fault:
            admission.done()
            if not isinstance(fault, (P2PError, OSError)):
                raise
            self.failed += 1
            logger.debug("inbound connection from %s failed: %s", raw.remote_address, fault)
            return None
        finally:
            self._pending.release()
