"""Every datastore keeps the same promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from py_p2pstack.storage import DatastorePart, MemoryDatastore, SqliteDatastore
from py_p2pstack.testing.contracts import DATASTORE, OpenDatastore

pytestmark = pytest.mark.anyio


def memory(_: Path) -> OpenDatastore:
    datastore = MemoryDatastore()
    return lambda: datastore


def part(_: Path) -> OpenDatastore:
    whole = MemoryDatastore()
    return lambda: DatastorePart(whole, b"part/")


def sqlite(path: Path) -> OpenDatastore:
    return lambda: SqliteDatastore(path / "store.db")


def sqlite_in_a_hurry(path: Path) -> OpenDatastore:
    """With hardly any room for writes that wait."""
    return lambda: SqliteDatastore(path / "store.db", max_pending_bytes=200)


@pytest.mark.parametrize("case", [memory, part, sqlite, sqlite_in_a_hurry], ids=lambda case: case.__name__)
@pytest.mark.parametrize("claim", DATASTORE, ids=lambda claim: claim.__name__)
async def test_contract(
    claim: Callable[[OpenDatastore], Awaitable[None]], case: Callable[[Path], OpenDatastore], tmp_path: Path
) -> None:
    await claim(case(tmp_path))
