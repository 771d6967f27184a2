"""The SQLite datastore on damaged files, and on disks that take nothing."""

from __future__ import annotations

import errno
import logging
import sqlite3
from pathlib import Path

import anyio
import pytest

from py_p2pstack.errors import StorageError, StorageFull, StorageLocked, StorageReadOnly
from py_p2pstack.storage import SqliteDatastore
from py_p2pstack.storage.quarantine import suspect
from py_p2pstack.storage.sqlite_file import Damaged, storage_error
from tests.storage.files import contents, fill, overwrite

pytestmark = pytest.mark.anyio


# --- damage ---------------------------------------------------------------------------------------


async def filled(path: Path, count: int = 3000) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"%05d" % number, b"x" * 100) for number in range(count)])


async def test_a_file_that_is_no_database_is_put_aside(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(path, b"this is no database" * 1000)
    with caplog.at_level(logging.WARNING):
        async with SqliteDatastore(path) as datastore:
            assert await datastore.scan(b"") == []
            await datastore.write([(b"key", b"value")])
    (aside,) = path.parent.glob("store.db.corrupt-*")
    assert aside.read_bytes() == b"this is no database" * 1000
    assert "put aside" in caplog.text
    async with SqliteDatastore(path) as datastore:
        assert await datastore.get(b"key") == b"value"


async def test_what_can_be_read_of_a_damaged_file_is_saved(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await filled(path)
    overwrite(path, len(contents(path)) // 2 // 4096 * 4096, 8192)
    with caplog.at_level(logging.WARNING):
        async with SqliteDatastore(path) as datastore:
            rows = await datastore.scan(b"", limit=10_000)
    assert 2500 < len(rows) < 3000
    assert rows[0][0] == b"00000"
    assert rows[-1][0] == b"02999"
    assert "could be saved" in caplog.text
    assert len(list(path.parent.glob("store.db.corrupt-*"))) == 1


async def test_two_damaged_files_do_not_share_a_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    for content in (b"one" * 1000, b"two" * 1000):
        fill(path, content)
        async with SqliteDatastore(path):
            pass
    assert {each.read_bytes()[:3] for each in path.parent.glob("store.db.corrupt-*")} == {b"one", b"two"}


async def test_damage_met_later_is_an_error_and_is_mended_at_the_next_opening(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("py_p2pstack.storage.quarantine.CHECKED_SIZE", 0)  # as if the file were too large to be read
    await filled(path)
    overwrite(path, 8 * 4096, 4 * 4096)
    async with SqliteDatastore(path) as datastore:
        with pytest.raises(Damaged):
            await datastore.scan(b"", limit=10_000)
        assert await datastore.get(b"02999") == b"x" * 100  # the rest can be read
        assert suspect(path).exists()
        await datastore.write([(b"03000", b"")])
    async with SqliteDatastore(path) as datastore:
        assert len(await datastore.scan(b"", limit=10_000)) > 2000
        assert await datastore.get(b"03000") == b""
    assert not suspect(path).exists()
    assert len(list(path.parent.glob("store.db.corrupt-*"))) == 1


async def test_a_log_cut_off_in_the_middle_of_a_write_loses_that_write_alone(path: Path) -> None:
    log = path.with_name("store.db-wal")
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"first", b"1")])
        size = len(contents(log))
        await datastore.write([(b"second", b"2" * 10_000)])
        file, whole = contents(path), contents(log)
    for end in (size, size + 1, size + 4000, len(whole) - 1):
        fill(path, file)
        fill(log, whole[:end])
        async with SqliteDatastore(path) as datastore:
            assert await datastore.scan(b"") == [(b"first", b"1")]
    assert not list(path.parent.glob("*.corrupt-*"))


# --- disks that take nothing ----------------------------------------------------------------------


async def test_a_full_file_refuses_what_does_not_fit_and_stays_of_use(path: Path) -> None:
    async with SqliteDatastore(path, max_bytes=128 * 1024) as datastore:
        await datastore.write([(b"first", b"1")])
        with pytest.raises(StorageFull):
            await datastore.write([(b"big", b"x" * 200_000), (b"first", None)])
        assert await datastore.get(b"first") == b"1"
        # What shares a transaction with it is not refused.
        async with anyio.create_task_group() as tasks:
            refused = anyio.Event()

            async def too_much() -> None:
                with pytest.raises(StorageFull):
                    await datastore.write([(b"big", b"x" * 200_000)])
                refused.set()

            tasks.start_soon(too_much)
            for number in range(10):
                tasks.start_soon(datastore.write, [(b"small/%d" % number, b"")])
        assert refused.is_set()
        assert len(await datastore.scan(b"small/")) == 10
        # Room can be made.
        await datastore.write([(b"big", b"x" * 80_000)])
        with pytest.raises(StorageFull):
            await datastore.write([(b"another", b"x" * 80_000)])
        await datastore.write([(b"big", None)])
        await datastore.write([(b"another", b"x" * 80_000)])


async def test_a_file_that_cannot_be_written_any_more_can_still_be_read(path: Path) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
        assert datastore._file is not None
        datastore._file.writer.execute("PRAGMA query_only = 1")
        with pytest.raises(StorageReadOnly):
            await datastore.write([(b"key", b"other")])
        assert await datastore.get(b"key") == b"value"
        datastore._file.writer.execute("PRAGMA query_only = 0")
        await datastore.write([(b"key", b"other")])
        assert await datastore.get(b"key") == b"other"


@pytest.mark.parametrize("kept", ["store.db", "store.db.lock"])
async def test_what_cannot_be_written_is_refused_when_it_is_opened(
    path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path, 1)
    monkeypatch.setattr("os.access", lambda place, mode: place.name != kept)
    with pytest.raises(StorageReadOnly, match=kept):
        async with SqliteDatastore(path):
            pass
    monkeypatch.undo()
    async with SqliteDatastore(path) as datastore:
        assert await datastore.get(b"00000") == b"x" * 100


async def test_a_missing_directory_is_an_error(path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        async with SqliteDatastore(path / "missing" / "store.db"):
            pass


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFull),
        (errno.EROFS, StorageReadOnly),
        (errno.EACCES, StorageReadOnly),
        (errno.EIO, StorageError),
    ],
)
async def test_faults_of_the_operating_system_have_their_kind(number: int, kind: type[StorageError]) -> None:
    assert type(storage_error(OSError(number, "no"), Path("x"))) is kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StorageReadOnly),
        (sqlite3.SQLITE_BUSY, StorageLocked),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageError),
        (sqlite3.SQLITE_CORRUPT, Damaged),
    ],
)
async def test_faults_of_the_database_have_their_kind(code: int, kind: type[StorageError]) -> None:
    fault = sqlite3.OperationalError("no")
    fault.sqlite_errorcode = code
    assert type(storage_error(fault, Path("x"))) is kind
