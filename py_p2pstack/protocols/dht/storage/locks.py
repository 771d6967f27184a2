"""Locks for many keys at the price of a few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from zlib import crc32

from py_p2pstack.locks import Lock

_STRIPES = 64


class StripedLocks:
    """One lock for each key, or nearly: keys share 64, so a key may wait for a stranger, but never takes memory."""

    def __init__(self) -> None:
        self._locks = [Lock() for _ in range(_STRIPES)]

    def of(self, key: bytes) -> Lock:
        """The lock of a key; hold only one at a time."""
        return self._locks[crc32(key) % _STRIPES]  # not hash(), which differs between processes: runs are repeated

    @asynccontextmanager
    async def all(self) -> AsyncIterator[None]:
        """Hold every key: nothing is being read and written then."""
        held: list[Lock] = []
        try:
            for lock in self._locks:
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()
