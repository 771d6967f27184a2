"""What a DHT keeps: values, providers, our own keys, the snapshot of the table; their ages, bounds and damage."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.datastore import Change, Datastore
from py_p2pstack.errors import StorageError, StorageFull
from py_p2pstack.protocols.dht.storage import ProviderStore, StoredValue, TableSnapshot, ValueStore, rows
from py_p2pstack.storage import MemoryDatastore, SqliteDatastore
from tests.peer_ids import peer

pytestmark = pytest.mark.anyio

HOUR = 3600.0
HERE = (Multiaddr.parse("/ip4/192.0.2.1/tcp/4001"),)
THERE = (Multiaddr.parse("/ip4/192.0.2.2/tcp/4001"),)


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1.7e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def datastore(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Datastore]:
    if request.param == "memory":
        yield MemoryDatastore()
        return
    async with SqliteDatastore(tmp_path / "store.db") as opened:
        yield opened


# --- values ---------------------------------------------------------------------------------------


async def test_a_value_is_kept_with_the_time_it_came(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    assert await store.get(b"/v/a") is None
    await store.put(b"/v/a", b"1")
    await store.put(b"/v/b", b"2", published=True, received=clock.now - 5)
    assert await store.get(b"/v/a") == StoredValue(b"1", clock.now, published=False)
    assert await store.get(b"/v/b") == StoredValue(b"2", clock.now - 5, published=True)
    await store.remove(b"/v/a")
    await store.remove(b"/v/never there")
    assert await store.get(b"/v/a") is None


async def test_values_of_others_are_forgotten_after_48_hours(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    await store.put(b"/v/theirs", b"1")
    await store.put(b"/v/ours", b"2", published=True)
    clock.now += 48 * HOUR
    assert await store.get(b"/v/theirs") is not None
    await store.put(b"/v/fresh", b"3")
    clock.now += 1
    assert await store.get(b"/v/theirs") is None
    assert [key for key, _ in await store.all()] == [b"/v/fresh", b"/v/ours"]
    assert await store.collect_garbage() == 1
    assert await store.collect_garbage() == 0
    assert len(await datastore.scan(b"")) == 5  # value and header of two, the mark of the published one


async def test_values_from_a_clock_far_ahead_are_forgotten(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    await store.put(b"/v/a", b"1", received=clock.now + 1000 * HOUR)
    assert await store.get(b"/v/a") is None
    assert await store.collect_garbage() == 1


async def test_what_we_publish_is_listed_whatever_its_age(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    for number in range(25):
        await store.put(b"/v/%02d" % number, b"", published=number % 2 == 0)
    clock.now += 1000 * HOUR
    pages = [await store.published(limit=5)]
    while len(pages[-1]) == 5:
        pages.append(await store.published(after=pages[-1][-1][0], limit=5))
    assert [key for page in pages for key, _ in page] == [b"/v/%02d" % number for number in range(0, 25, 2)]
    await store.remove(b"/v/00")
    assert len(await store.published()) == 12


async def test_a_value_stays_ours_when_somebody_sends_it_back(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    await store.put(b"/v/a", b"1", published=True)
    clock.now += 10
    await store.put(b"/v/a", b"1")
    assert await store.get(b"/v/a") == StoredValue(b"1", clock.now, published=True)
    await store.put(b"/v/a", b"2")  # another one is not ours
    assert await store.get(b"/v/a") == StoredValue(b"2", clock.now, published=False)
    assert await store.published() == []


async def test_values_page_in_order(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    for number in range(100):
        await store.put(b"/v/%03d" % number, b"%d" % number, durable=False)
    first = await store.all(limit=70)
    rest = await store.all(after=first[-1][0], limit=70)
    assert [key for key, _ in first + rest] == [b"/v/%03d" % number for number in range(100)]


async def test_the_number_and_size_of_values_are_bounded(datastore: Datastore, clock: Clock) -> None:
    for _ in range(2):  # a restarted node counts what it finds
        store = ValueStore(datastore, wall_clock=clock, max_values=3, max_bytes=100)
        for number in range(3):
            await store.put(b"/v/%d" % number, b"x" * 20)
        with pytest.raises(StorageFull, match="3 of 3 values"):
            await store.put(b"/v/3", b"")
        await store.put(b"/v/0", b"x" * 48)  # 2 * 24 + 4 + 48 = 100
        with pytest.raises(StorageFull, match="100 of 100 bytes"):
            await store.put(b"/v/0", b"x" * 49)
        assert (await store.all())[0][1].value == b"x" * 48
    await store.put(b"/v/ours", b"x" * 60, published=True)  # a flood leaves room for ourselves
    await store.remove(b"/v/1")
    await store.put(b"/v/3", b"x" * 20)
    clock.now += 49 * HOUR
    assert await store.collect_garbage() == 3
    await store.put(b"/v/4", b"x" * 90)


async def test_a_smaller_bound_after_a_restart_still_lets_values_shrink(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    for number in range(5):
        await store.put(b"/v/%d" % number, b"x" * 20)
    store = ValueStore(datastore, wall_clock=clock, max_values=2, max_bytes=50)
    await store.put(b"/v/0", b"x" * 10)
    with pytest.raises(StorageFull):
        await store.put(b"/v/5", b"")


async def test_read_select_write_is_atomic_for_a_key(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)

    async def increment() -> None:
        async with store.locked(b"/v/n"):
            found = await store.get(b"/v/n")
            await store.put(b"/v/n", b"%d" % (int(found.value) + 1 if found else 1), durable=False)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(increment)
    found = await store.get(b"/v/n")
    assert found is not None
    assert found.value == b"50"


async def test_garbage_is_collected_beside_writers(datastore: Datastore, clock: Clock) -> None:
    store = ValueStore(datastore, wall_clock=clock)
    for number in range(300):
        await store.put(b"/v/%03d" % number, b"old", durable=False)
    clock.now += 49 * HOUR

    async def renew(number: int) -> None:
        await store.put(b"/v/%03d" % number, b"new", durable=False)

    async with anyio.create_task_group() as tasks:
        for number in range(0, 300, 2):
            tasks.start_soon(renew, number)
        tasks.start_soon(store.collect_garbage)
    assert {key for key, _ in await store.all(limit=1000)} == {b"/v/%03d" % number for number in range(0, 300, 2)}


class Failing(MemoryDatastore):
    """Takes no writes while `broken`."""

    broken = False

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        await anyio.lowlevel.checkpoint()
        if self.broken:
            raise StorageError("the disk is on fire")
        await super().write(changes, durable=durable)


async def test_failed_and_cancelled_writes_do_not_upset_the_count(clock: Clock) -> None:
    datastore = Failing()
    store = ValueStore(datastore, wall_clock=clock, max_values=2)
    providers = ProviderStore(datastore, wall_clock=clock, max_keys=1, max_providers_per_key=2)
    for _ in range(5):
        datastore.broken = True
        with pytest.raises(StorageError):
            await store.put(b"/v/a", b"1")
        with pytest.raises(StorageError):
            await store.remove(b"/v/a")
        with pytest.raises(StorageError):
            await providers.add(b"key", peer(1), HERE)
        datastore.broken = False
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.put(b"/v/b", b"1")
    await store.put(b"/v/a", b"1")
    await store.put(b"/v/b", b"1")
    with pytest.raises(StorageFull):
        await store.put(b"/v/c", b"1")
    await providers.add(b"key", peer(1), HERE)
    await providers.add(b"key", peer(2), HERE)


async def test_a_broken_value_is_skipped_removed_and_logged(
    datastore: Datastore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = ValueStore(datastore, wall_clock=clock, max_values=2)
    await store.put(b"/v/a", b"1")
    await store.put(b"/v/b", b"2")
    await datastore.write([(rows.VALUES + b"/v/a", b"\x09nonsense")])
    with caplog.at_level(logging.WARNING):
        assert [key for key, _ in await store.all()] == [b"/v/b"]
    assert "cannot be read" in caplog.text
    assert await store.get(b"/v/a") is None
    assert await datastore.get(rows.VALUES + b"/v/a") is None
    await store.put(b"/v/c", b"3")  # it does not count any more
    await datastore.write([(rows.VALUE_HEADERS + b"/v/c", b"nonsense")])
    assert await store.collect_garbage() == 1
    assert await store.get(b"/v/c") is None


# --- providers ------------------------------------------------------------------------------------


async def test_providers_are_kept_with_their_addresses(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock)
    await store.add(b"key", peer(1), HERE)
    await store.add(b"key", peer(2), ())
    await store.add(b"key2", peer(3), THERE)
    assert sorted(await store.get(b"key"), key=lambda each: each.peer_id) == [
        PeerInfo(peer(1), HERE),
        PeerInfo(peer(2), ()),
    ]
    await store.add(b"key", peer(1), THERE)
    assert PeerInfo(peer(1), THERE) in await store.get(b"key")
    await store.add(b"key", peer(1), ())  # it keeps those it had
    assert PeerInfo(peer(1), THERE) in await store.get(b"key")
    assert await store.get(b"nobody") == []
    assert await store.get(b"") == []
    for key in (b"", b"x" * 81):
        with pytest.raises(ValueError, match=r"1\.\.80 bytes"):
            await store.add(key, peer(1), HERE)


async def test_providers_live_for_48_hours_their_addresses_for_24(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock)
    await store.add(b"key", peer(1), HERE)
    clock.now += 24 * HOUR
    assert await store.get(b"key") == [PeerInfo(peer(1), HERE)]
    clock.now += 1
    assert await store.get(b"key") == [PeerInfo(peer(1), ())]
    await store.add(b"key", peer(1), ())  # renewed, but its addresses are as old as before
    assert await store.get(b"key") == [PeerInfo(peer(1), ())]
    clock.now += 48 * HOUR
    assert await store.get(b"key") == [PeerInfo(peer(1), ())]
    clock.now += 1
    assert await store.get(b"key") == []
    assert await store.collect_garbage() == 1
    assert await datastore.scan(b"") == []


async def test_a_flood_drives_out_no_provider(datastore: Datastore, clock: Clock) -> None:
    for _ in range(2):  # a restarted node counts what it finds
        store = ProviderStore(datastore, wall_clock=clock, max_providers_per_key=3)
        for number in range(3):
            await store.add(b"key", peer(number), HERE)
            clock.now += 1
        for number in range(100, 200):
            with pytest.raises(StorageFull):
                await store.add(b"key", peer(number), HERE)
        await store.add(b"key", peer(1), THERE)  # those who are there may renew
        assert {each.peer_id for each in await store.get(b"key")} == {peer(0), peer(1), peer(2)}
    # Who does not renew makes room.
    clock.now += 48 * HOUR - 2
    await store.add(b"key", peer(2), THERE)
    clock.now += 3
    await store.add(b"key", peer(4), HERE)
    assert {each.peer_id for each in await store.get(b"key")} == {peer(2), peer(4)}


async def test_refusals_of_a_flood_do_not_read_the_providers_again(clock: Clock) -> None:
    datastore = Counting()
    store = ProviderStore(datastore, wall_clock=clock, max_providers_per_key=3)
    for number in range(3):
        await store.add(b"key", peer(number), HERE)
    scans = datastore.scans
    for number in range(100, 200):
        with pytest.raises(StorageFull):
            await store.add(b"key", peer(number), HERE)
    assert datastore.scans <= scans + 1


class Counting(MemoryDatastore):
    """Counts the scans."""

    scans = 0

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        self.scans += 1
        return await super().scan(prefix, after=after, limit=limit)


async def test_the_number_of_provided_keys_is_bounded(datastore: Datastore, clock: Clock) -> None:
    for _ in range(2):
        store = ProviderStore(datastore, wall_clock=clock, max_keys=2)
        for key in (b"a", b"b"):
            await store.add(key, peer(1), HERE)
        with pytest.raises(StorageFull, match="2 keys"):
            await store.add(b"c", peer(1), HERE)
        await store.add(b"a", peer(2), HERE)
    clock.now += 49 * HOUR
    await store.collect_garbage()
    await store.add(b"c", peer(1), HERE)


async def test_providers_asked_for_again_and_again_are_read_once(clock: Clock) -> None:
    datastore = Counting()
    store = ProviderStore(datastore, wall_clock=clock)
    await store.add(b"key", peer(1), HERE)
    await store.get(b"key")
    scans = datastore.scans
    await store.add(b"key", peer(2), HERE)
    await store.add(b"key", peer(1), THERE)
    clock.now += 25 * HOUR
    await store.add(b"key", peer(3), HERE)
    assert sorted(await store.get(b"key"), key=lambda each: each.peer_id) == [
        PeerInfo(peer(1), ()),
        PeerInfo(peer(2), ()),
        PeerInfo(peer(3), HERE),
    ]
    assert datastore.scans == scans
    clock.now += 24 * HOUR
    assert [each.peer_id for each in await store.get(b"key")] == [peer(3)]
    await store.collect_garbage()
    assert [each.peer_id for each in await store.get(b"key")] == [peer(3)]
    for number in range(100):  # what is remembered is bounded
        await store.get(b"%d" % number)
    scans = datastore.scans
    assert [each.peer_id for each in await store.get(b"key")] == [peer(3)]
    assert datastore.scans == scans + 1


async def test_broken_providers_are_skipped_removed_and_logged(
    datastore: Datastore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store = ProviderStore(datastore, wall_clock=clock, max_providers_per_key=2)
    await store.add(b"key", peer(1), HERE)
    await store.add(b"key", peer(2), HERE)
    await datastore.write([(rows.providers_of(b"key") + peer(1).to_bytes(), b"nonsense")])
    with caplog.at_level(logging.WARNING):
        assert [each.peer_id for each in await store.get(b"key")] == [peer(2)]
    assert "cannot be read" in caplog.text
    await store.add(b"key", peer(3), HERE)  # there is room again
    await datastore.write([(rows.PROVIDERS + b"\x50too short", b""), (rows.providers_of(b"key") + b"no peer", b"")])
    assert await store.collect_garbage() == 2
    assert {each.peer_id for each in await store.get(b"key")} == {peer(2), peer(3)}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_hundred_thousand_providers_come_and_go_in_bounded_time(clock: Clock, tmp_path: Path) -> None:
    async with SqliteDatastore(tmp_path / "store.db") as datastore:
        store = ProviderStore(datastore, wall_clock=clock, max_keys=200_000)
        row = rows.encode_provider(rows.ProviderRow(clock.now, clock.now, HERE))
        for first in range(0, 100_000, 20_000):  # written as `add` writes them, without its 100,000 waits
            keys = [sha256(b"%d" % number).digest() for number in range(first, first + 20_000)]
            await datastore.write([(rows.providers_of(key) + peer(1).to_bytes(), row) for key in keys], durable=False)
        start = time.process_time()

        async def add(first: int) -> None:
            for number in range(first, first + 20):
                await store.add(sha256(b"%d" % number).digest(), peer(2), HERE)

        async with anyio.create_task_group() as tasks:
            for first in range(0, 2000, 20):
                tasks.start_soon(add, first)
        clock.now += 49 * HOUR
        await store.add(b"fresh", peer(1), HERE)
        assert await store.collect_garbage() == 102_000
        assert [each.peer_id for each in await store.get(b"fresh")] == [peer(1)]
        assert time.process_time() - start < 30


# --- our own keys ---------------------------------------------------------------------------------


async def test_our_own_keys_are_in_the_order_of_the_key_space(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock)
    keys = [b"%d" % number for number in range(100)]
    await store.own_add(*keys)
    await store.own_add(keys[0])
    expected = sorted(keys, key=lambda key: sha256(key).digest())
    assert await store.own() == expected
    first = await store.own(limit=60)
    assert first + await store.own(after=first[-1], limit=60) == expected
    await store.own_remove(keys[0], b"not ours")
    assert await store.own() == [key for key in expected if key != keys[0]]
    with pytest.raises(ValueError, match="bytes"):
        await store.own_add(b"x" * 81)


async def test_the_time_last_provided_survives(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock)
    await store.own_add(b"a", b"b", b"c")
    await store.own_provided([b"a", b"b", b"not ours"], clock.now)
    await store.own_add(b"a")
    store = ProviderStore(datastore, wall_clock=clock)
    assert dict(await store.own_times()) == {b"a": clock.now, b"b": clock.now, b"c": 0.0}
    assert await store.own_time(b"a") == clock.now
    assert await store.own_time(b"c") == 0.0
    assert await store.own_time(b"not ours") is None


async def test_our_own_keys_are_bounded(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock, max_own_keys=3)
    await store.own_add(b"a", b"b")
    store = ProviderStore(datastore, wall_clock=clock, max_own_keys=3)
    with pytest.raises(StorageFull):
        await store.own_add(b"c", b"d")
    await store.own_add(b"c", b"a")
    await store.own_remove(b"a")
    await store.own_add(b"d")


async def test_broken_keys_of_our_own_are_skipped_and_removed(datastore: Datastore, clock: Clock) -> None:
    store = ProviderStore(datastore, wall_clock=clock, max_own_keys=3)
    await store.own_add(b"a", b"b", b"c")
    await datastore.write([(rows.own_row(b"a"), b"nonsense")])
    assert set(await store.own()) == {b"b", b"c"}
    await store.own_add(b"d")
    await datastore.write([(rows.own_row(b"d"), b"nonsense")])
    assert await store.own_time(b"d") == 0.0  # to be provided again, rather than forgotten


# --- the snapshot ---------------------------------------------------------------------------------


async def test_a_snapshot_is_loaded_as_it_was_saved(datastore: Datastore) -> None:
    snapshot = TableSnapshot(datastore)
    assert await snapshot.load() == []
    table = [PeerInfo(peer(1), HERE + THERE), PeerInfo(peer(2), ())]
    await snapshot.save([PeerInfo(peer(9), ())])
    await snapshot.save(table)
    assert await TableSnapshot(datastore).load() == table


async def test_a_broken_snapshot_is_none(datastore: Datastore, caplog: pytest.LogCaptureFixture) -> None:
    await datastore.write([(rows.SNAPSHOT, b"\x01\x22nonsense")])
    with caplog.at_level(logging.WARNING):
        assert await TableSnapshot(datastore).load() == []
    assert "cannot be read" in caplog.text
    assert await datastore.scan(b"") == []
