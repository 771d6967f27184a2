"""Provides our keys again and again, region by region of the key space and not one lookup each.

A pass goes through all our keys in the order of the key space. At the first one that is due its region is looked up,
and all keys of the region that are due (or will be soon) are given to their nearest peers, many to a message train;
then it goes on. The work of a pass is bounded in memory by a page of keys, whatever there are. See `sweep_plan`.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import anyio
from anyio.lowlevel import checkpoint

from py_p2pstack.errors import LookupFailure, OperationTimeout, P2PError
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import Region, key_of, random_preimage
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.protocols.dht.refresh import PEER_ID_PREFIX, PREIMAGE_BATCH
from py_p2pstack.protocols.dht.storage import ProviderStore
from py_p2pstack.protocols.dht.sweep_plan import END, Block, KnownSpace, Schedule, block_around

logger = logging.getLogger(__name__)

MAX_WAIT = 3600.0  # seconds between two passes: the wall clock may be set meanwhile
FRESH = 600.0  # seconds for which the peers of a region are taken to be there (go-libp2p-kad-dht: a table's refresh)
FEW = 2  # keys of a region that are looked up one by one (go-libp2p-kad-dht provider: individualProvideThreshold)
MAX_CROWDS = 64  # crowded regions explored in a pass
MAX_PREIMAGE_BITS = 14  # a search of 10 ms
ENOUGH = 0.25  # of the nearest peers told, and a key counts as provided (go: minimalRegionReachablePeersRatio, 0.2)


class Ground(Protocol):
    """What a sweep needs of the DHT."""

    def key_of(self, peer: PeerId) -> int: ...

    async def nearest(self, key: bytes) -> Sequence[PeerId]:
        """The k nearest to a key, fewer only if there are no more. Raises P2PError."""
        ...

    def crowded_region(self, position: int, nearest: Sequence[PeerId]) -> Region | None:
        """The wider region to tell if the nearest to a position are nearer than chance puts them; else None."""
        ...

    async def explore(self, region: Region) -> Sequence[PeerId]:
        """The peers of such a region, as many as are found in a bounded time."""
        ...

    async def tell(self, peer: PeerId, keys: Sequence[bytes]) -> None:
        """Tell a peer that we provide these keys. Raises P2PError."""
        ...


class Sweeper:
    """Sweeps over the keys we provide, one pass at a time."""

    def __init__(
        self,
        ground: Ground,
        store: ProviderStore,
        config: ProviderConfig,
        *,
        k: int,
        origin: int,
        rng: Random,
        wall_clock: Callable[[], float],
    ) -> None:
        """`origin` is our own key: so every node has its own order."""
        self.lookups = 0
        """Lookups done so far."""
        self.provided = 0
        """Keys provided so far, each as often as it was."""
        self.failed = 0
        """Keys of which too few of the nearest could be told, each as often as that was."""
        self._ground = ground
        self._store = store
        self._config = config
        self._k = k
        self._rng = rng
        self._wall_clock = wall_clock
        self._schedule = Schedule(interval=config.reprovide_interval, origin=origin, steps=config.sweep_steps)
        self._next = 0.0  # when the next pass is due
        self._moved = anyio.Event()

    def wake(self, delay: float = 0.0) -> None:
        """Have the next pass begin in `delay` seconds at the latest: there are keys to provide then."""
        due = self._wall_clock() + delay
        if due < self._next:
            self._next = due
            self._moved.set()

    def expect(self, key: bytes, provided_at: float) -> None:
        """A key was provided just now by other means: see that a pass begins when it is due again."""
        if self._config.reprovide_interval:
            now = self._wall_clock()
            self.wake(self._schedule.due_at(key_of(key), provided_at, now) - now)

    async def run(self) -> None:
        """Pass after pass whenever something is due, until cancelled."""
        while True:
            while (wait := self._next - self._wall_clock()) > 0:
                self._moved = anyio.Event()
                with anyio.move_on_after(min(wait, MAX_WAIT)) as timer:
                    await self._moved.wait()
                if timer.cancelled_caught and wait > MAX_WAIT:
                    break
            self._next = math.inf
            due = await self.sweep()
            self.wake(due - self._wall_clock())

    async def sweep(self) -> float:
        """Provide whatever is due; returns when the next key will be (never: infinity)."""
        step = _Pass(self._schedule, self._wall_clock())
        try:
            await self._go_through(step)
        except LookupFailure as fault:
            logger.debug("nothing is provided now: %s", fault)
            step.next = min(step.next, step.now + self._config.sweep_retry / 10)  # we may be about to join
        except P2PError as fault:
            logger.warning("a sweep over the keys we provide ended early: %s", fault)
            step.next = min(step.next, step.now + self._config.sweep_retry)
        return step.next

    async def _go_through(self, step: _Pass) -> None:
        """Find the due keys, and provide the region of each; one that cannot be looked up does not hold up the rest."""
        after, page, passed_over = None, self._config.sweep_page, 0
        while True:
            rows = await self._store.own_times(after, page)
            for index, (key, provided_at) in enumerate(rows):
                position = key_of(key)
                if step.is_due(position, provided_at) and position >= passed_over:
                    after = rows[index - 1][0] if index else after
                    try:
                        after = await self._provide_region(step, after, key)
                    except OperationTimeout as fault:
                        logger.info("a region of the key space is passed over for now: %s", fault)
                        step.saw(step.now + self._config.sweep_retry)
                        passed_over = position + self._schedule.reach
                    break
            else:
                if len(rows) < page:
                    return
                after = rows[-1][0]
                await checkpoint()

    async def _provide_region(self, step: _Pass, after: bytes | None, first: bytes) -> bytes:
        """Provide the keys behind `after`, of which `first` is the first, to the end of its region or of our reach.

        Returns the last key dealt with, at least the first.
        """
        explorer = step.explorer
        if explorer is None or not explorer.knows(key_of(first), self._wall_clock()):
            found = await self._look_up(first)
            explorer = step.explorer = _Explorer(self, first, found, step.beyond, self._wall_clock())
        end = min(explorer.space.region(key_of(first)).end, key_of(first) + self._schedule.reach, END)
        page = self._config.sweep_page
        step.now = self._wall_clock()
        while True:
            rows = await self._store.own_times(after, page)
            positions = [key_of(key) for key, _ in rows]
            whole = len(rows) < page
            stop = bisect_left(positions, end)
            assigned: dict[bytes, Sequence[PeerId]] = {}
            due = [
                place for place in range(stop) if step.is_due(positions[place], rows[place][1], self._schedule.slack)
            ]
            targets = {positions[place]: rows[place][0] for place in range(stop)}
            for count, place in enumerate(due):
                nearest = await explorer.nearest(rows[place][0], targets, alone=len(due) <= FEW)
                if nearest is None:  # that is enough for one region: the rest is another
                    stop, whole = place, True
                    break
                assigned[rows[place][0]] = await explorer.with_region(positions[place], nearest)
                if count % 256 == 255:
                    await checkpoint()
            await self._give_out(step, assigned)
            if stop:
                after = rows[stop - 1][0]
            if whole or stop < len(rows):
                return after if after is not None else first

    async def _look_up(self, key: bytes) -> Sequence[PeerId]:
        self.lookups += 1
        peers = await self._ground.nearest(key)
        if not peers:
            raise LookupFailure("nobody answered")
        return peers

    async def _give_out(self, step: _Pass, assigned: dict[bytes, Sequence[PeerId]]) -> None:
        """Tell each peer its keys, and note which keys were told to enough peers."""
        keys_of: dict[PeerId, list[bytes]] = {}
        for key, peers in assigned.items():
            for peer in peers:
                keys_of.setdefault(peer, []).append(key)
        told: set[PeerId] = set()
        waiting = iter(keys_of.items())

        async def work() -> None:
            for peer, keys in waiting:
                try:
                    await self._ground.tell(peer, keys)
                    told.add(peer)
                except P2PError as fault:
                    logger.debug("%s could not be told %d keys: %s", peer, len(keys), fault)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(self._config.sweep_peers, len(keys_of))):
                tasks.start_soon(work)
        provided = list(assigned)
        if len(told) < len(keys_of):
            provided = [key for key, peers in assigned.items() if len(told.intersection(peers)) >= ENOUGH * len(peers)]
        now = self._wall_clock()
        await self._store.own_provided(provided, now)
        self.provided += len(provided)
        self.failed += len(assigned) - len(provided)
        for key in provided:
            step.saw(self._schedule.due_at(key_of(key), now, now))
        if len(provided) < len(assigned):
            step.saw(now + self._config.sweep_retry)


class _Pass:
    """One way through all keys: what time it is, and when there will be something to do again."""

    def __init__(self, schedule: Schedule, now: float) -> None:
        self.now = now
        self.next = math.inf
        self.explorer: _Explorer | None = None
        """What was found out for the region before this one, which may be a part of the same."""
        self.beyond: dict[Block, Sequence[PeerId]] = {}
        """The peers of the crowded regions met."""
        self._schedule = schedule

    def is_due(self, position: int, provided_at: float, early: float = 0.0) -> bool:
        """Whether a key is due now, or `early` seconds from now; of one that is not it remembers when it will be."""
        if provided_at == math.inf:  # for local use only
            return False
        due = self._schedule.due_at(position, provided_at, self.now)
        if due <= self.now + early:
            return True
        self.saw(due)
        return False

    def saw(self, due: float) -> None:
        """Something will be to do then."""
        self.next = min(self.next, due)


class _Explorer:
    """Finds the nearest peers of the keys of one region, with as few lookups as it takes."""

    def __init__(
        self,
        sweeper: Sweeper,
        first: bytes,
        nearest: Sequence[PeerId],
        beyond: dict[Block, Sequence[PeerId]],
        now: float,
    ) -> None:
        """`first` was looked up; `beyond` has the peers of crowded regions, for this explorer and those after it."""
        self.space: KnownSpace[PeerId] = KnownSpace(sweeper._ground.key_of, sweeper._k)
        self.space.learn(key_of(first), nearest)
        self._sweeper = sweeper
        self._exact = {first: nearest}  # looked up itself
        self._beyond = beyond
        self._begun = now
        self._left = sweeper._config.max_region_lookups - 1

    def knows(self, position: int, now: float) -> bool:
        """Whether it can tell the nearest to a position, and learned so lately."""
        return abs(now - self._begun) < FRESH and self.space.gap(position) is None

    async def nearest(self, key: bytes, targets: dict[int, bytes], *, alone: bool) -> Sequence[PeerId] | None:
        """The nearest to a key; None if that would take more lookups than a region may.

        `targets` are keys of ours to look up, by position in their order; `alone` that there are hardly any others.
        """
        position = key_of(key)
        while key not in self._exact and (gap := self.space.gap(position)) is not None:
            if not self._left:
                return None
            self._left -= 1
            target = key if alone else await self._target(gap, key, targets)
            found = await self._sweeper._look_up(target)
            self.space.learn(key_of(target), found)
            if target == key:
                self._exact = {key: found}
        return self._exact.get(key) or self.space.nearest(position)

    async def with_region(self, position: int, nearest: Sequence[PeerId]) -> Sequence[PeerId]:
        """The nearest, and beyond them the peers of the wider region if they crowd the position.

        Keys beside each other are crowded by the same peers, so their common region is explored once.
        """
        ground = self._sweeper._ground
        region = ground.crowded_region(position, nearest)
        if region is None:
            return nearest
        block = block_around(position, region.prefix_length)
        if block not in self._beyond:
            if len(self._beyond) == MAX_CROWDS:
                return nearest
            self._beyond[block] = ()
            self._beyond[block] = await ground.explore(region)
        return list(dict.fromkeys((*nearest, *self._beyond[block])))

    async def _target(self, gap: Block, key: bytes, targets: dict[int, bytes]) -> bytes:
        """What to look up to learn of `gap`: a key of ours there, else any; if that is hard to find, `key` itself."""
        positions = list(targets)
        place = bisect_left(positions, gap.start)
        if place < len(positions) and positions[place] in gap:
            return targets[positions[place]]
        bits = gap.prefix_length
        if 0 < bits <= MAX_PREIMAGE_BITS:
            last_bit = 1 << 256 - bits
            for _ in range(64):
                made = random_preimage(
                    gap.start ^ last_bit, bits - 1, self._sweeper._rng, prefix=PEER_ID_PREFIX, attempts=PREIMAGE_BATCH
                )
                await checkpoint()
                if made is not None:
                    return made
        return key
