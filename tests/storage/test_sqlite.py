"""The SQLite datastore: its file, its faults, and what it survives."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from py_p2pstack.errors import StorageError, StorageFull, StorageLocked, StorageReadOnly, StorageTooNew
from py_p2pstack.storage import SqliteDatastore
from py_p2pstack.storage.quarantine import suspect
from py_p2pstack.storage.sqlite_file import MIGRATIONS, Damaged, storage_error

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def names(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def contents(path: Path) -> bytes:
    return path.read_bytes()


def fill(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def overwrite(path: Path, start: int, count: int) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xa5" * count
    path.write_bytes(data)


# --- the file -------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
async def test_the_files_are_their_owners_alone(path: Path) -> None:
    fill(path, b"", mode=0o644)
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
        assert names(path) >= {"store.db", "store.db-wal", "store.db.lock"}
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


async def test_closing_leaves_one_file_with_everything(path: Path) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
    assert names(path) == {"store.db", "store.db.lock"}
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT key, value FROM entries").fetchall() == [(b"key", b"value")]
    connection.close()


async def test_a_closed_datastore_says_so(path: Path) -> None:
    datastore = SqliteDatastore(path)
    async with datastore:
        assert repr(datastore) == f"<SqliteDatastore {path} open>"
        with pytest.raises(StorageError, match="open already"):
            async with datastore:
                pass
    for work in (datastore.get(b""), datastore.scan(b""), datastore.write([])):
        with pytest.raises(StorageError, match="not open"):
            await work


async def test_a_second_user_of_the_file_is_told_and_does_no_harm(path: Path) -> None:
    async with SqliteDatastore(path) as first:
        with pytest.raises(StorageLocked, match="in use by another node"):
            async with SqliteDatastore(path):
                pass
        # Another process still finds it locked: the refusal took no lock away.
        program = (
            "import anyio, sys\n"
            "from py_p2pstack.errors import StorageLocked\nfrom py_p2pstack.storage import SqliteDatastore\n"
            "async def main():\n    async with SqliteDatastore(sys.argv[1]):\n        pass\n"
            "try:\n    anyio.run(main)\nexcept StorageLocked:\n    sys.exit(7)\n"
        )
        ended = await anyio.run_process([sys.executable, "-c", program, str(path)], check=False)
        assert ended.returncode == 7, ended.stderr
        await first.write([(b"key", b"value")])
    async with SqliteDatastore(path) as second:
        assert await second.get(b"key") == b"value"


async def test_a_later_schema_is_refused_untouched(path: Path) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    before = contents(path)
    with pytest.raises(StorageTooNew, match="use a later one"):
        async with SqliteDatastore(path):
            pass
    assert contents(path) == before


async def test_migrations_run_in_order_from_the_version_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
    later = (*MIGRATIONS, "CREATE TABLE more (id INTEGER)", "ALTER TABLE more ADD COLUMN name TEXT")
    monkeypatch.setattr("py_p2pstack.storage.sqlite_file.MIGRATIONS", later)
    for _ in range(2):  # the second time there is nothing to do
        async with SqliteDatastore(path) as datastore:
            assert await datastore.get(b"key") == b"value"
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    assert connection.execute("SELECT id, name FROM more").fetchall() == []
    connection.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SqliteDatastore(path) as datastore:
        await datastore.write([(b"key", b"value")])
    monkeypatch.setattr(
        "py_p2pstack.storage.sqlite_file.MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (id INTEGER)", "NO SQL")
    )
    with pytest.raises(StorageError, match="syntax"):
        async with SqliteDatastore(path):
            pass
    monkeypatch.undo()
    async with SqliteDatastore(path) as datastore:
        assert await datastore.get(b"key") == b"value"


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (id INTEGER)")
    connection.close()
    before = contents(path)
    with pytest.raises(StorageError, match="another program"):
        async with SqliteDatastore(path):
            pass
    assert contents(path) == before
    assert names(path) == {"store.db", "store.db.lock"}


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


# --- writers --------------------------------------------------------------------------------------


class Statements(list[str]):
    """What the writer executes."""

    def __init__(self, datastore: SqliteDatastore) -> None:
        assert datastore._file is not None
        datastore._file.writer.set_trace_callback(self.append)

    def count_of(self, statement: str) -> int:
        return sum(each.startswith(statement) for each in self)


async def test_writers_at_once_share_a_transaction(path: Path) -> None:
    async with SqliteDatastore(path) as datastore:
        statements = Statements(datastore)
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(datastore.write, [(b"%d" % number, b"")])
        assert len(await datastore.scan(b"")) == 500
        assert 1 <= statements.count_of("COMMIT") <= 5


async def test_only_durable_writes_wait_for_the_disk(path: Path) -> None:
    async with SqliteDatastore(path) as datastore:
        statements = Statements(datastore)
        await datastore.write([(b"a", b"")], durable=False)
        await datastore.write([(b"b", b"")], durable=False)
        await datastore.write([(b"c", b"")])
        await datastore.write([(b"d", b"")])
        assert [each.split()[-1] for each in statements if "synchronous" in each] == ["NORMAL", "FULL"]
        statements.clear()
        async with anyio.create_task_group() as tasks:  # one durable write in a batch is enough
            for number in range(10):
                tasks.start_soon(lambda number: datastore.write([(b"e", b"")], durable=number == 7), number)
        committed = statements.index("COMMIT")
        assert statements.count_of("COMMIT") == 1
        assert "PRAGMA synchronous = NORMAL" not in statements[:committed]


async def test_waiting_writes_are_bounded_in_memory(path: Path) -> None:
    async with SqliteDatastore(path, max_pending_bytes=10_000) as datastore:
        most = 0
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(datastore.write, [(b"%d" % number, b"x" * 1000)])
            while datastore._pending or not most:
                most = max(most, datastore._pending_bytes)
                await anyio.lowlevel.checkpoint()
        assert 5_000 < most <= 10_000
        assert len(await datastore.scan(b"")) == 200


async def test_leaving_waits_for_writes_even_when_cancelled(path: Path) -> None:
    asked = 0

    async def write(datastore: SqliteDatastore, number: int) -> None:
        nonlocal asked
        asked += 1
        await datastore.write([(b"%d" % number, b"")])

    with anyio.CancelScope() as scope:
        async with SqliteDatastore(path) as datastore, anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(write, datastore, number)
            while asked < 50:
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    async with SqliteDatastore(path) as datastore:
        assert len(await datastore.scan(b"")) == 50


async def test_an_error_of_the_block_passes_unwrapped(path: Path) -> None:
    with pytest.raises(KeyError):
        async with SqliteDatastore(path):
            raise KeyError


def test_no_thread_stays_behind(path: Path, anyio_backend: str) -> None:
    async def work() -> None:
        for _ in range(20):
            async with SqliteDatastore(path) as datastore:
                await datastore.write([(b"key", b"value")])
        assert threading.active_count() <= before + 2  # the pool's

    before = threading.active_count()
    anyio.run(work, backend=anyio_backend)


def test_a_killed_process_leaves_neither_lock_nor_loss(path: Path) -> None:
    program = (
        "import anyio, os, signal, sys\nfrom py_p2pstack.storage import SqliteDatastore\n"
        "async def main():\n    async with SqliteDatastore(sys.argv[1]) as datastore:\n"
        "        await datastore.write([(b'key', b'value')])\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await anyio.sleep_forever()\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nanyio.run(main)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode != 0
    assert names(path) - {"store.db-wal", "store.db-shm"} == {"store.db", "store.db.lock"}

    async def look() -> bytes | None:
        async with SqliteDatastore(path) as datastore:
            return await datastore.get(b"key")

    assert anyio.run(look) == b"value"
