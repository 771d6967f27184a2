"""A datastore in memory, for nodes that may forget, and for tests."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio.lowlevel

from py_p2pstack.core.datastore import Change
from py_p2pstack.errors import StorageFull


class MemoryDatastore:
    """Keeps everything in memory, at most `max_bytes` of keys and values; needs not be entered, and outlives its block.

    So a test hands the same one to a node and to that node's next life.
    """

    def __init__(self, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes of keys and values held."""
        self._rows: dict[bytes, bytes] = {}
        self._order: list[bytes] = []

    def __repr__(self) -> str:
        return f"<MemoryDatastore {len(self._rows)} rows, {self.size} bytes>"

    def __len__(self) -> int:
        return len(self._rows)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def get(self, key: bytes) -> bytes | None:
        """See `Datastore.get`."""
        return self._rows.get(key)

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        """See `Datastore.write`. Raises StorageFull."""
        last = dict(changes)
        size = self.size
        for key, value in last.items():
            old = self._rows.get(key)
            size -= 0 if old is None else len(key) + len(old)
            size += 0 if value is None else len(key) + len(value)
        if size > max(self.max_bytes, self.size):
            raise StorageFull(f"{size} bytes asked for; the limit is {self.max_bytes}")
        for key, value in last.items():
            if value is not None:
                if key not in self._rows:
                    insort(self._order, key)
                self._rows[key] = bytes(value)
            elif self._rows.pop(key, None) is not None:
                del self._order[bisect_left(self._order, key)]
        self.size = size

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """See `Datastore.scan`."""
        await anyio.lowlevel.checkpoint()
        start = bisect_left(self._order, prefix)
        if after is not None:
            start = max(start, bisect_right(self._order, after))
        found = []
        for key in self._order[start : start + limit]:
            if not key.startswith(prefix):
                break
            found.append((key, self._rows[key]))
        return found
