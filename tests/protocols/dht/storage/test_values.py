"""Values as they are kept: their ages, bounds, damage, and who changes them at the same time."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio
import pytest

from py_p2pstack.core.datastore import Change, Datastore
from py_p2pstack.errors import StorageError, StorageFull
from py_p2pstack.protocols.dht.storage import ProviderStore, StoredValue, ValueStore, rows
from py_p2pstack.storage import MemoryDatastore
from tests.peer_ids import peer
from tests.protocols.dht.storage.samples import HERE, HOUR, Clock

pytestmark = pytest.mark.anyio


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
