"""What a server keeps for others, and what it tells them: valid, the better one, for its time, and atomically."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from py_p2pstack import PrivateKey
from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.datastore import Change
from py_p2pstack.core.types import Connectedness
from py_p2pstack.errors import RemoteProtocolError, StorageError, StorageFull
from py_p2pstack.identity import PeerId
from py_p2pstack.kademlia import RoutingTable, cached_keys
from py_p2pstack.protocols.dht import DhtConfig, rfc3339
from py_p2pstack.protocols.dht.codec import Message, MessageType, Record
from py_p2pstack.protocols.dht.handlers import Handlers
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.dht.storage import ValueStore
from py_p2pstack.protocols.dht.validators import default_validators
from py_p2pstack.protocols.dht.value_handlers import RENEWAL, TRUSTED_FOR, VALIDITY_CACHE, ValueHandlers
from py_p2pstack.storage import MemoryDatastore
from tests.peer_ids import peer
from tests.protocols.dht.nodes import in_virtual_time

ALICE = peer(1)
KEY = b"/v/k"
OWNER = PrivateKey.from_seed(bytes(32))
HOUR = 3600.0


class SlowDatastore(MemoryDatastore):
    """Takes its time, counts what is written, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.fault: StorageError | None = None

    async def get(self, key: bytes) -> bytes | None:
        await checkpoint()
        return await super().get(key)

    async def write(self, changes: Sequence[Change], *, durable: bool = True) -> None:
        await checkpoint()
        if self.fault is not None:
            raise self.fault
        self.writes += 1
        await super().write(changes, durable=durable)


class Book:
    def addresses(self, who: PeerId) -> list[Multiaddr]:
        return [Multiaddr.parse("/ip4/127.0.0.1/tcp/1")]

    def connectedness(self, who: PeerId) -> Connectedness:
        return Connectedness.NOT_CONNECTED


class Server:
    """The handlers over a slow store; its clock goes when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.datastore = SlowDatastore()
        self.store = ValueStore(self.datastore, wall_clock=lambda: self.now)
        keys = cached_keys(PeerId.to_bytes, 100)
        self.table = RoutingTable(keys(peer(0)), keys)
        for number in range(2, 9):
            self.table.add(peer(number), 0.0)
        handlers = Handlers(peer(0), self.table, Book(), k=20)
        self.handlers = ValueHandlers(handlers, self.store, default_validators(), DhtConfig(), lambda: self.now)

    async def put(self, value: bytes, key: bytes = KEY) -> bytes:
        """Returns the value that the answer tells."""
        request = Message(type=MessageType.PUT_VALUE, key=key, record=Record(key=key, value=value, time_received="x"))
        answer = await self.handlers.put(request, ALICE)
        assert (answer.type, answer.key) == (MessageType.PUT_VALUE, key)
        assert answer.record is not None
        assert answer.record.key == key
        return answer.record.value

    async def get(self, key: bytes = KEY) -> bytes | None:
        answer = await self.handlers.get(Message(type=MessageType.GET_VALUE, key=key), ALICE)
        assert len(answer.closer_peers) == 7
        return None if answer.record is None else answer.record.value


def owned(sequence: int, *, expires: float | None = None) -> tuple[bytes, bytes]:
    return OwnedRecord.create(OWNER, "name", b"value %d" % sequence, sequence, expires=expires)


@in_virtual_time
async def test_what_was_put_is_told_with_the_time_it_came() -> None:
    server = Server()
    assert await server.put(b"one") == b"one"
    server.now += 5
    request = Message(type=MessageType.GET_VALUE, key=KEY, cluster_level=2)
    answer = await server.handlers.get(request, ALICE)
    assert answer.record is not None
    assert answer.record.value == b"one"
    assert rfc3339.parse(answer.record.time_received) == (server.now - 5) * rfc3339.SECOND
    assert (answer.key, answer.cluster_level) == (KEY, 2)
    assert await server.get(b"/v/other") is None


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (KEY, None),
        (b"", Record(key=b"", value=b"x")),
        (KEY, Record(key=b"/v/other", value=b"x")),
        (b"/unknown/k", Record(key=b"/unknown/k", value=b"x")),
        (b"no namespace", Record(key=b"no namespace", value=b"x")),
        (KEY, Record(key=KEY, value=bytes(64 * 1024 + 1))),
        (b"/pk/" + ALICE.to_bytes(), Record(key=b"/pk/" + ALICE.to_bytes(), value=b"x")),
    ],
    ids=["no record", "no key", "another key", "unknown namespace", "no namespace", "too large", "invalid"],
)
def test_a_put_that_breaks_the_rules_is_refused_and_leaves_nothing(key: bytes, record: Record | None) -> None:
    async def scenario() -> None:
        server = Server()
        with pytest.raises(RemoteProtocolError):
            await server.handlers.put(Message(type=MessageType.PUT_VALUE, key=key, record=record), ALICE)
        assert server.datastore.writes == 0

    anyio.run(scenario)


@in_virtual_time
async def test_a_get_without_a_key_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        await Server().handlers.get(Message(type=MessageType.GET_VALUE), ALICE)


@in_virtual_time
async def test_a_preferred_record_stays_and_the_answer_tells_it() -> None:
    server = Server()
    key, older = owned(1)
    _, newer = owned(2)
    assert await server.put(newer, key) == newer
    assert await server.put(older, key) == newer
    assert await server.get(key) == newer
    # Where values have no rank, the last writer wins.
    assert await server.put(b"one") == b"one"
    assert await server.put(b"two") == b"two"
    assert await server.get() == b"two"


@in_virtual_time
async def test_puts_at_the_same_time_leave_the_best_whatever_their_order() -> None:
    server = Server()
    key, _ = owned(1)
    async with anyio.create_task_group() as tasks:
        for sequence in (3, 9, 1, 7, 8, 2, 6, 5, 4):
            tasks.start_soon(server.put, owned(sequence)[1], key)
    stored = await server.store.get(key)
    assert stored is not None
    assert OwnedRecord.parse(stored.value).sequence == 9


@in_virtual_time
async def test_an_expired_value_is_told_no_more() -> None:
    server = Server()
    await server.put(b"one")
    server.now += 48 * HOUR - 1
    assert await server.get() == b"one"
    server.now += 2
    assert await server.get() is None


@in_virtual_time
async def test_a_value_that_became_invalid_is_removed_and_stands_in_nobodys_way() -> None:
    server = Server()
    key, brief = owned(5, expires=server.now + 100)
    _, lower = owned(4)
    await server.put(brief, key)
    assert await server.get(key) == brief
    server.now += 200
    await anyio.sleep(TRUSTED_FOR)
    assert await server.get(key) is None
    assert await server.store.get(key) is None
    # Without a get in between, the put finds it out.
    server.now -= 200
    await server.put(brief, key)
    server.now += 200
    assert await server.put(lower, key) == lower


@in_virtual_time
async def test_the_same_value_again_makes_it_younger_but_is_not_written_each_time() -> None:
    server = Server()
    await server.put(b"one")
    writes = server.datastore.writes
    for _ in range(5):
        server.now += 60
        assert await server.put(b"one") == b"one"
    assert server.datastore.writes == writes
    server.now += RENEWAL * 48 * HOUR
    await server.put(b"one")
    assert server.datastore.writes == writes + 1
    server.now += 47 * HOUR
    assert await server.get() == b"one"


@in_virtual_time
async def test_others_cannot_put_off_our_republishing() -> None:
    server = Server()
    await server.store.put(KEY, b"ours", published=True)
    then = server.now
    server.now += 10 * HOUR
    assert await server.put(b"ours") == b"ours"
    stored = await server.store.get(KEY)
    assert stored is not None
    assert (stored.published, stored.received) == (True, then)


@in_virtual_time
async def test_what_is_remembered_as_valid_is_bounded() -> None:
    server = Server()
    for number in range(VALIDITY_CACHE + 10):
        await server.put(b"x", b"/v/%d" % number)
    assert len(server.handlers._valid) == VALIDITY_CACHE


@in_virtual_time
async def test_a_store_that_fails_fails_the_request_and_serves_on() -> None:
    server = Server()
    await server.put(b"one")
    server.datastore.fault = StorageFull("disk")
    with pytest.raises(StorageFull):
        await server.put(b"two")
    assert await server.get() == b"one"
    server.datastore.fault = None
    assert await server.put(b"three") == b"three"
