"""Keeps a picture of the routing table in the datastore, and finds back into the network with it after a restart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import anyio

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.peerstore import Peerstore
from py_p2pstack.errors import P2PError, StorageError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import Entry, RoutingTable
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.storage import TableSnapshot

logger = logging.getLogger(__name__)

MAX_ASKED = 64  # peers of the picture asked after a restart, all at once
GRACE = 1.0  # seconds the others have after the first answer
SAVE_TIME = 5.0  # seconds for the picture taken at the end


class Node(Protocol):
    """What is needed of the DHT."""

    @property
    def local_peer(self) -> PeerId: ...

    @property
    def peerstore(self) -> Peerstore: ...

    def take_addresses(self, peer: PeerInfo) -> bool: ...

    async def find_node(self, peer: PeerId, key: bytes) -> object: ...

    def answered(self, peer: PeerId) -> None: ...


class TableKeeper:
    """Saves one routing table, and restores it."""

    def __init__(self, node: Node, table: RoutingTable[PeerId], snapshot: TableSnapshot, config: DhtConfig) -> None:
        self._node = node
        self._table = table
        self._snapshot = snapshot
        self._config = config
        self._lock = anyio.Lock(fast_acquire=True)

    async def save(self) -> None:
        """Take a picture, unless the table is empty: an old one is better than that."""
        peers = [PeerInfo(peer, tuple(self._node.peerstore.addresses(peer))) for peer in _mixed(self._table.entries())]
        if not peers:
            return
        try:
            await self._snapshot.save(peers)
        except StorageError as fault:
            logger.warning("the routing table could not be saved: %s", fault)

    async def close(self) -> None:
        """Take the last picture, even when cancelled, but not for long."""
        with anyio.move_on_after(SAVE_TIME, shield=True):
            await self.save()

    async def restore(self) -> None:
        """Fill an empty table with the peers of the picture that answer, in one round trip; nobody waits for the slow.

        Each is asked for the peers nearest to us, so its answer proves that it serves, as a place in the table demands.
        """
        async with self._lock:
            if len(self._table):
                return
            try:
                peers = await self._snapshot.load()
            except StorageError as fault:
                logger.warning("the routing table could not be restored: %s", fault)
                return
            with anyio.move_on_after(self._config.check_timeout) as patience:
                async with anyio.create_task_group() as tasks:
                    for peer in peers[:MAX_ASKED]:
                        tasks.start_soon(self._ask, peer, patience)

    async def _ask(self, peer: PeerInfo, patience: anyio.CancelScope) -> None:
        if not self._node.take_addresses(peer):
            return
        try:
            await self._node.find_node(peer.peer_id, self._node.local_peer.to_bytes())
        except P2PError as fault:
            logger.debug("%s, known from before, does not answer: %s", peer.peer_id, fault)
            return
        self._node.answered(peer.peer_id)
        patience.deadline = min(patience.deadline, anyio.current_time() + GRACE)


def _mixed(entries: Sequence[Entry[PeerId]]) -> list[PeerId]:
    """The peers of a table, so ordered that its first ones are from all distances, and the liveliest of each."""
    ranks: dict[int, int] = {}
    ranked: list[tuple[int, int, PeerId]] = []
    for entry in sorted(entries, key=lambda entry: -entry.last_success_at):
        rank = ranks[entry.cpl] = ranks.get(entry.cpl, -1) + 1
        ranked.append((rank, entry.cpl, entry.peer))
    return [peer for _, _, peer in sorted(ranked)]
