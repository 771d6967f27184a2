"""What is done with a damaged file: it is put aside, and what can be read of it goes into a fresh one."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from py_p2pstack.core.datastore import Change
from py_p2pstack.storage.sqlite_file import Damaged, SqliteFile, connect, storage_error

CHECKED_SIZE = 64 * 1024 * 1024  # bytes; a larger file is read whole at its opening only if damage was met in it before
_log = logging.getLogger(__name__)
_BATCH = 1000
_LOG = "-wal"  # SQLite's names for what belongs to a file
_INDEX = "-shm"


def open_file(path: Path, *, max_bytes: int, wall_clock: Callable[[], float] = time.time) -> SqliteFile:
    """Open the file; a damaged one is renamed to `<name>.corrupt-<time>`, and a fresh one begins with what it yields.

    Raises as SqliteFile does, but for Damaged.
    """
    try:
        return _open_checked(path, max_bytes)
    except Damaged as fault:
        aside = _put_aside(path, int(wall_clock()))
        _log.warning("%s is damaged (%s): put aside as %s", path, fault, aside.name)
    file = SqliteFile(path, max_bytes=max_bytes)
    saved = 0
    for rows in _readable(aside):
        if any(error is not None for error in file.write([(rows, True)])):
            break
        saved += len(rows)
    _log.warning("%d entries of the damaged %s could be saved", saved, path)
    suspect(path).unlink(missing_ok=True)
    return file


def suspect(path: Path) -> Path:
    """The mark beside a file in which damage was met: it is checked whole when it is opened next."""
    return path.with_name(path.name + ".suspect")


def _open_checked(path: Path, max_bytes: int) -> SqliteFile:
    file = SqliteFile(path, max_bytes=max_bytes)
    try:
        if suspect(path).exists() or path.stat().st_size <= CHECKED_SIZE:
            file.check()
            suspect(path).unlink(missing_ok=True)
    except BaseException:
        file.close()
        raise
    return file


def _put_aside(path: Path, now: int) -> Path:
    """Rename the file and its log. Raises StorageError."""
    aside = path.with_name(f"{path.name}.corrupt-{now}")
    while aside.exists():
        now += 1
        aside = path.with_name(f"{path.name}.corrupt-{now}")
    try:
        # The log goes first: were we killed between the two, a fresh file must not meet a foreign log.
        for suffix in (_LOG, ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        path.with_name(path.name + _INDEX).unlink(missing_ok=True)
    except OSError as fault:
        raise storage_error(fault, path) from fault
    return aside


def _readable(aside: Path) -> Iterator[list[Change]]:
    """What can be read of a damaged file, from its beginning up to the damage, and from its end down to it."""
    try:
        connection = connect(aside, timeout=0.0)
    except sqlite3.Error:
        return
    try:
        for order in ("ASC", "DESC"):
            rows: list[Change] = []
            try:
                for key, value in connection.execute(f"SELECT key, value FROM entries ORDER BY key {order}"):  # noqa: S608
                    if isinstance(key, bytes) and isinstance(value, bytes):
                        rows.append((key, value))
                    if len(rows) == _BATCH:
                        yield rows
                        rows = []
                if rows:
                    yield rows
                return
            except sqlite3.Error:
                if rows:
                    yield rows
    finally:
        connection.close()
