"""One key being announced: the ADD_PROVIDERs on their way."""

from __future__ import annotations

from collections.abc import Iterable

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.errors import OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht.codec import KadPeer, Message, MessageType
from py_p2pstack.protocols.dht.events import DialingPeer, QueryError, SendingQuery
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.operations import Operation


class Announcement:
    """Tells peers, all at once, that we provide a key; its tasks are the DHT's and may outlive the provide."""

    def __init__(self, operation: Operation, node: LocalNode, tasks: TaskGroup) -> None:
        self.operation = operation
        self.failed: dict[PeerId, str] = {}
        """Whom it could not be written to, and why."""
        self._node = node
        self._tasks = tasks
        self._message = add_provider(operation.key, ourselves(node))
        self._told: set[PeerId] = set()
        self._pending: dict[PeerId, anyio.CancelScope] = {}
        self._changed = anyio.Event()

    @property
    def told(self) -> tuple[PeerId, ...]:
        """Whom it was written to, nearest first."""
        return tuple(sorted(self._told, key=lambda peer: self._node.key_of(peer) ^ self.operation.target))

    @property
    def pending(self) -> tuple[PeerId, ...]:
        """Whom it is being written to."""
        return tuple(self._pending)

    def tell(self, peers: Iterable[PeerId]) -> None:
        """Begin to tell some more peers."""
        for peer in peers:
            self._pending[peer] = anyio.CancelScope()
            self._tasks.start_soon(self._tell, peer)

    async def wait_for(self, count: float) -> None:
        """Wait until so many were told, or nobody is left to be told."""
        while self._pending and len(self._told) < count:
            await self._changed.wait()

    def cancel(self) -> None:
        """Tell nobody any more."""
        for scope in self._pending.values():
            scope.cancel()

    async def _tell(self, peer: PeerId) -> None:
        seconds = self._node.config.put_timeout
        fault: P2PError | None = OperationTimeout(f"not written within {seconds:g} s")
        with self._pending[peer] as scope:
            scope.deadline = min(scope.deadline, anyio.current_time() + seconds)
            try:
                await self._write(peer)
                fault = None
            except P2PError as raised:
                fault = raised
        del self._pending[peer]
        if fault is None:
            self._told.add(peer)
        else:
            self.failed[peer] = str(fault) or type(fault).__name__
            self.operation.tell(QueryError, peer=peer, reason=self.failed[peer])
        self._changed.set()
        self._changed = anyio.Event()

    async def _write(self, peer: PeerId) -> None:
        if not self._node.is_connected(peer):
            self.operation.tell_of(DialingPeer, peer)
            await self._node.dial(peer)
        self.operation.tell_of(SendingQuery, peer)
        await self._node.messenger.tell(peer, (self._message,))


def ourselves(node: LocalNode) -> KadPeer:
    """Who and where we are, as others are told."""
    return KadPeer(PeerInfo(node.local_peer, tuple(node.addresses(node.local_peer))))


def add_provider(key: bytes, provider: KadPeer) -> Message:
    """What tells that we provide `key`."""
    return Message(type=MessageType.ADD_PROVIDER, key=key, provider_peers=(provider,))
