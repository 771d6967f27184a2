"""Putting an owned record: the number it needs to be better than all before is found by itself."""

from __future__ import annotations

from typing import Protocol

import anyio

from py_p2pstack.errors import ValueNotFound
from py_p2pstack.identity import PrivateKey
from py_p2pstack.protocols.dht.events import OnEvent
from py_p2pstack.protocols.dht.puts import PutResult
from py_p2pstack.protocols.dht.records.owned import OwnedRecord, key_of

SEEK_SHARE = 0.5  # of the time: as much is left for the put


class ValueDht(Protocol):
    """What gets and puts: a `Dht` or a `DualDht`."""

    async def get_value(self, key: bytes, *, timeout: float | None = None) -> bytes: ...

    async def put_value(
        self,
        key: bytes,
        value: bytes,
        *,
        quorum: int = 1,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
    ) -> PutResult: ...


async def put_owned(
    dht: ValueDht,
    owner: PrivateKey,
    name: str,
    value: bytes,
    *,
    expires: float | None = None,
    quorum: int = 1,
    timeout: float = 60.0,
    on_event: OnEvent | None = None,
) -> tuple[OwnedRecord, PutResult]:
    """Sign a value under one of the owner's names, and put it, numbered one higher than the best there is.

    Two that do this at the same moment may take the same number; then everybody keeps the same one of the two.

    Args:
        name: at most `owned.MAX_NAME` bytes.
        value: with its envelope at most `owned.MAX_SIZE` bytes.
        expires: until when it holds, in seconds since 1970.
        timeout: seconds, for both.
        quorum: as for `Dht.put_value`.
        on_event: called with every step of the put.

    Raises:
        InvalidRecord: a bound is broken, or the network does not take owned records.
        LookupFailure: there is nobody to ask for the number. (Nothing is kept then, here neither.)
        PutFailed, OperationTimeout, StorageError, NotEnabled: as `Dht.put_value`.
    """
    key = key_of(owner.public_key.peer_id(), name)
    end = anyio.current_time() + timeout
    try:
        before = OwnedRecord.parse(await dht.get_value(key, timeout=timeout * SEEK_SHARE)).sequence
    except ValueNotFound:
        before = 0
    key, sealed = OwnedRecord.create(owner, name, value, before + 1, expires=expires)
    left = max(end - anyio.current_time(), 0.0)
    result = await dht.put_value(key, sealed, quorum=quorum, timeout=left, on_event=on_event)
    return OwnedRecord.parse(sealed), result
