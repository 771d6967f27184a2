"""The SQLite datastore: its file, its faults, and what it survives."""

from __future__ import annotations

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

from py_p2pstack.errors import StorageError, StorageLocked, StorageTooNew
from py_p2pstack.storage import SqliteDatastore, sqlite_file
from py_p2pstack.storage.sqlite_file import MIGRATIONS
from tests.storage.files import contents, fill, names

pytestmark = pytest.mark.anyio


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


async def test_cancelled_while_it_opens_it_leaves_the_file_free(path: Path) -> None:
    for delay in (0.0, 0.001, 0.003, 0.01):
        with anyio.move_on_after(delay):
            async with SqliteDatastore(path) as datastore:
                await datastore.write([(b"key", b"value")])
        async with SqliteDatastore(path):
            pass


async def test_a_writer_that_breaks_lets_nobody_wait_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore = SqliteDatastore(path)
    faults: list[StorageError] = []

    async def write() -> None:
        try:
            await datastore.write([(b"key", b"value")])
        except StorageError as fault:
            faults.append(fault)

    def broken(batch: object) -> object:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:  # a bug, and not hidden
        async with datastore:
            monkeypatch.setattr(datastore._file, "write", broken)
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    for _ in range(3):
                        tasks.start_soon(write)
    assert raised.group_contains(ZeroDivisionError)
    assert len(faults) == 3
    async with datastore:
        await datastore.write([(b"key", b"value")])


async def test_without_a_write_ahead_log_it_does_not_begin(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite_file._one

    def one(connection: sqlite3.Connection, query: str) -> object:
        return "delete" if "journal_mode" in query else real(connection, query)

    monkeypatch.setattr(sqlite_file, "_one", one)
    with pytest.raises(StorageError, match="local disk"):
        async with SqliteDatastore(path):
            pass


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
