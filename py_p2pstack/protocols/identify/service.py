"""Identify as a service: every new connection is asked who it is, every asker is answered, our changes are pushed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import anyio.lowlevel

from py_p2pstack.addresses import Multiaddr, is_loopback, is_public
from py_p2pstack.core.connection import Connection
from py_p2pstack.core.host import Mux
from py_p2pstack.core.network import Network
from py_p2pstack.core.notifications import (
    LocalAddressesUpdated,
    LocalProtocolsUpdated,
    PeerIdentified,
    PeerIdentifyFailed,
    PeerProtocolsUpdated,
)
from py_p2pstack.core.peerstore import CONNECTED_TTL, RECENTLY_CONNECTED_TTL, TEMPORARY_TTL, Peerstore
from py_p2pstack.core.stream import Stream
from py_p2pstack.core.types import Connectedness, Direction
from py_p2pstack.errors import InvalidKey, P2PError, RecordError, RemoteProtocolError
from py_p2pstack.events import EventBus, Subscription
from py_p2pstack.identity import Envelope, PeerId, PeerRecord, PrivateKey, PublicKey
from py_p2pstack.lifetime import Entered, OwnTasks
from py_p2pstack.protocols.identify import codec
from py_p2pstack.protocols.identify.codec import IdentifyMessage
from py_p2pstack.protocols.identify.observed import ObservedAddresses
from py_p2pstack.wire import framing
from py_p2pstack.workers import WorkerPool

logger = logging.getLogger(__name__)

PROTOCOL = "/ipfs/id/1.0.0"
PUSH_PROTOCOL = "/ipfs/id/push/1.0.0"


class IdentifyHost(Protocol):
    """What identify needs of a host."""

    @property
    def id(self) -> PeerId: ...

    @property
    def addrs(self) -> list[Multiaddr]: ...

    @property
    def network(self) -> Network: ...

    @property
    def peerstore(self) -> Peerstore: ...

    @property
    def mux(self) -> Mux: ...

    @property
    def events(self) -> EventBus: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyConfig:
    """The knobs of identify."""

    protocol_version: str = "p2pstack/1.0.0"
    """Which network we belong to, e.g. `ipfs/0.1.0`."""
    agent_version: str = "py_p2pstack/0.1.0"
    """Which software we are."""
    timeout: float = 5.0
    """Seconds for one exchange (go-libp2p: DefaultTimeout)."""
    max_concurrent_pushes: int = 32
    """Pushes of ours in flight (go-libp2p: maxPushConcurrency)."""
    max_idle_workers: int = 16
    """Finished tasks kept for the next connection; starting a task costs more than waking one."""


class IdentifyService(Entered):
    """Runs identify for a host. `async with` is its lifetime."""

    def __init__(
        self,
        host: IdentifyHost,
        private_key: PrivateKey,
        *,
        config: IdentifyConfig,
        observed: ObservedAddresses,
        wall_clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._private_key = private_key
        self._config = config
        self._observed = observed
        self._wall_clock = wall_clock
        self._running: dict[Connection, anyio.Event] = {}
        self._snapshot: IdentifyMessage | None = None
        self._seq = 0
        host.mux.add_handler(PROTOCOL, self._answer)
        host.mux.add_handler(PUSH_PROTOCOL, self._take_push)

    async def _enter(self, stack: AsyncExitStack) -> None:
        tasks = await stack.enter_async_context(OwnTasks())
        self._workers = WorkerPool(tasks, self._config.max_idle_workers)
        changes = stack.enter_context(self._host.events.subscribe(LocalAddressesUpdated, LocalProtocolsUpdated))
        tasks.start_soon(self._push_changes, changes)
        self._host.network.notify(self)
        stack.callback(self._host.network.stop_notify, self)

    # --- connections come and go (core.network.Notifiee) ------------------------------------------

    def connected(self, connection: Connection) -> None:
        """Begin to identify the new connection."""
        self._running[connection] = anyio.Event()
        self._workers.run(self._identify, connection)

    def disconnected(self, connection: Connection) -> None:
        """Forget what the connection's peer saw."""
        self._finish(connection)
        self._observed.forget(connection)

    def listening(self, address: Multiaddr) -> None:
        """Nothing to do: the host publishes LocalAddressesUpdated."""

    def listen_closed(self, address: Multiaddr) -> None:
        """Nothing to do: the host publishes LocalAddressesUpdated."""

    async def wait(self, connection: Connection) -> None:
        """Wait until the connection was identified, or could not be."""
        done = self._running.get(connection)
        if done is not None:
            await done.wait()

    def _finish(self, connection: Connection) -> None:
        done = self._running.pop(connection, None)
        if done is not None:
            done.set()

    # --- asking -----------------------------------------------------------------------------------

    async def _identify(self, connection: Connection) -> None:
        peer = connection.remote_peer
        try:
            if connection.info.direction is Direction.OUTBOUND:
                await anyio.lowlevel.checkpoint()  # whoever dialled goes first
            with anyio.fail_after(self._config.timeout):
                async with await connection.new_stream([PROTOCOL]) as stream:
                    message = await _receive(stream)
            self._consume(message, connection)
        except (P2PError, TimeoutError) as fault:
            reason = str(fault) or type(fault).__name__
            logger.debug("identify with %s failed: %s", peer, reason)
            self._host.events.publish(PeerIdentifyFailed(peer, reason))
        finally:
            self._finish(connection)

    def _consume(self, message: IdentifyMessage, connection: Connection) -> None:
        """Take what a peer told into the peerstore, and publish it."""
        peer = connection.remote_peer
        store = self._host.peerstore
        if message.public_key:
            try:
                claimed = PublicKey.decode(message.public_key).peer_id()
            except InvalidKey:
                claimed = None
            if claimed != peer:
                raise RecordError(f"identify tells the key of {claimed}, the connection is with {peer}")
        connected = self._host.network.connectedness(peer) is Connectedness.CONNECTED
        ttl = CONNECTED_TTL if connected else RECENTLY_CONNECTED_TTL
        # What was believed before lives on only if it is told again (go-libp2p: consumeMessage).
        for old in (RECENTLY_CONNECTED_TTL, CONNECTED_TTL):
            store.update_ttl(peer, old, TEMPORARY_TTL)
        told = self._certified(message.signed_peer_record, peer) or message.listen_addresses
        addresses = _reachable_from(connection.info.remote_address, told)
        store.add_addresses(peer, addresses, ttl)
        store.update_ttl(peer, TEMPORARY_TTL, 0)
        store.set_protocols(peer, message.protocols)
        connection.identified = True
        store.put(peer, "ProtocolVersion", message.protocol_version)
        store.put(peer, "AgentVersion", message.agent_version)
        if message.observed_address is not None:
            self._observe(connection, message.observed_address)
        self._host.events.publish(
            PeerIdentified(
                peer,
                connection,
                frozenset(message.protocols),
                tuple(addresses),
                message.agent_version,
                message.protocol_version,
                message.observed_address,
            )
        )

    def _certified(self, envelope: Envelope | None, peer: PeerId) -> tuple[Multiaddr, ...]:
        """The addresses of a signed record, if it is the sender's own."""
        if envelope is None:
            return ()
        try:
            record = PeerRecord.open(envelope)
            if record.peer_id != peer:
                raise RecordError(f"a record of {record.peer_id} sent by {peer}")
            self._host.peerstore.consume_peer_record(envelope, TEMPORARY_TTL)
        except P2PError as fault:
            logger.debug("ignoring the peer record of %s: %s", peer, fault)
            return ()
        return codec.decode_addresses(record.addresses)

    def _observe(self, connection: Connection, observed: Multiaddr) -> None:
        info = connection.info
        if info.direction is Direction.OUTBOUND and info.local_address not in self._host.network.listen_addresses():
            return  # the port we dialled from is nobody's business
        before = self._observed.believed()
        self._observed.record(connection, info.local_address, info.remote_address, observed)
        if self._observed.believed() != before:
            self._host.events.publish(LocalAddressesUpdated(tuple(self._host.addrs)))

    # --- answering --------------------------------------------------------------------------------

    async def _answer(self, stream: Stream) -> None:
        stream.set_service("identify")
        with anyio.fail_after(self._config.timeout):
            await self._send(stream)

    async def _take_push(self, stream: Stream) -> None:
        stream.set_service("identify")
        peer = stream.remote_peer
        before = self._host.peerstore.protocols(peer)
        with anyio.fail_after(self._config.timeout):
            message = await _receive(stream)
        self._consume(message, stream.connection)
        after = frozenset(message.protocols)
        if after != before:
            self._host.events.publish(PeerProtocolsUpdated(peer, after - before, before - after))

    async def _send(self, stream: Stream) -> None:
        message = self._message_for(stream.connection.info.remote_address)
        await stream.send(b"".join(framing.encode(part) for part in codec.encode(message)))

    def _message_for(self, remote: Multiaddr) -> IdentifyMessage:
        """Ourselves as told to a peer at `remote`. The signature is made once and kept until something changes."""
        addresses = tuple(self._host.addrs)
        protocols = tuple(sorted(self._host.mux.protocols()))
        snapshot = self._snapshot
        if snapshot is None or snapshot.listen_addresses != addresses or snapshot.protocols != protocols:
            if snapshot is None or snapshot.listen_addresses != addresses:
                self._seq = max(self._seq + 1, int(self._wall_clock() * 1e9))
            record = PeerRecord(self._host.id, self._seq, tuple(address.to_bytes() for address in addresses))
            snapshot = self._snapshot = IdentifyMessage(
                public_key=self._private_key.public_key.encode(),
                listen_addresses=addresses,
                protocols=protocols,
                protocol_version=self._config.protocol_version,
                agent_version=self._config.agent_version,
                signed_peer_record=record.seal(self._private_key) if addresses else None,
            )
        return replace(snapshot, observed_address=remote)

    # --- pushing ----------------------------------------------------------------------------------

    async def _push_changes(self, changes: Subscription[LocalAddressesUpdated | LocalProtocolsUpdated]) -> None:
        """Tell every peer that takes pushes whenever our addresses or protocols change."""
        limiter = anyio.CapacityLimiter(self._config.max_concurrent_pushes)
        async for _ in changes:
            changes.discard_waiting()  # one push tells of all changes made until now
            async with anyio.create_task_group() as pushes:
                for connection in self._host.network.conns():
                    pushes.start_soon(self._push, connection, limiter)

    async def _push(self, connection: Connection, limiter: anyio.CapacityLimiter) -> None:
        try:
            async with limiter:
                with anyio.fail_after(self._config.timeout):
                    await self.wait(connection)  # it may have been told the old state a moment ago
                    if not self._host.peerstore.first_supported(connection.remote_peer, (PUSH_PROTOCOL,)):
                        return
                    async with await connection.new_stream([PUSH_PROTOCOL]) as stream:
                        await self._send(stream)
                        await stream.send_eof()
        except (P2PError, TimeoutError) as fault:
            logger.debug("push to %s failed: %s", connection.remote_peer, fault)


def _reachable_from(remote: Multiaddr, addresses: Sequence[Multiaddr]) -> list[Multiaddr]:
    """Leave out addresses the peer's neighbours alone can use: its loopback, unless it is ours too, and so on."""
    if is_loopback(remote):
        return list(addresses)
    if is_public(remote):
        return [address for address in addresses if is_public(address)]
    return [address for address in addresses if not is_loopback(address)]


async def _receive(stream: Stream) -> IdentifyMessage:
    """Read every part until the peer closes."""
    parts: list[bytes] = []
    try:
        while len(parts) <= codec.MAX_PARTS:
            parts.append(await stream.receive_message(codec.MAX_RECEIVED_PART))
    except anyio.EndOfStream:
        return codec.decode(parts)
    raise RemoteProtocolError(f"an identify message in more than {codec.MAX_PARTS} parts")
