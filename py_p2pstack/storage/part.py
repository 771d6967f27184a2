"""A part of a datastore: the keys that begin with a prefix, seen without it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from py_p2pstack.core.datastore import Change, Datastore


class DatastorePart:
    """One user's room in a datastore that several share; the owner of the whole enters and closes that.

    No prefix in use may be the beginning of another one: end each with a slash.
    """

    def __init__(self, whole: Datastore, prefix: bytes) -> None:
        self.whole = whole
        self.prefix = prefix

    def __repr__(self) -> str:
        return f"<DatastorePart {self.prefix!r} of {self.whole!r}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def get(self, key: bytes) -> bytes | None:
        """See `Datastore.get`."""
        return await self.whole.get(self.prefix + key)

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        """See `Datastore.write`."""
        await self.whole.write([(self.prefix + key, value) for key, value in changes], durable=durable)

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """See `Datastore.scan`."""
        start = None if after is None else self.prefix + after
        rows = await self.whole.scan(self.prefix + prefix, after=start, limit=limit)
        return [(key[len(self.prefix) :], value) for key, value in rows]
