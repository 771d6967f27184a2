"""Who provides which key, as others told us; and the keys we provide ourselves."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import anyio

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.datastore import Change, Datastore
from py_p2pstack.errors import RecordError, StorageError, StorageFull
from py_p2pstack.identity import PeerId
from py_p2pstack.locks import Lock
from py_p2pstack.protocols.dht.storage.locks import StripedLocks
from py_p2pstack.protocols.dht.storage.rows import (
    MAX_ADDRESSES,
    OWN,
    PROVIDERS,
    ProviderRow,
    decode_own,
    decode_peer,
    decode_provider,
    encode_own,
    encode_provider,
    is_current,
    own_row,
    providers_of,
    split_own,
    split_provider,
)

MAX_KEY = 80  # bytes (go-libp2p-kad-dht: handleAddProvider)
_log = logging.getLogger(__name__)
_READ_KEYS = 64  # keys whose providers are remembered: 8 MB at worst
_PAGE = 250  # rows read at a time, with the event loop in hand: 4 ms


class ProviderStore:
    """Providers by key, forgotten `max_age` seconds after they last told us, their addresses after `address_age`.

    Bounds: `max_keys` keys, `max_providers_per_key` providers of one key, `max_own_keys` keys of our own. When a key is
    full, its providers keep their places as long as they renew them, and a newcomer is refused (StorageFull): were the
    oldest evicted, or those farthest from the key, whoever makes up peer ids could drive the honest ones out. For the
    same reason a new key is refused when there are `max_keys`.
    """

    def __init__(
        self,
        datastore: Datastore,
        *,
        wall_clock: Callable[[], float],
        max_age: float = 48 * 3600.0,
        address_age: float = 24 * 3600.0,
        max_keys: int = 100_000,
        max_providers_per_key: int = 256,
        max_own_keys: int = 1_000_000,
    ) -> None:
        self.max_age = max_age
        self.address_age = address_age
        self.max_keys = max_keys
        self.max_providers_per_key = max_providers_per_key
        self.max_own_keys = max_own_keys
        self._datastore = datastore
        self._wall_clock = wall_clock
        self._locks = StripedLocks()
        self._counting = Lock()
        self._providers: dict[bytes, int] | None = None  # by key
        self._full: dict[
            bytes, float
        ] = {}  # full keys, with the time before which none of their providers gets too old
        self._read: OrderedDict[bytes, dict[PeerId, ProviderRow]] = OrderedDict()  # keys asked for lately
        self._own: int | None = None
        self._own_lock = Lock()

    # --- providers --------------------------------------------------------------------------------

    async def add(self, key: bytes, peer: PeerId, addresses: Sequence[Multiaddr]) -> None:
        """Note, or renew, that `peer` provides `key`; without addresses it keeps those it had. Survives a kill -9.

        Raises ValueError (a key of 1..MAX_KEY bytes is needed), StorageFull, StorageError.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise ValueError(f"a provided key has 1..{MAX_KEY} bytes, this one {len(key)}")
        counts = await self._count()
        row_key = providers_of(key) + peer.to_bytes()
        async with self._locks.of(key):
            now = self._wall_clock()
            old = await self._datastore.get(row_key)
            new = old is None
            if new:
                await self._make_room(key, counts, now)
                counts[key] = counts.get(key, 0) + 1
            row = ProviderRow(now, now, tuple(addresses[:MAX_ADDRESSES]))
            if old is not None and not addresses:
                row = _with_addresses_of(old, row)
            try:
                with anyio.CancelScope(shield=True):
                    await self._datastore.write([(row_key, encode_provider(row))], durable=False)
            except StorageError:
                if new:
                    self._discount(key)
                raise
            if key in self._read:
                self._read[key][peer] = row

    async def get(self, key: bytes) -> list[PeerInfo]:
        """The providers of a key with the addresses that are not too old, in no telling order. Raises StorageError."""
        if not 0 < len(key) <= MAX_KEY:
            return []
        providers = self._read.get(key)
        if providers is None:
            providers = await self._read_providers(key)
        else:
            self._read.move_to_end(key)
        now = self._wall_clock()
        found = []
        for peer, provider in providers.items():
            if is_current(provider.added, now, self.max_age):
                fresh = is_current(provider.addresses_added, now, self.address_age)
                found.append(PeerInfo(peer, provider.addresses if fresh else ()))
        return found

    async def collect_garbage(self) -> int:
        """Remove what is too old or cannot be read; returns how many. Pages through, letting others in between."""
        await self._count()
        removed, start, full = 0, None, True
        while full:
            async with self._locks.all():
                rows = await self._datastore.scan(PROVIDERS, after=start, limit=_PAGE)
                removed += await self._remove(self._dead(rows, self._wall_clock()))
            full = len(rows) == _PAGE
            start = rows[-1][0] if rows else None
        return removed

    # --- our own keys -----------------------------------------------------------------------------

    async def own_add(self, *keys: bytes) -> None:
        """Note that we provide these keys; survives a power cut. A key that is there keeps its time.

        Raises ValueError, StorageFull, StorageError.
        """
        for key in keys:
            if not 0 < len(key) <= MAX_KEY:
                raise ValueError(f"a provided key has 1..{MAX_KEY} bytes, this one {len(key)}")
        async with self._own_lock:
            count = await self._count_own()
            new = [row for row in dict.fromkeys(map(own_row, keys)) if await self._datastore.get(row) is None]
            if new and count + len(new) > self.max_own_keys:
                raise StorageFull(f"{count} of {self.max_own_keys} keys of our own are held; {len(new)} are too many")
            with anyio.CancelScope(shield=True):
                await self._datastore.write([(row, encode_own(0.0)) for row in new])
            self._own = count + len(new)

    async def own_remove(self, *keys: bytes) -> None:
        """Note that we provide these keys no longer. Raises StorageError."""
        async with self._own_lock:
            count = await self._count_own()
            held = [row for row in dict.fromkeys(map(own_row, keys)) if await self._datastore.get(row) is not None]
            with anyio.CancelScope(shield=True):
                await self._datastore.write([(row, None) for row in held])
            self._own = count - len(held)

    async def own(self, after: bytes | None = None, limit: int = 1000) -> list[bytes]:
        """The next `limit` keys we provide behind the key `after`, by the SHA-256 of the key; fewer are the last."""
        return [key for key, _ in await self.own_times(after, limit)]

    async def own_times(self, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, float]]:
        """Like `own`, with the unix seconds each was last provided at (0: never)."""
        found: list[tuple[bytes, float]] = []
        start = None if after is None else own_row(after)
        while True:
            rows = await self._datastore.scan(OWN, after=start, limit=limit)
            for row_key, row in rows:
                try:
                    found.append((split_own(row_key), decode_own(row)))
                except RecordError as fault:
                    _log.warning("removing a key of our own that cannot be read: %s", fault)
                    async with self._own_lock:
                        count = await self._count_own()
                        await self._datastore.write([(row_key, None)], durable=False)
                        self._own = count - 1
            if len(rows) < limit or len(found) >= limit:
                return found[:limit]
            start = rows[-1][0]

    async def own_time(self, key: bytes) -> float | None:
        """When we last provided a key of ours, in unix seconds (0: never); None if it is none. Raises StorageError."""
        row = await self._datastore.get(own_row(key))
        try:
            return None if row is None else decode_own(row)
        except RecordError:
            return 0.0

    async def own_provided(self, keys: Iterable[bytes], at: float) -> None:
        """Note when keys were provided (unix seconds); those that are not ours are passed over. Raises StorageError."""
        async with self._own_lock:
            rows = [row for row in dict.fromkeys(map(own_row, keys)) if await self._datastore.get(row) is not None]
            await self._datastore.write([(row, encode_own(at)) for row in rows], durable=False)

    # --- parts ------------------------------------------------------------------------------------

    async def _make_room(self, key: bytes, counts: dict[bytes, int], now: float) -> None:
        """See that one more provider of `key` fits: those too old go. Raises StorageFull."""
        held = counts.get(key, 0)
        if not held and len(counts) >= self.max_keys:
            raise StorageFull(f"providers of {self.max_keys} keys are held already")
        if held < self.max_providers_per_key:
            return
        if now >= self._full.get(
            key, 0.0
        ):  # not at each refusal: a flood would make us read all of them again and again
            rows = await self._datastore.scan(providers_of(key), limit=held)
            if await self._remove(self._dead(rows, now)):
                return
            self._full[key] = self.max_age + min((decode_provider(row).added for _, row in rows), default=now)
        raise StorageFull(f"{held} providers of this key are held already")

    def _dead(self, rows: Sequence[tuple[bytes, bytes]], now: float) -> list[tuple[bytes, bytes]]:
        """Those too old or broken, with the key they are counted under."""
        dead = []
        for row_key, row in rows:
            try:
                key, peer = split_provider(row_key)
            except RecordError:
                dead.append((row_key, b""))
                continue
            try:
                decode_peer(peer)
                alive = is_current(decode_provider(row).added, now, self.max_age)
            except RecordError as fault:
                _log.warning("removing a provider that cannot be read: %s", fault)
                alive = False
            if not alive:
                dead.append((row_key, key))
        return dead

    async def _remove(self, dead: Sequence[tuple[bytes, bytes]]) -> int:
        """Remove rows whose keys are locked; returns how many."""
        if dead:
            changes: list[Change] = [(row_key, None) for row_key, _ in dead]
            with anyio.CancelScope(shield=True):
                await self._datastore.write(changes, durable=False)
            for _, key in dead:
                self._discount(key)
        return len(dead)

    async def _read_providers(self, key: bytes) -> dict[PeerId, ProviderRow]:
        """Read all providers of a key, however old; remembered, as to read hundreds takes milliseconds."""
        await self._count()
        prefix = providers_of(key)
        providers: dict[PeerId, ProviderRow] = {}
        broken: list[tuple[bytes, bytes]] = []
        async with self._locks.of(key):
            for row_key, row in await self._datastore.scan(prefix, limit=self.max_providers_per_key):
                try:
                    providers[decode_peer(row_key[len(prefix) :])] = decode_provider(row)
                except RecordError as fault:
                    _log.warning("removing a provider that cannot be read: %s", fault)
                    broken.append((row_key, key))
            await self._remove(broken)
            self._read[key] = providers
            if len(self._read) > _READ_KEYS:
                self._read.popitem(last=False)
        return providers

    def _discount(self, key: bytes) -> None:
        assert self._providers is not None
        self._full.pop(key, None)
        self._read.pop(key, None)
        left = self._providers.get(key, 0) - 1
        if left > 0:
            self._providers[key] = left
        else:
            self._providers.pop(key, None)

    async def _count(self) -> dict[bytes, int]:
        """How many providers each key has, counted once, at the first need, before anything is written."""
        if self._providers is None:
            async with self._counting:
                if self._providers is None:
                    self._providers = await self._counted()
        return self._providers

    async def _counted(self) -> dict[bytes, int]:
        counts: dict[bytes, int] = {}
        start, full = None, True
        while full:
            rows = await self._datastore.scan(PROVIDERS, after=start, limit=_PAGE)
            for row_key, _ in rows:
                try:
                    key, _peer = split_provider(row_key)
                except RecordError:
                    continue
                counts[key] = counts.get(key, 0) + 1
            full = len(rows) == _PAGE
            start = rows[-1][0] if rows else None
        return counts

    async def _count_own(self) -> int:
        if self._own is None:
            count, start, full = 0, None, True
            while full:
                rows = await self._datastore.scan(OWN, after=start, limit=_PAGE)
                count += len(rows)
                full = len(rows) == _PAGE
                start = rows[-1][0] if rows else None
            self._own = count
        return self._own


def _with_addresses_of(old: bytes, row: ProviderRow) -> ProviderRow:
    """The row with the addresses of an older one, if that can be read."""
    try:
        before = decode_provider(old)
    except RecordError:
        return row
    return ProviderRow(row.added, before.addresses_added, before.addresses)
