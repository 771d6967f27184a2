"""The snapshot of the routing table, as it is kept."""

from __future__ import annotations

import logging

import pytest

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.protocols.dht.storage import TableSnapshot, rows
from tests.peer_ids import peer
from tests.protocols.dht.storage.samples import HERE, THERE

pytestmark = pytest.mark.anyio


async def test_a_snapshot_is_loaded_as_it_was_saved(datastore: Datastore) -> None:
    snapshot = TableSnapshot(datastore)
    assert await snapshot.load() == []
    table = [PeerInfo(peer(1), HERE + THERE), PeerInfo(peer(2), ())]
    await snapshot.save([PeerInfo(peer(9), ())])
    await snapshot.save(table)
    assert await TableSnapshot(datastore).load() == table


async def test_a_broken_snapshot_is_none(datastore: Datastore, caplog: pytest.LogCaptureFixture) -> None:
    await datastore.write([(rows.SNAPSHOT, b"\x01\x22nonsense")])
    with caplog.at_level(logging.WARNING):
        assert await TableSnapshot(datastore).load() == []
    assert "cannot be read" in caplog.text
    assert await datastore.scan(b"") == []
