"""A picture of the routing table, so that a restarted node knows whom to ask."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from py_p2pstack.addresses import PeerInfo
from py_p2pstack.core.datastore import Datastore
from py_p2pstack.errors import RecordError
from py_p2pstack.protocols.dht.storage.rows import SNAPSHOT, decode_snapshot, encode_snapshot

_log = logging.getLogger(__name__)


class TableSnapshot:
    """The peers of the routing table with their addresses, at most 1024, as last saved."""

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore

    async def save(self, peers: Sequence[PeerInfo]) -> None:
        """Replace the picture. It is no loss if a power cut takes it. Raises StorageError."""
        await self._datastore.write([(SNAPSHOT, encode_snapshot(peers))], durable=False)

    async def load(self) -> list[PeerInfo]:
        """The peers last saved; none if there are none, or if they cannot be read. Raises StorageError."""
        row = await self._datastore.get(SNAPSHOT)
        if row is None:
            return []
        try:
            return decode_snapshot(row)
        except RecordError as fault:
            _log.warning("removing a snapshot of the routing table that cannot be read: %s", fault)
            await self._datastore.write([(SNAPSHOT, None)], durable=False)
            return []
