"""A datastore in one SQLite file.

Measured: a get on the event loop's own connection takes 4-20 µs, one through a thread over 100; so reads are done right
there, and never wait for a writer (write-ahead log). Writes go through one thread at a time; those that come while it
waits for the disk (2 ms, say) share the next transaction, so a hundred writers at once cost little more than one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from py_p2pstack.core.datastore import Change
from py_p2pstack.errors import StorageError
from py_p2pstack.lifetime import Entered, OwnTasks
from py_p2pstack.storage.quarantine import open_file, suspect
from py_p2pstack.storage.sqlite_file import Damaged, FileLock, SqliteFile, storage_error

_BATCH_BYTES = 4 * 1024 * 1024  # of one transaction, or a little more
_CHANGE_COST = 64  # bytes counted for a change besides its key and value


class _Write:
    """A write that waits for its turn."""

    __slots__ = ("changes", "done", "durable", "fault", "size")

    def __init__(self, changes: Sequence[Change], durable: bool) -> None:
        self.changes = changes
        self.durable = durable
        self.size = sum(_CHANGE_COST + len(key) + len(value or b"") for key, value in changes)
        self.done = anyio.Event()
        self.fault: StorageError | None = None


class SqliteDatastore(Entered):
    """Keeps everything in the file `path`, readable by its owner alone (mode 0600 where there are modes).

    Entering it opens the file, or makes it; leaving it waits for the writes that were asked for. A durable write is
    synchronised with the disk (synchronous=FULL), another one is safe from the end of the process (NORMAL). Bounds:
    `max_bytes` of file (StorageFull beyond), `max_pending_bytes` of writes in memory (a writer waits beyond).

    A damaged file is renamed to `<name>.corrupt-<time>` with a warning; a fresh one begins with what could be read.

    Raises on entering: StorageLocked (another process has the file: `<path>.lock`), StorageTooNew, StorageReadOnly,
    StorageFull, StorageError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 8 * 1024 * 1024 * 1024,
        max_pending_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.max_pending_bytes = max_pending_bytes
        self._file: SqliteFile | None = None
        self._pending: deque[_Write] = deque()
        self._pending_bytes = 0
        self._closing = False

    def __repr__(self) -> str:
        return f"<SqliteDatastore {self.path} {'closed' if self._file is None else 'open'}>"

    # --- lifetime ---------------------------------------------------------------------------------

    async def _enter(self, stack: AsyncExitStack) -> None:
        if self._file is not None:
            raise StorageError(f"{self.path} is open already")
        self._closing = False
        self._thread = anyio.CapacityLimiter(1)
        self._entry = anyio.Lock(fast_acquire=True)  # keeps writers in the order of their calls while there is no room
        self._room = anyio.Event()
        self._work = anyio.Event()
        self._ended = anyio.Event()
        lock, self._file = await anyio.to_thread.run_sync(self._open, limiter=self._thread)
        stack.push_async_callback(self._close, lock)
        tasks = await stack.enter_async_context(OwnTasks())
        tasks.start_soon(self._write_batches)
        stack.push_async_callback(self._drain)

    def _open(self) -> tuple[FileLock, SqliteFile]:
        lock = FileLock(self.path)
        try:
            return lock, open_file(self.path, max_bytes=self.max_bytes)
        except OSError as fault:
            lock.close()
            raise storage_error(fault, self.path) from fault
        except BaseException:
            lock.close()
            raise

    async def _drain(self) -> None:
        """Take no more writes, and end the writer when it has done those it has."""
        self._closing = True
        self._work.set()
        self._room.set()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    async def _close(self, lock: FileLock) -> None:
        file, self._file = self._file, None
        assert file is not None

        def close() -> None:
            try:
                file.close()
            finally:
                lock.close()

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(close, limiter=self._thread)

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, key: bytes) -> bytes | None:
        """See `Datastore.get`."""
        try:
            return self._opened().get(key)
        except Damaged:
            self._mark_damage()
            raise

    async def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1000) -> list[tuple[bytes, bytes]]:
        """See `Datastore.scan`. A thousand small rows take 1 ms of the event loop."""
        await anyio.lowlevel.checkpoint()
        try:
            return self._opened().scan(prefix, after, limit)
        except Damaged:
            self._mark_damage()
            raise

    def _opened(self) -> SqliteFile:
        if self._file is None:
            raise StorageError(f"{self.path} is not open")
        return self._file

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        """See `Datastore.write`. A cancelled write that has its turn already takes effect."""
        write = _Write(tuple(changes), durable)
        async with self._entry:
            while self._pending and self._pending_bytes + write.size > self.max_pending_bytes and not self._closing:
                self._room = anyio.Event()
                await self._room.wait()
            if self._file is None or self._closing:
                raise StorageError(f"{self.path} is not open")
            self._pending.append(write)
            self._pending_bytes += write.size
            self._work.set()
        await write.done.wait()
        if write.fault is not None:
            raise write.fault

    async def _write_batches(self) -> None:
        """The writer: one batch after the other until the end, come what may to those who asked."""
        file = self._opened()
        try:
            with anyio.CancelScope(shield=True):
                while self._pending or not self._closing:
                    if self._pending:
                        await self._write_batch(file, self._next_batch())
                    else:
                        self._work = anyio.Event()
                        await self._work.wait()
        finally:
            self._closing = True
            self._ended.set()
            self._finish(self._pending)

    async def _write_batch(self, file: SqliteFile, batch: list[_Write]) -> None:
        self._room.set()
        asked = [(write.changes, write.durable) for write in batch]
        try:
            faults = await anyio.to_thread.run_sync(file.write, asked, limiter=self._thread)
            for write, fault in zip(batch, faults, strict=True):
                write.fault = fault
                write.done.set()
        finally:
            self._finish(batch)
        if any(isinstance(fault, Damaged) for fault in faults):
            self._mark_damage()

    def _finish(self, writes: Iterable[_Write]) -> None:
        """Whatever happened, nobody waits for ever."""
        for write in writes:
            if not write.done.is_set():
                write.fault = StorageError(f"{self.path}: the writer ended")
                write.done.set()

    def _next_batch(self) -> list[_Write]:
        batch = [self._pending.popleft()]
        size = batch[0].size
        while self._pending and size + self._pending[0].size <= _BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += batch[-1].size
        self._pending_bytes -= size
        return batch

    def _mark_damage(self) -> None:
        """See that the file is checked whole when it is opened next."""
        try:
            suspect(self.path).touch()
        except OSError:
            pass  # a disk that takes no mark takes no writes either, and says so there
