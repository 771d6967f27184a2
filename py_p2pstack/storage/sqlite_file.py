"""An SQLite file with one table of keys and values: opening, locking, its schema, reading, and writing in batches.

Nothing here waits but for the disk. One thread at a time uses the writing connection, the event loop's the reading one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from py_p2pstack.core.datastore import Change
from py_p2pstack.errors import StorageError, StorageFull, StorageLocked, StorageReadOnly, StorageTooNew

APPLICATION_ID = 0x70327073  # "p2ps": tells our files from those of other programs
MIGRATIONS = ("CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",)
"""From each schema version to the next; the number of them is the version written (PRAGMA user_version)."""

_BUSY_TIMEOUT = 5.0  # seconds a writer waits for somebody who looks into the file with another program
_READ_TIMEOUT = 0.05  # seconds a reader does, on the event loop; with a write-ahead log it never should
_PAGE_SIZE = 4096
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


class Damaged(StorageError):
    """The file, or a part of it, is no SQLite database."""


def storage_error(fault: sqlite3.Error | OSError, path: Path) -> StorageError:
    """What a fault of the database or of the operating system means for a datastore."""
    if isinstance(fault, OSError):
        kind = StorageFull if fault.errno in _FULL else StorageReadOnly if fault.errno in _READ_ONLY else StorageError
        return kind(f"{path}: {fault.strerror or fault}")
    kinds: dict[int, type[StorageError]] = {
        sqlite3.SQLITE_FULL: StorageFull,
        sqlite3.SQLITE_READONLY: StorageReadOnly,
        sqlite3.SQLITE_PERM: StorageReadOnly,
        sqlite3.SQLITE_BUSY: StorageLocked,
        sqlite3.SQLITE_LOCKED: StorageLocked,
        sqlite3.SQLITE_CORRUPT: Damaged,
        sqlite3.SQLITE_NOTADB: Damaged,
    }
    code = getattr(fault, "sqlite_errorcode", 0)
    name = getattr(fault, "sqlite_errorname", type(fault).__name__)
    return kinds.get(code & 0xFF, StorageError)(f"{path}: {fault} ({name})")


class FileLock:
    """Holds `<path>.lock` for as long as it is open, so that no other process uses the file; gone with the process.

    SQLite itself does the locking, on every platform: an exclusive transaction on an empty database.
    """

    def __init__(self, path: Path) -> None:
        """Raises StorageLocked, StorageReadOnly, StorageError."""
        lock = path.with_name(path.name + ".lock")
        try:
            create_private(lock)
            self._connection = connect(lock, timeout=0.0)
            try:
                self._connection.execute("PRAGMA journal_mode = MEMORY")  # no second file
                self._connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.Error:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as fault:
            error = storage_error(fault, lock)
            if isinstance(error, StorageLocked):
                error = StorageLocked(f"{path} is in use by another node; give this one a data directory of its own")
            raise error from fault

    def close(self) -> None:
        """Let others have the file."""
        self._connection.close()


def create_private(path: Path) -> None:
    """Make sure that a file is there which its owner alone may read, and write. Raises OSError."""
    # An existing file is not opened: to close it again would take SQLite's locks off it (POSIX, per process).
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        for place in (path, path.parent):
            if not os.access(place, os.W_OK):  # SQLite would open it, and find out later
                raise PermissionError(errno.EACCES, "cannot be written", str(place)) from None
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)


def connect(path: Path, *, timeout: float) -> sqlite3.Connection:
    """A connection that begins no transactions by itself, and may be used by any one thread at a time."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=timeout)


class SqliteFile:
    """An open file: `reader` for one thread, `writer` for another."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        """Open, or make, the file. Raises Damaged, StorageTooNew, StorageReadOnly, StorageFull, StorageError."""
        self.path = path
        self._durable: bool | None = None
        try:
            create_private(path)
            self.writer = connect(path, timeout=_BUSY_TIMEOUT)
            try:
                self._prepare(max_bytes)
                self.reader = connect(path, timeout=_READ_TIMEOUT)
                self.reader.execute("PRAGMA query_only = 1")
                self.reader.execute("SELECT 1 FROM entries LIMIT 1").fetchall()
            except BaseException:
                self.writer.close()
                raise
        except (sqlite3.Error, OSError) as fault:
            raise storage_error(fault, path) from fault

    def _prepare(self, max_bytes: int) -> None:
        execute = self.writer.execute
        tables, application = (
            _one(self.writer, "SELECT count(*) FROM sqlite_master"),
            _pragma(self.writer, "application_id"),
        )
        if tables and application != APPLICATION_ID:
            raise StorageError(f"{self.path} is a database of another program")
        version = _pragma(self.writer, "user_version")
        if version > len(MIGRATIONS):
            raise StorageTooNew(
                f"{self.path} has schema version {version}; this release knows {len(MIGRATIONS)}: use a later one"
            )
        execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        if _one(self.writer, "PRAGMA journal_mode = WAL") != "wal":
            raise StorageError(f"{self.path}: no write-ahead log is possible here; take a directory on a local disk")
        execute("PRAGMA fullfsync = 1")  # on macOS an fsync alone does not survive a power cut
        execute("PRAGMA checkpoint_fullfsync = 1")
        execute("PRAGMA journal_size_limit = 16777216")
        execute(f"PRAGMA max_page_count = {max(max_bytes // _PAGE_SIZE, 1)}")
        self._sync(True)
        execute("BEGIN IMMEDIATE")  # tells at once if nothing can be written here
        execute("ROLLBACK")
        if version < len(MIGRATIONS):
            execute("BEGIN IMMEDIATE")
            for migration in MIGRATIONS[version:]:
                execute(migration)
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            execute("COMMIT")

    def close(self) -> None:
        """Write the log back into the file, and close it. Raises StorageError."""
        self.reader.close()
        try:
            self.writer.close()
        except sqlite3.Error as fault:
            raise storage_error(fault, self.path) from fault

    # --- reading ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Read all of the file's structure. Raises Damaged."""
        try:
            found = _one(self.writer, "PRAGMA quick_check(1)")
        except sqlite3.Error as fault:
            raise storage_error(fault, self.path) from fault
        if found != "ok":
            raise Damaged(f"{self.path}: {found}")

    def get(self, key: bytes) -> bytes | None:
        """Raises StorageError."""
        try:
            # All rows: a statement left half read would hold its moment, and the log could not be written back.
            rows = self.reader.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchall()
        except sqlite3.Error as fault:
            raise storage_error(fault, self.path) from fault
        return rows[0][0] if rows else None

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Raises StorageError."""
        start, above = (after, ">") if after is not None and after >= prefix else (prefix, ">=")
        end = _end(prefix)
        below = "" if end is None else "AND key < ?"
        query = f"SELECT key, value FROM entries WHERE key {above} ? {below} ORDER BY key LIMIT ?"  # noqa: S608
        values = (start, limit) if end is None else (start, end, limit)
        try:
            return self.reader.execute(query, values).fetchall()
        except sqlite3.Error as fault:
            raise storage_error(fault, self.path) from fault

    # --- writing ----------------------------------------------------------------------------------

    def write(self, batch: Sequence[tuple[Sequence[Change], bool]]) -> list[StorageError | None]:
        """Make each write of changes (durable or not) in one transaction, or each in its own if that fails.

        So writers share the wait for the disk, and none has to pay for another one's fault. Returns each one's error.
        """
        fault = self._write_all([changes for changes, _ in batch], any(durable for _, durable in batch))
        if fault is None:
            return [None] * len(batch)
        if len(batch) == 1:
            return [fault]
        return [self._write_all([changes], durable) for changes, durable in batch]

    def _write_all(self, writes: Iterable[Sequence[Change]], durable: bool) -> StorageError | None:
        execute = self.writer.execute
        last: dict[bytes, bytes | None] = {}
        for changes in writes:
            last.update(changes)
        gone = [(key,) for key, value in last.items() if value is None]
        kept = [(key, value) for key, value in last.items() if value is not None]
        try:
            self._sync(durable)
            execute("BEGIN IMMEDIATE")
            try:
                self.writer.executemany("DELETE FROM entries WHERE key = ?", gone)
                self.writer.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?)", kept)
                execute("COMMIT")
            except BaseException:
                if self.writer.in_transaction:
                    execute("ROLLBACK")
                raise
        except sqlite3.Error as fault:
            return storage_error(fault, self.path)
        return None

    def _sync(self, durable: bool) -> None:
        """Let commits wait for the disk, or not. A later durable one makes those before it durable too."""
        if durable is not self._durable:
            self._durable = None
            self.writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def _one(connection: sqlite3.Connection, query: str) -> object:
    return connection.execute(query).fetchall()[0][0]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value = _one(connection, f"PRAGMA {name}")
    assert isinstance(value, int)
    return value


def _end(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None if none is."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
