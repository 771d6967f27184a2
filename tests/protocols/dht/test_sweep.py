"""Sweeps: every key to its true nearest peers, with a lookup for hundreds of keys, evenly, and after a restart too."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from heapq import nsmallest
from random import Random

import anyio
import pytest

from py_p2pstack.errors import LookupFailure, OperationTimeout, StorageError, StreamReset
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import Region, cached_keys, key_of
from py_p2pstack.protocols.dht.provider_config import ProviderConfig
from py_p2pstack.protocols.dht.storage import ProviderStore
from py_p2pstack.protocols.dht.sweep import Sweeper
from py_p2pstack.storage.memory import MemoryDatastore
from py_p2pstack.testing import virtual_time
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time

HOUR = 3600.0
US = key_of(peer(0).to_bytes())


def multihash(number: int) -> bytes:
    return b"\x12\x20" + hashlib.sha256(number.to_bytes(8, "big")).digest()


class Network:
    """Peers that know everything at once, and remember what they are told."""

    def __init__(self, size: int, k: int = 20) -> None:
        self.k = k
        self.key_of = cached_keys(PeerId.to_bytes, 4096)
        self.peers = {self.key_of(peer(number)): peer(number) for number in range(1, size + 1)}
        self.told: dict[PeerId, list[bytes]] = {each: [] for each in self.peers.values()}
        self.calls: Counter[PeerId] = Counter()
        self.dead: set[PeerId] = set()
        self.crowded: tuple[int, int] | None = None  # the part of the key space that is, by prefix and its length
        self.explored: list[Region] = []
        self.offline = False
        self.flying = self.most_flying = self.most_keys = 0

    def truly_nearest(self, key: bytes) -> list[PeerId]:
        target = key_of(key)
        return [self.peers[each] for each in nsmallest(self.k, self.peers, key=target.__xor__)]

    async def nearest(self, key: bytes) -> Sequence[PeerId]:
        await anyio.sleep(1.0)
        if self.offline:
            raise LookupFailure("nobody there")
        return self.truly_nearest(key)

    def crowded_region(self, position: int, nearest: Sequence[PeerId]) -> Region | None:
        if self.crowded is None or position >> 256 - self.crowded[1] != self.crowded[0]:
            return None
        return Region(position, 1 << 256 - self.crowded[1])

    async def explore(self, region: Region) -> Sequence[PeerId]:
        self.explored.append(region)
        await anyio.sleep(1.0)
        return [each for key, each in self.peers.items() if key in region]

    async def tell(self, whom: PeerId, keys: Sequence[bytes]) -> None:
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        self.most_keys = max(self.most_keys, len(keys))
        await anyio.sleep(0.1)
        self.flying -= 1
        if whom in self.dead:
            raise StreamReset("dead")
        self.calls[whom] += 1
        self.told[whom] += keys

    def holders(self) -> dict[bytes, list[PeerId]]:
        """Whom each key was told to, however often."""
        holders: dict[bytes, list[PeerId]] = {}
        for each, keys in self.told.items():
            for key in keys:
                holders.setdefault(key, []).append(each)
        return holders


class World:
    """A network, our store, and a wall clock that runs with the virtual one."""

    def __init__(self, size: int, k: int = 20, **config: float) -> None:
        self.start = 1e9
        self.network = Network(size, k)
        self.config = ProviderConfig(**config)  # type: ignore[arg-type]
        self.store = ProviderStore(MemoryDatastore(), wall_clock=self.now)
        self.sweeper = self.make_sweeper()

    def now(self) -> float:
        return self.start + anyio.current_time()

    def make_sweeper(self) -> Sweeper:
        return Sweeper(
            self.network, self.store, self.config, k=self.network.k, origin=US, rng=Random(1), wall_clock=self.now
        )

    async def provide(self, numbers: range) -> list[bytes]:
        keys = [multihash(number) for number in numbers]
        for start in range(0, len(keys), 5000):
            await self.store.own_add(*keys[start : start + 5000])
        return keys

    def assert_all_right(self, keys: Sequence[bytes], *, times: int = 1, every: int = 1) -> None:
        """Each key was told to its true nearest, `times` times, and to nobody else."""
        holders = self.network.holders()
        assert len(holders) == len(keys)
        for key in keys[::every]:
            assert Counter(holders[key]) == dict.fromkeys(self.network.truly_nearest(key), times)


def test_a_hundred_thousand_keys_reach_their_true_nearest_of_a_thousand_peers_with_hardly_any_lookups() -> None:
    async def sweep() -> None:
        world = World(1000)
        keys = await world.provide(range(100_000))
        await world.sweeper.sweep()
        # A region holds 20 to 50 of the peers: there are some 35 of them.
        assert world.sweeper.lookups < 150
        assert world.sweeper.provided == 100_000
        assert sum(map(len, world.network.told.values())) == 2_000_000
        world.assert_all_right(keys, every=40)
        # Each peer is told its share in a few trains, and the page bounds each of them.
        assert max(world.network.calls.values()) < 20
        assert world.network.most_keys <= world.config.sweep_page
        assert world.network.most_flying == world.config.sweep_peers

    virtual_time.run(sweep)


@in_virtual_time
async def test_every_key_of_a_smaller_network_reaches_its_true_nearest() -> None:
    for size, k in ((3, 20), (20, 20), (60, 20), (300, 8)):
        world = World(size, k, sweep_page=100)
        keys = await world.provide(range(1000))
        await world.sweeper.sweep()
        world.assert_all_right(keys)
        assert world.sweeper.lookups <= 6 * max(size / k, 1)


@in_virtual_time
async def test_crowded_keys_are_told_to_the_peers_of_their_wider_region_too_which_is_explored_once() -> None:
    world = World(400, k=4)
    keys = await world.provide(range(300))
    world.network.crowded = (0b1011, 4)
    await world.sweeper.sweep()
    holders = world.network.holders()
    crowded = [key for key in keys if key_of(key) >> 252 == 0b1011]
    region = {each for place, each in world.network.peers.items() if place >> 252 == 0b1011}
    assert len(crowded) > 10
    for key in keys:
        nearest = set(world.network.truly_nearest(key))
        assert set(holders[key]) == (nearest | region if key in crowded else nearest)
    assert len(world.network.explored) == 1


@in_virtual_time
async def test_few_keys_take_no_more_lookups_than_there_are_keys() -> None:
    world = World(1000)
    keys = await world.provide(range(12))
    await world.sweeper.sweep()
    assert world.sweeper.lookups <= 12
    world.assert_all_right(keys)


@in_virtual_time
async def test_the_work_is_spread_evenly_over_the_interval() -> None:
    world = World(300, sweep_page=500)
    keys = await world.provide(range(2000))
    await world.store.own_provided(keys, world.now())
    counts = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sweeper.run)
        for _ in range(22):
            before = world.sweeper.provided
            await anyio.sleep(HOUR)
            counts.append(world.sweeper.provided - before)
        await anyio.sleep(HOUR)  # those whose slot had just passed when they were provided
        tasks.cancel_scope.cancel()
    assert max(counts) < 3 * 2000 / 22
    assert sum(count > 0 for count in counts) >= 12  # regions differ in size
    assert 2000 <= world.sweeper.provided < 2200
    assert set(world.network.holders()) == set(keys)


@in_virtual_time
async def test_each_key_is_provided_again_every_22_hours_and_never_left_to_expire() -> None:
    world = World(100, sweep_page=500)
    keys = await world.provide(range(400))
    longest = 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sweeper.run)
        await anyio.sleep(HOUR)
        assert 400 <= world.sweeper.provided < 440  # some had their slot a little later
        for _ in range(70):
            await anyio.sleep(HOUR)
            times = dict(await world.store.own_times(limit=1000))
            longest = max(longest, *(world.now() - times[key] for key in keys))
        tasks.cancel_scope.cancel()
    assert 21 * HOUR < longest < 24 * HOUR
    assert 400 * 4 <= world.sweeper.provided <= 400 * 5


@in_virtual_time
async def test_a_restart_provides_what_became_due_meanwhile_and_nothing_else() -> None:
    world = World(300)
    keys = await world.provide(range(1000))
    await world.store.own_provided(keys[:400], world.now() - 30 * HOUR)  # long due
    await world.store.own_provided(keys[400:], world.now() - 60)
    sweeper = world.make_sweeper()
    next_due = await sweeper.sweep()
    assert sweeper.provided >= 400
    assert set(keys[:400]) <= set(world.network.holders())
    assert len(world.network.holders()) < 400 + 1000 // 8  # some of the others' slots are near
    assert next_due > world.now()
    before = world.make_sweeper()
    await before.sweep()
    assert before.provided < 50


@in_virtual_time
async def test_keys_for_local_use_only_are_not_provided() -> None:
    world = World(30)
    keys = await world.provide(range(10))
    await world.store.own_provided(keys[:4], float("inf"))
    await world.sweeper.sweep()
    world.assert_all_right(keys[4:])


@in_virtual_time
async def test_a_node_without_keys_sleeps_until_it_is_woken() -> None:
    world = World(30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sweeper.run)
        await anyio.sleep(100 * HOUR)
        assert world.sweeper.lookups == 0
        keys = await world.provide(range(10))
        world.sweeper.wake()
        await anyio.sleep(60)
        world.assert_all_right(keys)
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_offline_it_tries_again_soon_and_then_catches_up() -> None:
    world = World(30)
    keys = await world.provide(range(10))
    world.network.offline = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sweeper.run)
        await anyio.sleep(2 * HOUR)
        tried = world.sweeper.lookups
        assert 2 * HOUR / 60 < tried < 2 * HOUR / 20
        world.network.offline = False
        await anyio.sleep(60)
        world.assert_all_right(keys)
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_keys_that_too_few_peers_took_are_tried_again_after_five_minutes() -> None:
    world = World(20)
    keys = await world.provide(range(10))
    world.network.dead = set(list(world.network.told)[:16])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.sweeper.run)
        await anyio.sleep(250)
        assert (world.sweeper.provided, world.sweeper.failed) == (0, 10)
        world.network.dead = set(list(world.network.told)[:15])  # a quarter is enough
        await anyio.sleep(300)
        assert world.sweeper.provided == 10
        assert len(world.network.holders()) == len(keys)
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_store_that_fails_ends_the_pass_and_not_the_sweeper() -> None:
    world = World(20)
    keys = await world.provide(range(10))
    times, failures = world.store.own_times, 0

    async def fail(*args: object, **kwargs: object) -> list[tuple[bytes, float]]:
        nonlocal failures
        failures += 1
        raise StorageError("the disk is gone")

    async with anyio.create_task_group() as tasks:
        world.store.own_times = fail  # type: ignore[method-assign]
        tasks.start_soon(world.sweeper.run)
        await anyio.sleep(HOUR)
        assert failures == pytest.approx(12, abs=2)
        world.store.own_times = times  # type: ignore[method-assign]
        await anyio.sleep(330)
        world.assert_all_right(keys)
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_peers_crowded_around_our_keys_cost_a_bounded_number_of_lookups_a_region() -> None:
    world = World(100, k=4, max_region_lookups=5)
    # A thousand ids that were made to lie in one corner.
    number = 1000
    while len(world.network.peers) < 400:
        number += 1
        place = world.network.key_of(peer(number))
        if place >> 250 == 0b101010:
            world.network.peers[place] = peer(number)
            world.network.told[peer(number)] = []
    keys = await world.provide(range(300))
    await world.sweeper.sweep()
    world.assert_all_right(keys)
    assert world.sweeper.lookups < 300


@in_virtual_time
async def test_a_region_that_cannot_be_looked_up_holds_up_no_other_and_is_tried_again() -> None:
    world = World(200, k=8)
    keys = await world.provide(range(400))
    nearest, broken = world.network.nearest, True

    def lies_there(key: bytes) -> bool:
        return key_of(key) >> 252 == 0b0110

    async def time_out_there(key: bytes) -> Sequence[PeerId]:
        if broken and lies_there(key):
            raise OperationTimeout("the lookup did not end")
        return await nearest(key)

    world.network.nearest = time_out_there  # type: ignore[method-assign]
    next_pass = await world.sweeper.sweep()
    assert next_pass <= world.now() + world.config.sweep_retry
    left = set(keys) - set(world.network.holders())
    assert {key for key in keys if lies_there(key)} <= left
    assert len(left) < 50  # of 25 in the corner; whose regions reach into it, or begin right behind, waits too
    broken = False
    await world.sweeper.sweep()
    world.assert_all_right(keys)


@in_virtual_time
async def test_with_hardly_any_lookups_for_a_region_every_key_is_right_all_the_same() -> None:
    for limit in (1, 2):
        world = World(200, k=8, max_region_lookups=limit, sweep_page=60)
        keys = await world.provide(range(200))
        await world.sweeper.sweep()
        world.assert_all_right(keys)
        assert world.sweeper.lookups <= 200


@in_virtual_time
async def test_a_key_removed_meanwhile_is_not_missed() -> None:
    world = World(40)
    keys = await world.provide(range(50))
    nearest = world.network.nearest
    removed: list[bytes] = []

    async def remove_first(key: bytes) -> Sequence[PeerId]:
        if len(removed) < 3:
            removed.append(key)
            await world.store.own_remove(key)
        return await nearest(key)

    world.network.nearest = remove_first  # type: ignore[method-assign]
    await world.sweeper.sweep()
    holders = world.network.holders()
    assert set(keys) - set(removed) <= set(holders)


@in_virtual_time
async def test_cancelling_a_sweep_marks_nothing_that_was_not_told() -> None:
    world = World(100, sweep_page=50)
    await world.provide(range(300))
    for pause in (0.5, 1.05, 2.5, 3.3):
        with anyio.move_on_after(pause):
            await world.sweeper.sweep()
    provided = {key for key, at in await world.store.own_times(limit=1000) if at}
    assert provided <= set(world.network.holders())
    await world.sweeper.sweep()
    assert all(at for _, at in await world.store.own_times(limit=1000))
