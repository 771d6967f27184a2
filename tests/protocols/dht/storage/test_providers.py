"""Providers, and the keys we provide ourselves, as they are kept: their ages, bounds and damage."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.errors import StorageFull
from py_p2pstack.protocols.dht.storage import ProviderStore, rows
from py_p2pstack.storage import MemoryDatastore, SqliteDatastore
from tests.peer_ids import peer
from tests.protocols.dht.storage.samples import HERE, HOUR, THERE, Clock

pytestmark = pytest.mark.anyio


class CountingDatastore(SqliteDatastore):
    """Counts the rows that are read."""

    rows_read = 0

    async def get(self, key: bytes) -> bytes | None:
        self.rows_read += 1
        return await super().get(key)

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        rows = await super().scan(prefix, after=after, limit=limit)
        self.rows_read += len(rows)
        return rows


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
async def test_a_hundred_thousand_providers_come_and_go_and_all_are_read_twice(clock: Clock, tmp_path: Path) -> None:
    """Once to be counted, once to be cleared away; not with each that comes."""
    async with CountingDatastore(tmp_path / "store.db") as datastore:
        store = ProviderStore(datastore, wall_clock=clock, max_keys=200_000)
        row = rows.encode_provider(rows.ProviderRow(clock.now, clock.now, HERE))
        for first in range(0, 100_000, 20_000):  # written as `add` writes them, without its 100,000 waits
            keys = [sha256(b"%d" % number).digest() for number in range(first, first + 20_000)]
            await datastore.write([(rows.providers_of(key) + peer(1).to_bytes(), row) for key in keys], durable=False)

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
        assert datastore.rows_read < 2.1 * 100_000


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
