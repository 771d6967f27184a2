"""Putting, getting and searching values, and keeping those right who hold them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from anyio.abc import TaskGroup

from py_p2pstack.errors import (
    InvalidRecord,
    LookupFailure,
    OperationTimeout,
    PutFailed,
    RemoteProtocolError,
    RoutingError,
    StorageError,
    ValueNotFound,
)
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import LookupResult
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.events import FinalPeer, OnEvent, QueryError, Value
from py_p2pstack.protocols.dht.found import Found
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.lookups import Lookups
from py_p2pstack.protocols.dht.operations import Operation
from py_p2pstack.protocols.dht.puts import PutResult, Puts, shortfall
from py_p2pstack.protocols.dht.queries import Query
from py_p2pstack.protocols.dht.storage import ValueStore
from py_p2pstack.protocols.dht.tally import Tally, compare
from py_p2pstack.protocols.dht.validators import Validator
from py_p2pstack.protocols.dht.value_handlers import discard_invalid

logger = logging.getLogger(__name__)

SPARE = 1  # requests under way beyond the quorum: one more answer than that is needed
IMPROVEMENTS = 64  # of one search that wait to be taken; only the last one matters


class Values:
    """The values of one DHT, from the side of who puts and gets."""

    def __init__(
        self,
        node: LocalNode,
        lookups: Lookups,
        store: ValueStore,
        validator: Validator,
        wall_clock: Callable[[], float],
        tasks: TaskGroup,
    ) -> None:
        self.corrections = 0
        """How many searches are correcting peers now."""
        self._node = node
        self._config = node.config
        self._lookups = lookups
        self._store = store
        self._validator = validator
        self._wall_clock = wall_clock
        self._puts = Puts(node, lookups, wall_clock)
        self._tasks = tasks

    # --- put --------------------------------------------------------------------------------------

    async def put(
        self, key: bytes, value: bytes, *, quorum: int, timeout: float | None, on_event: OnEvent | None
    ) -> PutResult:
        """See `Dht.put_value`."""
        self._check(key, value)
        operation = self._lookups.begin(key, on_event)
        await self._keep(key, value)
        try:
            result = await self._puts.at_nearest(operation, value, timeout=timeout)
            if len(result.replicas) < max(quorum, 1):
                raise PutFailed(shortfall(result, quorum), result)
        except (RoutingError, OperationTimeout):
            await self._put_again_soon(key, value)
            raise
        return result

    async def _put_again_soon(self, key: bytes, value: bytes) -> None:
        """Make a value that could not be put due for republishing."""
        due = self._wall_clock() - self._config.republish_interval - self._config.republish_spread
        async with self._store.locked(key):
            stored = await self._store.get(key)
            if stored is not None and stored.value == value:
                await self._store.put(key, value, published=True, received=due)

    def _check(self, key: bytes, value: bytes) -> None:
        if not 0 < len(value) <= self._config.max_value_size:
            raise InvalidRecord(f"a value of {len(value)} bytes: it has 1..{self._config.max_value_size}")
        self._validator.validate(key, value, self._wall_clock())

    async def _keep(self, key: bytes, value: bytes) -> None:
        """Keep what we publish, for good. Raises InvalidRecord if we have a better one, StorageError."""
        async with self._store.locked(key):
            old = await self._store.get(key)
            if old is not None and old.value != value:
                now = self._wall_clock()
                try:
                    self._validator.validate(key, old.value, now)
                except InvalidRecord:
                    pass  # no obstacle any more
                else:
                    if self._validator.select(key, [value, old.value], now) != 0:
                        raise InvalidRecord("older than the value we have: take a higher sequence number")
            await self._store.put(key, value, published=True)

    # --- get --------------------------------------------------------------------------------------

    async def get(self, key: bytes, *, quorum: int, timeout: float | None, on_event: OnEvent | None) -> bytes:
        """See `Dht.get_value`."""
        tally = self._tally(key)
        try:
            await self._search(self._lookups.begin(key, on_event), tally, quorum, timeout, None)
        except OperationTimeout:
            if tally.best is None:
                raise
        if tally.best is None:
            raise ValueNotFound("nobody who was asked has a valid value")
        return tally.best

    def search(self, key: bytes, *, quorum: int, timeout: float | None, on_event: OnEvent | None) -> Found[bytes]:
        """See `Dht.search_value`."""
        operation = self._lookups.begin(key, on_event)

        async def run(give: Callable[[bytes], None]) -> None:
            await self._search(operation, self._tally(key), quorum, timeout, give)

        return Found(run, self._tasks, buffer=IMPROVEMENTS)

    def _tally(self, key: bytes) -> Tally:
        return Tally(key, self._validator, self._node.groups_of if self._config.security.quorum_ip_groups else None)

    async def _search(
        self,
        operation: Operation,
        tally: Tally,
        quorum: int,
        timeout: float | None,
        give: Callable[[bytes], None] | None,
    ) -> None:
        """Find the best value; then whoever should have it and has not is given it, in the background."""
        own = await self._local(operation.key)
        if own is not None:
            operation.tell(Value, peer=self._node.local_peer, value=own)
            if tally.add(self._node.local_peer, own, self._wall_clock()) and give is not None:
                give(own)
        try:
            result, lacking = await self._ask(operation, tally, quorum, timeout, give)
        except LookupFailure:
            if tally.best is None:
                raise
            return  # alone, with a value
        holders = tally.holders
        for peer in result.peers:
            if peer in holders:
                operation.tell_of(FinalPeer, peer)
        if tally.best is not None:
            self._correct_soon(operation.key, tally, self._to_correct(result, tally, lacking))

    async def _ask(
        self,
        operation: Operation,
        tally: Tally,
        quorum: int,
        timeout: float | None,
        give: Callable[[bytes], None] | None,
    ) -> tuple[LookupResult[PeerId], list[PeerId]]:
        """Ask ever nearer peers for the value, until `quorum` + 1 have answered with one (0: as long as there are any).

        With a quorum only as many are asked at once as may be enough, until one has no value, or is slow, or gone.
        Returns also those who have no valid value.
        """
        key = operation.key
        lacking: list[PeerId] = []
        running: list[Query] = []

        def take(peer: PeerId, answer: Message) -> None:
            record = answer.record
            if record is None or not record.value:
                lacking.append(peer)
                running[0].lookup.widen()
                return
            if record.key != key:
                raise RemoteProtocolError("a record of another key than asked for")
            now = self._wall_clock()
            try:
                self._validator.validate(key, record.value, now)
            except InvalidRecord as fault:
                operation.tell(QueryError, peer=peer, reason=f"an invalid value: {fault}")
                lacking.append(peer)
                return
            operation.tell(Value, peer=peer, value=record.value)
            if tally.add(peer, record.value, now) and give is not None and tally.best is not None:
                give(tally.best)

        _, result = await self._lookups.run(
            operation,
            Message(type=MessageType.GET_VALUE, key=key),
            timeout=timeout,
            take=take,
            stop=lambda: 0 < quorum < tally.answers,
            begun=running.append,
            whole_region=True,
            width=quorum + SPARE if quorum else None,
        )
        return result, lacking

    async def _local(self, key: bytes) -> bytes | None:
        """Our own copy, if it is valid; else it is removed."""
        try:
            stored = await self._store.get(key)
            if stored is None:
                return None
            now = self._wall_clock()
            return stored.value if await discard_invalid(self._store, self._validator, key, stored.value, now) else None
        except StorageError as fault:
            logger.warning("our own copy cannot be read: %s", fault)
            return None

    # --- republish --------------------------------------------------------------------------------

    async def republish(self, key: bytes, value: bytes) -> bool:
        """Put a value of ours again, unless the network has moved on; returns whether it was put.

        It has if a better value is found there, or, where values have no rank, another one that more peers hold: then
        we keep that one, and publish it no longer. Raises PutFailed, and as a lookup does.
        """
        now = self._wall_clock()
        try:
            self._validator.validate(key, value, now)
        except InvalidRecord as fault:
            logger.info("%r is published no longer: %s", key, fault)
            await self._replace(key, value, None)
            return False
        operation, tally = self._lookups.begin(key, None), self._tally(key)
        found, _ = await self._ask(operation, tally, 0, None, None)
        best = tally.best
        if best is not None and best != value and compare(self._validator, key, best, value, now) >= 0:
            logger.info("%r is published no longer: the network has another value", key)
            await self._replace(key, value, best)
            return False
        result = await self._puts.at(operation, value, found.peers)
        if not result.replicas:
            raise PutFailed(shortfall(result, 1), result)
        await self._replace(key, value, value)
        return True

    async def stop_publishing(self, key: bytes) -> None:
        """See `Dht.stop_publishing`."""
        async with self._store.locked(key):
            stored = await self._store.get(key)
            if stored is not None and stored.published:
                await self._store.remove(key)

    async def _replace(self, key: bytes, old: bytes, new: bytes | None) -> None:
        """Replace a value we publish, unless it was replaced meanwhile. The same once more: it was put just now."""
        async with self._store.locked(key):
            stored = await self._store.get(key)
            if stored is None or stored.value != old or not stored.published:
                return
            if new is None:
                await self._store.remove(key)
            else:
                await self._store.put(key, new, published=new == old)

    # --- correct ----------------------------------------------------------------------------------

    def _to_correct(self, result: LookupResult[PeerId], tally: Tally, lacking: Sequence[PeerId]) -> list[PeerId]:
        """Who is to be given the best value.

        After a whole lookup all of the k nearest that have none or a worse one (go-libp2p-kad-dht); after one that
        stopped early the nearest of those who said that they have none, so that the value is met earlier the next time
        (Kademlia paper, 2.3).
        """
        if result.completed:
            lacks = {*lacking, *tally.stale}
            return [peer for peer in result.peers if peer in lacks]
        return sorted(lacking, key=lambda peer: self._node.key_of(peer) ^ result.target)[:1]

    def _correct_soon(self, key: bytes, tally: Tally, peers: Sequence[PeerId]) -> None:
        own = self._node.local_peer in tally.stale
        if (peers or own) and self.corrections < self._config.max_corrections and tally.best is not None:
            self.corrections += 1
            self._tasks.start_soon(self._correct, key, tally.best, peers, own)

    async def _correct(self, key: bytes, value: bytes, peers: Iterable[PeerId], own: bool) -> None:
        try:
            if own:
                async with self._store.locked(key):
                    stored = await self._store.get(key)
                    if (
                        stored is not None
                        and compare(self._validator, key, value, stored.value, self._wall_clock()) > 0
                    ):
                        await self._store.put(key, value)
            operation = Operation(0, key, [])
            await self._puts.at(operation, value, list(peers))
        except StorageError as fault:
            logger.warning("our own copy cannot be corrected: %s", fault)
        finally:
            self.corrections -= 1
