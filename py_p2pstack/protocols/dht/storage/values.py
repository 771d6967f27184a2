"""The values a DHT node keeps for others, and those it publishes itself."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import anyio

from py_p2pstack.core.datastore import Change, Datastore
from py_p2pstack.errors import RecordError, StorageError, StorageFull
from py_p2pstack.locks import Lock
from py_p2pstack.protocols.dht.storage.locks import StripedLocks
from py_p2pstack.protocols.dht.storage.rows import (
    PUBLISHED,
    VALUE_HEADERS,
    VALUES,
    StoredValue,
    ValueHeader,
    decode_header,
    decode_value,
    encode_header,
    is_current,
)

_log = logging.getLogger(__name__)
_PAGE = 500  # headers read at a time, with the event loop in hand: 2 ms
_VALUES_PAGE = 32  # values read at a time: each may have 64 KiB


@dataclass(slots=True)
class _Usage:
    values: int = 0
    size: int = 0


class ValueStore:
    """Values by key, with the time they came; those of others are forgotten `max_age` seconds later.

    Bounds: `max_values` and `max_bytes` (keys and values) for what others stored, and as much again for what we
    publish, so that a flood leaves room for ourselves. When it is full, nothing that was acknowledged makes room for a
    newcomer: StorageFull. (To evict the oldest, or the farthest from us, would let a stranger who computes keys empty
    the store.)

    What we publish has no age: it stays until it is removed or replaced, for it must be republished after any downtime.
    """

    def __init__(
        self,
        datastore: Datastore,
        *,
        wall_clock: Callable[[], float],
        max_age: float = 48 * 3600.0,
        max_values: int = 100_000,
        max_bytes: int = 1024 * 1024 * 1024,
    ) -> None:
        self.max_age = max_age
        self.max_values = max_values
        self.max_bytes = max_bytes
        self._datastore = datastore
        self._wall_clock = wall_clock
        self._updates = StripedLocks()  # a caller reads, selects and writes
        self._writes = StripedLocks()  # one write reads what it replaces
        self._counting = Lock()
        self._usage: dict[bool, _Usage] | None = None

    def locked(self, key: bytes) -> AbstractAsyncContextManager[None]:
        """Hold a key while what is there is read, compared and replaced. One at a time, not to be nested."""
        return self._updates.of(key)

    async def get(self, key: bytes) -> StoredValue | None:
        """The value, unless there is none or it is too old. Raises StorageError."""
        row = await self._datastore.get(VALUES + key)
        stored = None if row is None else await self._decoded(key, row)
        return stored if stored is not None and self._counts(stored) else None

    async def put(
        self,
        key: bytes,
        value: bytes,
        *,
        published: bool = False,
        received: float | None = None,
        durable: bool = True,
    ) -> None:
        """Store a value, received now unless told otherwise.

        A value we publish stays ours when somebody sends us the very same; another value in its place is not ours.
        Returns when the value survives a power cut (`durable`), or the end of the process. Raises StorageFull,
        StorageError.
        """
        usage = await self._count()
        async with self._writes.of(key):
            old = await self._header(key)
            if old is not None and old.published and not published:
                published = await self._datastore.get(VALUES + key) == encode_header(old) + value
            new = ValueHeader(self._wall_clock() if received is None else received, published, len(value))
            self._check_room(usage[published], key, old, new)
            header = encode_header(new)
            changes: list[Change] = [(VALUES + key, header + value), (VALUE_HEADERS + key, header)]
            if published or (old is not None and old.published):
                changes.append((PUBLISHED + key, b"" if published else None))
            await self._write(key, changes, old, new, durable)

    async def remove(self, key: bytes) -> None:
        """Forget a value, published or not. Raises StorageError."""
        await self._count()
        async with self._writes.of(key):
            await self._write(key, _removal(key), await self._header(key), None, True)

    async def all(self, after: bytes | None = None, limit: int = 100) -> list[tuple[bytes, StoredValue]]:
        """The next `limit` values behind the key `after`, in order of keys; fewer are the last ones."""
        found: list[tuple[bytes, StoredValue]] = []
        start = None if after is None else VALUES + after
        while True:
            rows = await self._datastore.scan(VALUES, after=start, limit=_VALUES_PAGE)
            for row_key, row in rows:
                stored = await self._decoded(row_key[len(VALUES) :], row)
                if stored is not None and self._counts(stored):
                    found.append((row_key[len(VALUES) :], stored))
                    if len(found) == limit:
                        return found
            if len(rows) < _VALUES_PAGE:
                return found
            start = rows[-1][0]

    async def published(self, after: bytes | None = None, limit: int = 100) -> list[tuple[bytes, StoredValue]]:
        """The next `limit` values we publish behind the key `after`, in order of keys; fewer are the last ones."""
        found: list[tuple[bytes, StoredValue]] = []
        start = None if after is None else PUBLISHED + after
        while True:
            rows = await self._datastore.scan(PUBLISHED, after=start, limit=limit)
            for row_key, _ in rows:
                key = row_key[len(PUBLISHED) :]
                stored = await self.get(key)
                if stored is not None and stored.published:
                    found.append((key, stored))
                    if len(found) == limit:
                        return found
            if len(rows) < limit:
                return found
            start = rows[-1][0]

    async def collect_garbage(self) -> int:
        """Remove what is too old or cannot be read; returns how many. Pages through, letting others in between."""
        await self._count()
        removed, start, full = 0, None, True
        while full:
            async with self._writes.all():
                rows = await self._datastore.scan(VALUE_HEADERS, after=start, limit=_PAGE)
                changes: list[Change] = []
                gone: list[tuple[bytes, ValueHeader | None]] = []
                for row_key, row in rows:
                    key = row_key[len(VALUE_HEADERS) :]
                    header = _decoded_header(key, row)
                    if header is not None and self._counts(header):
                        continue
                    changes += _removal(key)
                    gone.append((key, header))
                if changes:
                    with anyio.CancelScope(shield=True):
                        await self._datastore.write(changes, durable=False)
                    for key, header in gone:
                        self._account(key, header, None)
                    removed += len(gone)
            full = len(rows) == _PAGE
            start = rows[-1][0] if rows else None
        return removed

    # --- parts ------------------------------------------------------------------------------------

    def _counts(self, row: StoredValue | ValueHeader) -> bool:
        return row.published or is_current(row.received, self._wall_clock(), self.max_age)

    async def _header(self, key: bytes) -> ValueHeader | None:
        row = await self._datastore.get(VALUE_HEADERS + key)
        return None if row is None else _decoded_header(key, row)

    async def _write(
        self, key: bytes, changes: list[Change], old: ValueHeader | None, new: ValueHeader | None, durable: bool
    ) -> None:
        """Write, and account for it; shielded, as a cancelled write could not tell which it came to."""
        self._account(key, old, new)
        try:
            with anyio.CancelScope(shield=True):
                await self._datastore.write(changes, durable=durable)
        except StorageError:
            self._account(key, new, old)
            raise

    async def _decoded(self, key: bytes, row: bytes) -> StoredValue | None:
        """Read a row; one that cannot be read is removed, unless it was replaced meanwhile."""
        try:
            return decode_value(row)
        except RecordError as fault:
            _log.warning("removing the stored value %r, which cannot be read: %s", key, fault)
        await self._count()
        async with self._writes.of(key):
            if await self._datastore.get(VALUES + key) == row:
                await self._write(key, _removal(key), await self._header(key), None, False)
        return None

    async def _count(self) -> dict[bool, _Usage]:
        """What is held, counted once, at the first need."""
        if self._usage is None:
            async with self._counting:
                if self._usage is None:
                    self._usage = await self._counted()  # nobody writes before this is known
        return self._usage

    async def _counted(self) -> dict[bool, _Usage]:
        usage = {False: _Usage(), True: _Usage()}
        start, full = None, True
        while full:
            rows = await self._datastore.scan(VALUE_HEADERS, after=start, limit=_PAGE)
            for row_key, row in rows:
                key = row_key[len(VALUE_HEADERS) :]
                header = _decoded_header(key, row)
                if header is not None:
                    usage[header.published].values += 1
                    usage[header.published].size += len(key) + header.size
            full = len(rows) == _PAGE
            start = rows[-1][0] if rows else None
        return usage

    def _check_room(self, usage: _Usage, key: bytes, old: ValueHeader | None, new: ValueHeader) -> None:
        replaced = old if old is not None and old.published == new.published else None
        values = usage.values + (replaced is None)
        size = usage.size + new.size + (len(key) if replaced is None else -replaced.size)
        if values > max(self.max_values, usage.values) or size > max(self.max_bytes, usage.size):
            raise StorageFull(
                f"no room for another value: {usage.values} of {self.max_values} values, "
                f"{usage.size} of {self.max_bytes} bytes are held"
            )

    def _account(self, key: bytes, old: ValueHeader | None, new: ValueHeader | None) -> None:
        assert self._usage is not None
        for header, sign in ((old, -1), (new, 1)):
            if header is not None:
                usage = self._usage[header.published]
                usage.values += sign
                usage.size += sign * (len(key) + header.size)


def _removal(key: bytes) -> list[Change]:
    return [(VALUES + key, None), (VALUE_HEADERS + key, None), (PUBLISHED + key, None)]


def _decoded_header(key: bytes, row: bytes) -> ValueHeader | None:
    try:
        return decode_header(row)
    except RecordError as fault:
        _log.warning("the header of the stored value %r cannot be read: %s", key, fault)
        return None
