"""Each store is tested over both datastores, and under a clock that stands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from py_p2pstack.core.datastore import Datastore
from py_p2pstack.storage import MemoryDatastore, SqliteDatastore
from tests.protocols.dht.storage.samples import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def datastore(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Datastore]:
    if request.param == "memory":
        yield MemoryDatastore()
        return
    async with SqliteDatastore(tmp_path / "store.db") as opened:
        yield opened
