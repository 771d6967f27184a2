"""Where QUIC connections arrive."""

from __future__ import annotations

import logging

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.transport import A, Admission, InboundGate
from py_p2pstack.errors import OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.transports.quic.address import quic_multiaddr
from py_p2pstack.transports.quic.config import QuicConfig
from py_p2pstack.transports.quic.connection import QuicConnection
from py_p2pstack.transports.quic.endpoint import QuicEndpoint

logger = logging.getLogger(__name__)


class QuicListener:
    """Implements `core.transport.Listener`."""

    def __init__(self, endpoint: QuicEndpoint, local_peer: PeerId, config: QuicConfig) -> None:
        self.address: Multiaddr = quic_multiaddr(endpoint.socket.name)
        """Where it listens."""
        self.accepted = 0
        """Connections that arrived."""
        self.refused = 0
        """Connections the gate refused before their handshake."""
        self.failed = 0
        """Connections whose handshake failed."""
        self._endpoint = endpoint
        self._local_peer = local_peer
        self._config = config
        self._party = endpoint.party()
        self._closed = False
        endpoint.hold()

    def __repr__(self) -> str:
        return f"<QuicListener {self.address}>"

    async def serve(self, gate: InboundGate[A]) -> None:
        """See `core.transport.Listener.serve`."""
        async with anyio.create_task_group() as tasks:
            self._endpoint.on_inbound = lambda connection: self._admit(connection, gate, tasks)
            try:
                if not self._closed:
                    await self._endpoint.drive(self._party)
            finally:
                self._endpoint.on_inbound = None

    def close(self) -> None:
        """Accept no more; connections made live on. Idempotent."""
        if not self._closed:
            self._closed = True
            self._endpoint.on_inbound = None
            self._party.finish()
            self._endpoint.let_go()

    def _admit(self, connection: QuicConnection, gate: InboundGate[A], tasks: TaskGroup) -> bool:
        self.accepted += 1
        remote = quic_multiaddr(connection.machine.remote)
        try:
            admission = gate.admit(self.address, remote)
        except Exception as refusal:  # gates ask the application's gater: its fault costs one connection
            if not isinstance(refusal, P2PError):
                logger.exception("the gate failed over %s", remote)
            self.refused += 1
            logger.debug("refused %s: %s", remote, refusal)
            return False
        self._endpoint.pending += 1
        tasks.start_soon(self._serve, connection, gate, admission)
        return True

    async def _serve(self, connection: QuicConnection, gate: InboundGate[A], admission: A) -> None:
        try:
            if await self._set_up(connection, admission):
                await gate.serve(connection, admission)
        except Exception:  # the boundary that keeps one connection's fault from all others
            logger.exception("%r failed", connection)
        finally:
            connection.abort()

    async def _set_up(self, connection: QuicConnection, admission: Admission) -> bool:
        """Wait for the handshake; what fails gives its place back and is counted."""
        try:
            await complete(connection, self._endpoint, self._config.handshake_timeout)
            connection.describe(self._local_peer, self.address)
        except BaseException as fault:
            connection.abort()
            admission.done()
            if not isinstance(fault, P2PError):
                raise
            self.failed += 1
            logger.debug("inbound connection from %s failed: %s", connection.machine.remote, fault)
            return False
        finally:
            self._endpoint.pending -= 1
        return True


async def complete(connection: QuicConnection, endpoint: QuicEndpoint, timeout: float) -> None:
    """Wait until a connection's handshake is complete. Raises why it is not."""
    with anyio.move_on_after(timeout):
        await endpoint.drive(connection.party)
    if connection.established and not connection.closed:
        return
    if connection.close_reason is None:
        raise OperationTimeout(f"no QUIC handshake within {timeout:g} s")
    raise connection.close_reason
