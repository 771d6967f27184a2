"""A node whose disk is full or read-only: what cannot be kept is refused with a typed error, all else goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from py_p2pstack import Dht, DhtConfig, Host
from py_p2pstack.errors import PutFailed, StorageError, StorageFull, StorageReadOnly
from py_p2pstack.protocols.dht import PutResult
from py_p2pstack.storage import SqliteDatastore

pytestmark = pytest.mark.anyio

TALL = b"x" * 60_000


def fill_up(datastore: SqliteDatastore) -> None:
    """Let the file have no page more, as if the disk were full."""
    assert datastore._file is not None
    datastore._file.writer.execute("PRAGMA max_page_count = 1")  # SQLite takes the pages there are


def make_read_only(datastore: SqliteDatastore) -> None:
    """Let the file take no write, as a disk that was mounted again read-only."""
    assert datastore._file is not None
    datastore._file.writer.execute("PRAGMA query_only = 1")


@asynccontextmanager
async def server_and_client(path: Path) -> AsyncIterator[tuple[SqliteDatastore, Dht, Dht]]:
    with anyio.fail_after(30):
        async with (
            SqliteDatastore(path / "node.db") as datastore,
            Host(listen=["/ip4/127.0.0.1/tcp/0"]) as host,
            Dht(host, DhtConfig(auto_refresh=False), datastore=datastore) as server,
            Host(listen=["/ip4/127.0.0.1/tcp/0"]) as other,
            Dht(other, DhtConfig(auto_refresh=False)) as client,
        ):
            await other.connect(host.peer_info)
            while not len(client.routing_table) or not len(server.routing_table):
                await anyio.sleep(0.001)
            yield datastore, server, client


@pytest.mark.parametrize(
    ("strike", "kind"), [(fill_up, StorageFull), (make_read_only, StorageReadOnly)], ids=["full", "read-only"]
)
async def test_a_node_whose_disk_takes_nothing_says_so_and_stays_up(
    strike: object, kind: type[StorageError], tmp_path: Path
) -> None:
    assert callable(strike)
    async with server_and_client(tmp_path) as (datastore, server, client):
        await client.put_value("/v/before", b"1")
        strike(datastore)
        # Others are refused, and the failed put tells by whom ...
        with pytest.raises(PutFailed) as failed:
            await client.put_value("/v/after", TALL)
        result = failed.value.result
        assert isinstance(result, PutResult)
        assert list(result.refused) == [server.host.id]
        # ... we ourselves are told what is the matter ...
        with pytest.raises(kind):
            await server.put_value("/v/own", TALL)
        # ... and the node still serves what it has, answers lookups, and ends in good order.
        await client.stop_publishing("/v/before")
        assert await client.get_value("/v/before") == b"1"
        assert await client.get_closest_peers(b"key") == [server.host.id]
        assert await server.get_closest_peers(b"key") == [client.host.id]
