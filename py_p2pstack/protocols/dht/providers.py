"""Providing content, and finding who provides it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import anyio
from anyio.abc import TaskGroup

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.errors import LookupFailure, OperationTimeout, ProvideFailed, StorageError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import NetworkSize, Region
from py_p2pstack.protocols.dht.announcement import Announcement, add_provider, ourselves
from py_p2pstack.protocols.dht.codec import Message, MessageType
from py_p2pstack.protocols.dht.content import content_key
from py_p2pstack.protocols.dht.events import FinalPeer, OnEvent, Provider
from py_p2pstack.protocols.dht.found import Found
from py_p2pstack.protocols.dht.local_node import LocalNode
from py_p2pstack.protocols.dht.lookups import Lookups
from py_p2pstack.protocols.dht.operations import Operation
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig, OptimisticProvide
from py_p2pstack.protocols.dht.queries import Query
from py_p2pstack.protocols.dht.storage import ProviderStore
from py_p2pstack.protocols.dht.sweep import Sweeper

logger = logging.getLogger(__name__)

OWN_BATCH = 1000  # keys written at once
LOCAL_ONLY = math.inf  # the time of a key that is told to whoever asks us, and announced to nobody


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvideResult:
    """What became of a provide."""

    key: bytes
    """The multihash."""
    announced: bool
    """Whether others were to be told."""
    told: tuple[PeerId, ...] = ()
    """To whom it was written, nearest to the key first. (They do not confirm that they keep it.)"""
    failed: Mapping[PeerId, str]
    """To whom it could not be written, and why."""
    pending: tuple[PeerId, ...] = ()
    """To whom it is being written in the background, after an optimistic provide."""


class Providers:
    """The providers of one DHT, from the side of who provides and searches."""

    def __init__(
        self,
        node: LocalNode,
        lookups: Lookups,
        datastore: Datastore,
        *,
        rng: Random,
        wall_clock: Callable[[], float],
        tasks: TaskGroup,
    ) -> None:
        self.background = 0
        """How many stores of optimistic provides go on in the background."""
        self._node = node
        self._lookups = lookups
        self._config = config = node.config.providers
        self.store = ProviderStore(
            datastore,
            wall_clock=wall_clock,
            max_age=config.max_age,
            address_age=config.address_age,
            max_keys=config.max_keys,
            max_providers_per_key=config.max_providers_per_key,
            max_own_keys=config.max_own_keys,
        )
        """Who provides what, as we were told, and what we provide."""
        self.sweeper = Sweeper(
            _Ground(node, lookups),
            self.store,
            config,
            k=node.config.lookup.k,
            origin=node.key_of(node.local_peer),
            rng=rng,
            wall_clock=wall_clock,
        )
        """Provides our keys again."""
        self._rng = rng
        self._wall_clock = wall_clock
        self._tasks = tasks

    def start(self) -> None:
        """Begin to remove what is too old, and to provide again."""
        self._tasks.start_soon(self._collect_garbage)
        if self._config.reprovide_interval:
            self._tasks.start_soon(self.sweeper.run)

    # --- provide ----------------------------------------------------------------------------------

    async def provide(
        self, content: bytes | str, *, announce: bool, timeout: float | None, on_event: OnEvent | None
    ) -> ProvideResult:
        """See `Dht.provide`."""
        key = content_key(content)
        await self.store.own_add(key)
        if not announce:
            if not await self.store.own_time(key):  # one that is announced already stays so
                await self.store.own_provided([key], LOCAL_ONLY)
            return ProvideResult(key=key, announced=False, failed={})
        seconds = self._node.config.lookup_timeout if timeout is None else timeout
        result = None
        try:
            with anyio.move_on_after(seconds):
                result = await self._announce(self._lookups.begin(key, on_event))
                now = self._wall_clock()
                await self.store.own_provided([key], now)
                self.sweeper.expect(key, now)
                return result
        finally:
            if result is None:
                self.sweeper.wake(self._config.sweep_retry)
        raise OperationTimeout(f"the content was not provided within {seconds:g} s")

    async def provide_many(self, contents: Iterable[bytes | str]) -> int:
        """See `Dht.provide_many`."""
        keys = list(map(content_key, contents))
        for start in range(0, len(keys), OWN_BATCH):
            await self.store.own_add(*keys[start : start + OWN_BATCH])
        self.sweeper.wake()
        return len(keys)

    async def stop(self, contents: Iterable[bytes | str]) -> None:
        """See `Dht.stop_providing`."""
        await self.store.own_remove(*map(content_key, contents))

    async def _announce(self, operation: Operation) -> ProvideResult:
        """Tell the nearest to the key; ProvideFailed if nobody could be told."""
        announcement = Announcement(operation, self._node, self._tasks)
        if not self._node.addresses(self._node.local_peer):
            nobody = ProvideResult(key=operation.key, announced=True, failed={})
            raise ProvideFailed("we have no address where others could reach us: listen on one", nobody)
        try:
            size = self._lookups.network_size() if self._config.optimistic is not None else None
            if self._config.optimistic is not None and size is not None:
                await self._announce_early(announcement, self._config.optimistic, size)
            else:
                _, found = await self._lookups.run(
                    operation, _find_node(operation), timeout=math.inf, whole_region=True
                )
                for peer in found.peers:
                    operation.tell_of(FinalPeer, peer)
                announcement.tell(found.peers)
                await announcement.wait_for(len(found.peers))
        except BaseException:
            announcement.cancel()
            raise
        result = ProvideResult(
            key=operation.key,
            announced=True,
            told=announcement.told,
            failed=dict(announcement.failed),
            pending=announcement.pending,
        )
        if not result.told:
            reasons = "".join(f"\n  {peer}: {reason}" for peer, reason in result.failed.items())
            raise ProvideFailed(f"none of the {len(result.failed)} nearest peers could be told{reasons}", result)
        return result

    async def _announce_early(self, announcement: Announcement, config: OptimisticConfig, size: NetworkSize) -> None:
        """Tell peers while the lookup for them goes on, and do not wait for the last of them."""
        operation, k = announcement.operation, self._node.config.lookup.k
        plan: OptimisticProvide[PeerId] = OptimisticProvide(
            size, lambda peer: self._node.key_of(peer) ^ operation.target, k=k, config=config
        )
        queries: list[Query] = []

        def enough() -> bool:
            nearest = queries[0].lookup.nearest()
            announcement.tell(plan.choose(nearest))
            if self._lookups.crowded_region(operation.target, nearest) is not None:
                return False  # to the end, then, and beyond the crowd
            return plan.is_enough(nearest, len(announcement.told) + len(announcement.pending))

        _, found = await self._lookups.run(
            operation, _find_node(operation), timeout=math.inf, stop=enough, begun=queries.append, whole_region=True
        )
        for peer in found.peers:
            operation.tell_of(FinalPeer, peer)
        announcement.tell(peer for peer in found.peers if peer not in plan.chosen)
        await announcement.wait_for(math.ceil(k * config.return_ratio))
        left = len(announcement.pending)
        if self.background + left > config.max_background:
            await announcement.wait_for(k + left)
        elif left:
            self.background += left
            self._tasks.start_soon(self._see_through, announcement, left)

    async def _see_through(self, announcement: Announcement, count: int) -> None:
        try:
            await announcement.wait_for(math.inf)
        finally:
            self.background -= count

    # --- find -------------------------------------------------------------------------------------

    def find(
        self, content: bytes | str, *, count: int, timeout: float | None, on_event: OnEvent | None
    ) -> Found[PeerInfo]:
        """See `Dht.find_providers`."""
        if count < 0:
            raise ValueError(f"{count} providers cannot be found")
        operation = self._lookups.begin(content_key(content), on_event)
        wanted = min(count or self._config.max_found, self._config.max_found)

        async def run(give: Callable[[PeerInfo], None]) -> None:
            await self._find(operation, _Selection(wanted, give), timeout)

        return Found(run, self._tasks, buffer=wanted)

    async def _find(self, operation: Operation, selection: _Selection, timeout: float | None) -> None:
        """What we know ourselves first; then ever nearer peers are asked, until there are enough."""
        self._take(operation, self._node.local_peer, await self._local(operation.key), selection)
        if not selection.full:
            request = Message(type=MessageType.GET_PROVIDERS, key=operation.key)

            def take(peer: PeerId, answer: Message) -> None:
                self._take(operation, peer, [each.info for each in answer.provider_peers], selection)

            try:
                await self._lookups.run(
                    operation, request, timeout=timeout, take=take, stop=lambda: selection.full, whole_region=True
                )
            except LookupFailure:
                if not selection:
                    raise
            finally:
                selection.give_rest()

    async def _local(self, key: bytes) -> list[PeerInfo]:
        providers = await self.store.get(key)
        if await self.store.own_time(key) is not None:
            providers.append(PeerInfo(self._node.local_peer))
        return providers

    def _take(self, operation: Operation, teller: PeerId, told: list[PeerInfo], selection: _Selection) -> None:
        """Take in what one peer told: its providers in no order, for it may put those first whom it likes best."""
        if told:
            operation.tell(Provider, peer=teller, providers=tuple(told))
        self._rng.shuffle(told)
        for info in told:
            peer, addresses = info.peer_id, self._node.filtered(info.addresses)
            if peer == self._node.local_peer or not addresses:
                addresses = self._node.addresses(peer)  # of us others may know old ones
            elif not self._node.is_connected(peer):
                self._node.peerstore.add_addresses(peer, addresses, self._config.found_ttl)
            selection.add(PeerInfo(peer, tuple(addresses)))

    async def _collect_garbage(self) -> None:
        while True:
            await anyio.sleep(self._config.gc_interval)
            try:
                await self.store.collect_garbage()
            except StorageError as fault:
                logger.warning("providers that are too old cannot be removed: %s", fault)


class _Ground:
    """The DHT as sweeps need it."""

    def __init__(self, node: LocalNode, lookups: Lookups) -> None:
        self.key_of = node.key_of
        self._node = node
        self._lookups = lookups

    async def nearest(self, key: bytes) -> Sequence[PeerId]:
        """The k nearest to a key. Raises P2PError."""
        if not self._node.addresses(self._node.local_peer):
            raise LookupFailure("we have no address where others could reach us")
        return (await self._lookups.nearest(key)).peers

    def crowded_region(self, position: int, nearest: Sequence[PeerId]) -> Region | None:
        """The wider region to tell if the nearest to a position are suspiciously near."""
        return self._lookups.crowded_region(position, nearest)

    async def explore(self, region: Region) -> Sequence[PeerId]:
        """The peers of a crowded region."""
        return await self._lookups.explore(region)

    async def tell(self, peer: PeerId, keys: Sequence[bytes]) -> None:
        """Tell a peer that we provide these keys, over one stream, and see that it took them. Raises P2PError."""
        if not self._node.is_connected(peer):
            await self._node.dial(peer)
        provider = ourselves(self._node)
        messages = (add_provider(key, provider) for key in keys)
        receipt = Message(type=MessageType.FIND_NODE, key=self._node.local_peer.to_bytes())
        await self._node.messenger.tell(peer, messages, receipt=receipt)


class _Selection:
    """The first `wanted` distinct providers; those without an address only if nobody tells one to the end."""

    __slots__ = ("_give", "_given", "_waiting", "_wanted")

    def __init__(self, wanted: int, give: Callable[[PeerInfo], None]) -> None:
        self._wanted = wanted
        self._give = give
        self._given: set[PeerId] = set()
        self._waiting: dict[PeerId, PeerInfo] = {}

    def __len__(self) -> int:
        return len(self._given) + len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return len(self._given) >= self._wanted

    def add(self, info: PeerInfo) -> None:
        """Give a provider out, if it is new and there is an address."""
        if self.full or info.peer_id in self._given:
            return
        if info.addresses:
            self._waiting.pop(info.peer_id, None)
            self._given.add(info.peer_id)
            self._give(info)
        elif len(self._waiting) < self._wanted:
            self._waiting[info.peer_id] = info

    def give_rest(self) -> None:
        """Give out those without an address, as many as are still wanted."""
        for info in list(self._waiting.values())[: self._wanted - len(self._given)]:
            self._given.add(info.peer_id)
            self._give(info)
        self._waiting.clear()


def _find_node(operation: Operation) -> Message:
    return Message(type=MessageType.FIND_NODE, key=operation.key)
