"""How a server keeps and tells values: PUT_VALUE and GET_VALUE."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from py_p2pstack.errors import InvalidRecord, RemoteProtocolError
from py_p2pstack.event_loop import clock
from py_p2pstack.identity import PeerId
from py_p2pstack.protocols.dht import rfc3339
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.config import DhtConfig
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.server import StoreHandler
from py_p2pstack.protocols.dht.storage import StoredValue, ValueStore
from py_p2pstack.protocols.dht.validators import Validator

VALIDITY_CACHE = 1024  # values that were found valid lately
RENEWAL = 1 / 48  # of its age limit, within which a value put again is not written again: it is safe already
TRUSTED_FOR = 60.0  # seconds; a signature need not be checked for each of many gets, an expiry soon enough


class ValueHandlers:
    """Answers what other nodes put and get."""

    def __init__(
        self,
        handlers: Handlers,
        store: ValueStore,
        validator: Validator,
        config: DhtConfig,
        wall_clock: Callable[[], float],
    ) -> None:
        self._handlers = handlers
        self._store = store
        self._validator = validator
        self._config = config
        self._wall_clock = wall_clock
        self._now = clock()
        self._valid: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def table(self) -> dict[MessageType, StoreHandler]:
        """Which of them answers what."""
        return {MessageType.PUT_VALUE: self.put, MessageType.GET_VALUE: self.get}

    async def put(self, request: Message, sender: PeerId) -> Message:
        """Keep a value if it is valid and no worse than what we have; the answer tells what we have now.

        Once answered with the value sent, it survives a power cut. An older one than ours is answered with ours. (go
        resets the stream then; told so, the sender learns why.) Of equal rank the new one wins. Raises
        RemoteProtocolError for anything that is no valid record, StorageError.
        """
        record = request.record
        if not request.key or record is None or record.key != request.key:
            raise RemoteProtocolError("PUT_VALUE without a record of its key")
        if len(record.value) > self._config.max_value_size:
            raise RemoteProtocolError(f"a value of {len(record.value)} bytes: we keep {self._config.max_value_size}")
        now = self._wall_clock()
        try:
            self._validator.validate(record.key, record.value, now)
        except InvalidRecord as fault:
            raise RemoteProtocolError(f"PUT_VALUE of an invalid record: {fault}") from None
        async with self._store.locked(record.key):
            old = await self._store.get(record.key)
            if old is not None and old.value != record.value and not self._replaces(record, old, now):
                return self._echo(request, old.value)
            if old is None or old.value != record.value or self._wants_renewal(old, now):
                await self._store.put(record.key, record.value)
        self._remember(record.key, record.value)
        return self._echo(request, record.value)

    async def get(self, request: Message, sender: PeerId) -> Message:
        """Tell the value, if we have one, when it came, and who is nearer. Raises RemoteProtocolError, StorageError."""
        if not request.key:
            raise RemoteProtocolError("GET_VALUE without a key")
        stored = await self._store.get(request.key)
        if stored is not None and not await self._holds(request.key, stored.value):
            stored = None
        record = None
        if stored is not None:
            came = rfc3339.format(int(stored.received * rfc3339.SECOND))
            record = Record(key=request.key, value=stored.value, time_received=came)
        return Message(
            type=MessageType.GET_VALUE,
            key=request.key,
            record=record,
            closer_peers=self._handlers.closer_peers(request.key, sender, self._now()),
            cluster_level=request.cluster_level,
        )

    def _echo(self, request: Message, value: bytes) -> Message:
        record = Record(key=request.key, value=value)
        return Message(type=MessageType.PUT_VALUE, key=request.key, record=record, cluster_level=request.cluster_level)

    def _replaces(self, new: Record, old: StoredValue, now: float) -> bool:
        """Whether a valid record may take the place of one we keep, which is no obstacle if it is invalid by now."""
        try:
            self._validator.validate(new.key, old.value, now)
            return self._validator.select(new.key, [new.value, old.value], now) == 0
        except InvalidRecord:
            return True

    def _wants_renewal(self, old: StoredValue, now: float) -> bool:
        """Whether the same value once more makes it younger: not often, and what we publish has its own time."""
        return not old.published and not 0 <= now - old.received < RENEWAL * self._config.max_value_age

    async def _holds(self, key: bytes, value: bytes) -> bool:
        """Whether a stored value is still valid; else it is removed."""
        known = self._valid.get(key)
        if known is not None and known[0] == hash(value) and self._now() - known[1] < TRUSTED_FOR:
            return True
        if not await discard_invalid(self._store, self._validator, key, value, self._wall_clock()):
            return False
        self._remember(key, value)
        return True

    def _remember(self, key: bytes, value: bytes) -> None:
        self._valid[key] = (hash(value), self._now())  # the values themselves would be a second store, in memory
        self._valid.move_to_end(key)
        if len(self._valid) > VALIDITY_CACHE:
            self._valid.popitem(last=False)


async def discard_invalid(store: ValueStore, validator: Validator, key: bytes, value: bytes, now: float) -> bool:
    """Return whether a stored value is valid; one that is not is removed, if it is still there."""
    try:
        validator.validate(key, value, now)
    except InvalidRecord:
        async with store.locked(key):
            there = await store.get(key)
            if there is not None and there.value == value:
                await store.remove(key)
        return False
    return True
