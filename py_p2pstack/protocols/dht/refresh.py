"""Keeps the routing table filled: at the start, every ten minutes, and whenever it runs low.

A refresh asks silent peers whether they live, looks up ourselves, and then a random key for each prefix length not
looked up lately. Source: go-libp2p-kad-dht rtrefresh, fixLowPeers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.peerstore import RECENTLY_CONNECTED_TTL, Peerstore
from py_p2pstack.errors import LookupFailure, OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupResult, RoutingTable, random_preimage
from py_p2pstack.protocols.dht.admission import Admission
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.snapshot import TableKeeper

logger = logging.getLogger(__name__)

PEER_ID_PREFIX = b"\x12\x20"  # the key asked for must look like a peer id: js-libp2p refuses others
PREIMAGE_BATCH = 2048  # attempts between two checkpoints, 2 ms
MAX_BOOTSTRAPPERS = 2  # go-libp2p-kad-dht: maxNBoostrappers; one alone could keep us in a partition


class Node(Protocol):
    """What refreshing needs of the DHT."""

    @property
    def local_peer(self) -> PeerId: ...

    @property
    def peerstore(self) -> Peerstore: ...

    def connected_peers(self) -> Iterable[PeerId]: ...

    async def connect(self, peer: PeerInfo) -> None: ...

    async def find_node(self, peer: PeerId, key: bytes) -> object: ...


class Refresher:
    """Refreshes one routing table; one refresh at a time."""

    def __init__(
        self,
        node: Node,
        table: RoutingTable[PeerId],
        admission: Admission,
        config: DhtConfig,
        rng: Random,
        look_up: Callable[[bytes], Awaitable[LookupResult[PeerId]]],
        keeper: TableKeeper,
    ) -> None:
        self._node = node
        self._table = table
        self._admission = admission
        self._config = config
        self._rng = rng
        self._look_up = look_up
        self._keeper = keeper
        self._lock = anyio.Lock(fast_acquire=True)
        self._wanted = anyio.Event()
        self._begun = 0.0  # the last refresh

    # --- when -------------------------------------------------------------------------------------

    async def run_periodically(self) -> None:
        """Refresh now, every `refresh_interval` seconds and whenever it is wanted, until cancelled."""
        await self._keeper.restore()
        force = True
        while True:
            await self.refresh(force=force)
            force = False
            with anyio.move_on_after(self._config.refresh_interval):
                await self._wanted.wait()
            self._wanted = anyio.Event()

    def refresh_soon(self) -> None:
        """Have a refresh begin soon; several wishes make one."""
        self._wanted.set()

    async def run_repairs(self) -> None:
        """Repair the table when it changes and has few peers, and look every `repair_interval` whether it has."""
        while True:
            with anyio.move_on_after(self._config.repair_interval):
                await self._admission.repair_wanted.wait()
            self._admission.repair_wanted = anyio.Event()
            await self.repair()

    async def keep_addresses(self) -> None:
        """Keep the addresses of the table's peers alive in the peerstore while they are not connected."""
        while True:
            await anyio.sleep(RECENTLY_CONNECTED_TTL / 3)
            for peer in self._table:
                self._node.peerstore.update_ttl(peer, RECENTLY_CONNECTED_TTL, RECENTLY_CONNECTED_TTL)

    # --- what -------------------------------------------------------------------------------------

    async def repair(self) -> None:
        """Fill a table of few peers: with those we are connected to, then from the bootstrappers, then by a refresh."""
        if len(self._table) > self._config.low_peers or self._lock.locked():
            return  # a refresh under way meets whoever there is
        await self.gather()
        if len(self._table):
            await self.refresh(force=False)

    async def gather(self) -> None:
        """Take connected peers into the table; if it stays empty, those of our last life; at last, bootstrappers."""
        await self._admission.check_all(self._node.connected_peers())
        await self._keeper.restore()
        if len(self._table):
            return
        peers = list(self._config.bootstrap_peers)
        self._rng.shuffle(peers)
        found = 0
        for peer in peers:
            if found == MAX_BOOTSTRAPPERS:
                break
            try:
                with anyio.fail_after(self._config.dial_timeout):
                    await self._node.connect(peer)
            except (P2PError, TimeoutError) as fault:
                logger.debug("bootstrapper %s cannot be reached: %s", peer.peer_id, fault)
            else:
                found += 1
        await self._admission.check_all(self._node.connected_peers())

    async def refresh(self, *, force: bool) -> None:
        """Refresh once. Does nothing on an empty table.

        `force`: prefix lengths that were looked up lately, too, unless it was in a refresh that is under way now: who
        joins and asks at once for what has begun by itself need not wait for all of it to be done twice.
        """
        now = anyio.current_time()
        since = now - self._config.refresh_interval
        if force:
            since = self._begun if self._lock.locked() else now
        async with self._lock:
            self._begun = anyio.current_time()
            await self._evict_the_dead()
            if not len(self._table):
                return
            around_us = await self._run(self._node.local_peer.to_bytes())
            if around_us is None or not self._is_everybody(around_us):
                await self._refresh_prefixes(since)
            self._admission.refreshed()
        await self._keeper.save()

    async def _refresh_prefixes(self, since: float) -> None:
        """Look up a random key of each prefix length up to the longest in the table, but of those looked up `since`.

        Behind a length c that has nobody even then, only those up to 2(c + 1) are tried: a single peer very near to us
        should not cost a lookup for each of the empty lengths before it (go-libp2p-kad-dht: doRefresh).
        """
        times = self._table.refresh_times()
        last = len(times) - 1
        cpl = 0
        gap = False
        while cpl <= last:
            at = times[cpl]
            if at is None or at < since:
                await self._run(await self._random_key(cpl))
            if not gap and self._table.count(cpl) == 0:
                gap = True
                last = min(2 * (cpl + 1), last)
            cpl += 1

    async def _random_key(self, cpl: int) -> bytes:
        while True:
            key = random_preimage(self._table.local, cpl, self._rng, prefix=PEER_ID_PREFIX, attempts=PREIMAGE_BATCH)
            if key is not None:
                return key
            await checkpoint()

    async def _run(self, key: bytes) -> LookupResult[PeerId] | None:
        try:
            with anyio.move_on_after(self._config.refresh_query_timeout):
                return await self._look_up(key)
        except (LookupFailure, OperationTimeout) as fault:
            logger.debug("refresh: %s", fault)
        return None

    def _is_everybody(self, result: LookupResult[PeerId]) -> bool:
        """Whether a lookup met the whole network: then one for another key would meet the same peers.

        Each peer tells of the k nearest it knows. Who asked everybody it heard of, and heard of fewer than k, has
        been told of all that any of them knows.
        """
        return result.completed and not result.unreachable and len(result.closest) < self._config.lookup.k

    async def _evict_the_dead(self) -> None:
        silent_since = anyio.current_time() - self._config.silence_limit
        async with anyio.create_task_group() as checks:
            for entry in self._table.entries():
                if entry.last_success_at < silent_since:
                    checks.start_soon(self._check_alive, entry.peer)

    async def _check_alive(self, peer: PeerId) -> None:
        try:
            with anyio.fail_after(self._config.check_timeout):
                await self._node.find_node(peer, peer.to_bytes())
        except (P2PError, TimeoutError):
            self._admission.failed(peer)
        else:
            self._admission.answered(peer)
