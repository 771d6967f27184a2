"""The datastore: an ordered map of bytes to bytes that outlives the process, or pretends to."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

Change = tuple[bytes, bytes | None]
"""A key with its new value; None deletes it."""


class Datastore(Protocol):
    """Keys in order, each with a value; entered once, used within that block.

    Everything here raises StorageError: StorageFull and StorageReadOnly where that is the cause.
    """

    async def get(self, key: bytes) -> bytes | None:
        """The value of `key`, as the last write that returned left it. May return without a checkpoint."""
        ...

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        """Make all changes or none, and return when they are as safe as asked.

        A durable write survives a power cut, another one survives the end of the process. Writes take effect in the
        order of their calls; one that is cancelled takes effect whole or not at all. Where a key comes twice, its last
        change counts.
        """
        ...

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """At most `limit` keys that begin with `prefix`, those behind `after` (a whole key), in order, with values.

        Each call sees one moment; fewer than `limit` rows are the last ones.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
