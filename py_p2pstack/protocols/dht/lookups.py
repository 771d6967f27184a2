"""Begins lookups and sees them through: their seeds, their numbers, their time, and who listens to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import replace
from random import Random

import anyio

from py_p2pstack.errors import LookupFailure, OperationTimeout
from py_p2pstack.events import EventBus
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import DisjointLookup, Lookup, LookupResult, NetworkSize, NetworkSizeEstimator, Region
from py_p2pstack.network.deadlines import Deadlines
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.crowds import Crowds
from py_p2pstack.protocols.dht.events import FinalPeer, OnEvent, QueryError, listeners
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.operations import Operation
from py_p2pstack.protocols.dht.queries import Query, Take

WIDEN_AFTER = 0.2  # seconds that a lookup which asks few at once waits for them


class Lookups:
    """Runs lookups of whatever kind for one node."""

    def __init__(
        self, node: LocalNode, gather: Callable[[], Awaitable[None]], rng: Random, query_ids: Iterator[int]
    ) -> None:
        """`gather` fills an empty table; `rng` picks keys in crowded regions; `query_ids` numbers the operations."""
        self.watchers = EventBus()
        """Where those listen who hear of every operation."""
        self._node = node
        self._gather = gather
        self._query_ids = query_ids
        self._brief = replace(node.config.lookup, follow_up=False)
        self._widening = Deadlines(WIDEN_AFTER)
        self._sizes = NetworkSizeEstimator(node.config.lookup.k)
        self._crowds = Crowds(node, self._look_into, rng)

    async def watch_deadlines(self) -> None:
        """Widen lookups whose first few do not answer, until cancelled."""
        await self._widening.run()

    def begin(self, key: bytes, on_event: OnEvent | None) -> Operation:
        """A new operation on `key`, told to whoever listens here and now."""
        return Operation(next(self._query_ids), key, listeners(self.watchers, on_event))

    async def run(
        self,
        operation: Operation,
        request: Message,
        *,
        timeout: float | None = None,
        take: Take | None = None,
        stop: Callable[[], bool] | None = None,
        begun: Callable[[Query], None] | None = None,
        whole_region: bool = False,
        outside: Region | None = None,
        width: int | None = None,
        brief: bool = False,
        without: Collection[PeerId] = (),
    ) -> tuple[Query, LookupResult[PeerId]]:
        """Go towards `operation.key` by sending `request` to ever nearer peers, within the time.

        An empty table is filled first. `take` is given each peer and its whole answer before the lookup goes on, and
        `stop` is asked after each whether it is enough. `begun` is given the query before it runs.
        `whole_region` sends the request to the peers of the key's wider region too, if the key is crowded; then there
        are more than k in the result. `outside` begins outside of a region. `width`: how many are asked at once until
        that proves too few (α by default). A `brief` one ends when the β nearest have answered, which are asked first;
        most of the k nearest are known by hearsay then, so nothing is learned from it. `without`: who is not there.
        Raises LookupFailure (nobody to ask), OperationTimeout.
        """
        seconds = self._node.config.lookup_timeout if timeout is None else timeout
        end = anyio.current_time() + seconds
        with anyio.move_on_after(seconds):
            if not len(self._node.table):
                await self._gather()
            seeds = self._seeds(operation, outside)
            lookup = self._lookup(operation.target, seeds, stop, width, brief, without)
            most = self._node.config.max_peers_per_ip_group
            query = Query(
                operation, request, seeds, lookup, self._node, widening=self._widening, take=take, max_per_group=most
            )
            if begun is not None:
                begun(query)
            result = await query.run()
            self._mark_useful(query)
            if result.completed and not brief:
                region = None
                if whole_region:
                    region = self._crowds.region(result.target, result.peers, self.network_size())
                self._take_in(result)
                if region is not None:  # half of the time is left for whatever follows
                    left = min(end - anyio.current_time(), self._node.config.lookup_timeout) / 2
                    cover = self._crowds.cover
                    result = await cover(operation, request, result, region, take=take, stop=stop, timeout=left)
            return query, result
        raise OperationTimeout(f"the lookup did not end within {seconds:g} s")

    async def nearest(
        self, key: bytes, *, timeout: float | None = None, on_event: OnEvent | None = None
    ) -> LookupResult[PeerId]:
        """Look up the peers nearest to `key` by FIND_NODE. Raises as `run` does."""
        operation = self.begin(key, on_event)
        _, result = await self.run(operation, Message(type=MessageType.FIND_NODE, key=key), timeout=timeout)
        for peer in result.peers:
            operation.tell_of(FinalPeer, peer)
        return result

    def _seeds(self, operation: Operation, outside: Region | None) -> list[PeerId]:
        """Where to begin. Raises LookupFailure."""
        node, k = self._node, self._node.config.lookup.k
        seeds = node.table.nearest(operation.target, k)
        if outside is not None:
            everybody = node.table.nearest(operation.target, len(node.table))
            seeds = [peer for peer in everybody if node.key_of(peer) not in outside][:k] or seeds
        if not seeds:
            reason = "the routing table is empty: connect to a peer that serves the DHT"
            operation.tell(QueryError, peer=None, reason=reason)
            raise LookupFailure(reason)
        return seeds

    def _lookup(
        self,
        target: int,
        seeds: Sequence[PeerId],
        stop: Callable[[], bool] | None,
        width: int | None,
        brief: bool,
        without: Collection[PeerId],
    ) -> Lookup[PeerId] | DisjointLookup[PeerId]:
        node, paths = self._node, self._node.config.security.disjoint_paths
        config, exclude = self._node.config.lookup, {node.local_peer, *without}
        if brief:
            config, width = self._brief, config.beta
        if paths == 1:
            return Lookup(target, seeds, node.key_of, config=config, exclude=exclude, stop=stop, width=width)
        return DisjointLookup(target, seeds, node.key_of, paths=paths, config=config, exclude=exclude, stop=stop)

    async def _look_into(self, key: bytes, region: Region) -> LookupResult[PeerId]:
        """Look up a key in a crowded region, from outside: the crowd may have filled our own table there."""
        request = Message(type=MessageType.FIND_NODE, key=key)
        _, result = await self.run(self.begin(key, None), request, outside=region)
        return result

    def crowded_region(self, target: int, peers: Sequence[PeerId]) -> Region | None:
        """The region to tell or ask if the peers nearest to `target` are suspiciously near; None if they are not."""
        return self._crowds.region(target, peers, self.network_size())

    async def explore(self, region: Region) -> list[PeerId]:
        """Find the peers of a crowded region, from outside of it."""
        return await self._crowds.explore(region, timeout=self._node.config.lookup_timeout / 4)

    def network_size(self) -> NetworkSize | None:
        """How many peers there are, told from the lookups of the last hours; None before there were a few."""
        return self._sizes.estimate(anyio.current_time())

    def _take_in(self, result: LookupResult[PeerId]) -> None:
        """A lookup that came to its natural end refreshes the table, and tells how dense the network is."""
        now = anyio.current_time()
        self._node.table.mark_refreshed(result.target, now)
        self._sizes.track(result.target, [self._node.key_of(peer) ^ result.target for peer in result.peers], now)

    def _mark_useful(self, query: Query) -> None:
        """Seeds that answered at most twice as slowly as the quickest were useful (go: recordValuablePeers)."""
        rtts = {peer: query.rtts[peer] for peer in query.seeds if peer in query.rtts}
        slowest = 2 * min(rtts.values(), default=0.0)
        now = anyio.current_time()
        for peer, rtt in rtts.items():
            if rtt <= slowest:
                self._node.table.mark_useful(peer, now)
