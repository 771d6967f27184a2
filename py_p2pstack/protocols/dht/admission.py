"""Who enters the routing table, and who leaves it.

A peer that says it serves the DHT is asked a FIND_NODE first: a place in the table is for those that answer. One that
fails a query leaves, and whoever waited for its place is checked in its stead. Source: go-libp2p-kad-dht dht.go.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.host import ConnectionManager
from py_p2pstack.errors import P2PError
from py_p2pstack.event_loop import clock
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import AddOutcome, Entry, RoutingTable
from py_p2pstack.protocols.dht.config import DhtConfig

logger = logging.getLogger(__name__)

TAG = "kbucket"
BASE_SCORE = 5  # go-libp2p-kad-dht: baseConnMgrScore
PROTECTED_CPL = 2  # go-libp2p-kad-dht: protectedBuckets; few peers lead into the far halves, so these stay connected
FREEZE_AFTER = 60.0  # go-libp2p-kad-dht: rtFreezeTimeout


class Asker(Protocol):
    """What a check needs."""

    @property
    def conn_manager(self) -> ConnectionManager: ...

    def belongs_in_table(self, peer: PeerId) -> bool:
        """Whether the peer is known to serve our protocol, and wanted."""
        ...

    async def find_node(self, peer: PeerId, key: bytes) -> Sequence[PeerInfo]: ...


class Admission:
    """Guards one routing table."""

    def __init__(self, asker: Asker, table: RoutingTable[PeerId], config: DhtConfig, tasks: TaskGroup) -> None:
        self.repair_wanted = anyio.Event()
        """Set when the table changed and has few peers; the refresher puts a fresh one in its place."""
        self._now = clock()
        self._asker = asker
        self._table = table
        self._config = config
        self._tasks = tasks
        self._checking: dict[PeerId, anyio.Event] = {}
        self._awaited: dict[PeerId, int] = {}
        self._put_off: set[PeerId] = set()
        self._hasty = False
        self._refreshes = 0
        self._closed = False
        table.on_added = self._entered
        table.on_removed = self._left

    # --- how peers come ---------------------------------------------------------------------------

    def found(self, peer: PeerId) -> None:
        """A peer is there: have it checked in the background, if it may serve us. At most `max_checks` at once."""
        if peer in self._awaited:
            self._put_off.add(peer)
        elif self._asker.belongs_in_table(peer):
            self._begin_check(peer)

    @contextmanager
    def awaited(self, peer: PeerId) -> Iterator[None]:
        """While a lookup waits for an answer of a peer: it tells as much as a check, so one is put off.

        It is made up for only if the lookup waits no longer; who does not answer is none for the table.
        """
        self._awaited[peer] = self._awaited.get(peer, 0) + 1
        answered = True
        try:
            yield
        except anyio.get_cancelled_exc_class():
            answered = False
            raise
        finally:
            self._awaited[peer] -= 1
            if not self._awaited[peer]:
                del self._awaited[peer]
                if peer in self._put_off:
                    self._put_off.remove(peer)
                    if not answered:
                        self.found(peer)

    def _begin_check(self, peer: PeerId) -> None:
        if self._worth_a_check(peer):
            self._checking[peer] = anyio.Event()
            self._tasks.start_soon(self._check, peer)

    async def check_all(self, peers: Iterable[PeerId]) -> None:
        """Check peers now; returns when each has entered or failed. Checks go on if this is cancelled."""
        for peer in peers:
            self.found(peer)
        for check in list(self._checking.values()):
            await check.wait()

    def _worth_a_check(self, peer: PeerId) -> bool:
        return (
            not self._closed
            and len(self._checking) < self._config.max_checks
            and peer not in self._checking
            and self._table.would_take(peer)
        )

    async def _check(self, peer: PeerId) -> None:
        try:
            with anyio.fail_after(self._config.check_timeout):
                closer = await self._asker.find_node(peer, peer.to_bytes())
            # One that knows nobody is welcome only while we know few ourselves (go-libp2p-kad-dht: lookupCheck).
            knows = closer or len(self._table) < self._config.lookup.k
            if knows and self._asker.belongs_in_table(peer):
                self.answered(peer)
        except (P2PError, TimeoutError) as fault:
            logger.debug("%s does not enter the table: %s", peer, fault)
        finally:
            self._checking.pop(peer).set()

    def answered(self, peer: PeerId) -> None:
        """A peer answered a query: it is good for the table."""
        now = self._now()
        if not len(self._table):
            # The first who come, come all from one bootstrapper: they may be replaced until we looked around.
            self._hasty, self._refreshes = True, 0
        if self._table.add(peer, now, replaceable=self._hasty) is AddOutcome.KNOWN:
            self._table.mark_success(peer, now)

    # --- how they go ------------------------------------------------------------------------------

    def failed(self, peer: PeerId) -> None:
        """A peer failed a query, or serves the DHT no longer: it leaves, and another may take its place."""
        entry = self._table.get(peer)
        self._table.remove(peer)
        if entry is not None:
            substitute = self._table.take_replacement(entry.cpl)
            if substitute is not None:  # of one that is not connected nothing is known but that it answered once
                self._begin_check(substitute)

    def refreshed(self) -> None:
        """A refresh is over: after the second since the bootstrap, the table settles."""
        self._hasty = False
        self._refreshes += 1
        if self._refreshes == 2 and not self._closed:
            self._tasks.start_soon(self._settle)

    async def _settle(self) -> None:
        await anyio.sleep(FREEZE_AFTER)
        self._table.freeze()

    # --- what the table tells ---------------------------------------------------------------------

    def _entered(self, entry: Entry[PeerId]) -> None:
        if entry.cpl < PROTECTED_CPL:
            self._asker.conn_manager.protect(entry.peer, TAG)
        else:
            self._asker.conn_manager.tag_peer(entry.peer, TAG, BASE_SCORE)
        self._want_repair()

    def _left(self, entry: Entry[PeerId]) -> None:
        self._asker.conn_manager.unprotect(entry.peer, TAG)
        self._asker.conn_manager.untag_peer(entry.peer, TAG)
        self._want_repair()

    def _want_repair(self) -> None:
        if len(self._table) <= self._config.low_peers:
            self.repair_wanted.set()

    def close(self) -> None:
        """Begin nothing more, and take our marks off every peer: the DHT goes, the host stays."""
        self._closed = True
        for entry in self._table.entries():
            self._asker.conn_manager.unprotect(entry.peer, TAG)
            self._asker.conn_manager.untag_peer(entry.peer, TAG)
