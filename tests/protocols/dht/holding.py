"""Who holds which value: to give one to a node, and to look what it has."""

from __future__ import annotations

from py_p2pstack import PrivateKey
from py_p2pstack.kademlia import key_of
from py_p2pstack.protocols.dht.records.owned import OwnedRecord
from py_p2pstack.protocols.dht.storage import ValueStore
from tests.protocols.dht.nodes import Node, World

KEY = "/v/greeting"
OWNER = PrivateKey.from_seed(bytes(32))
OWNED_KEY, _ = OwnedRecord.create(OWNER, "n", b"", 0)


def owned(sequence: int) -> bytes:
    return OwnedRecord.create(OWNER, "n", b"value %d" % sequence, sequence)[1]


def sequence(value: bytes) -> int:
    return OwnedRecord.parse(value).sequence


def store(node: Node) -> ValueStore:
    assert node.dht._values is not None
    return node.dht._values._store


async def held(node: Node, key: bytes = KEY.encode()) -> bytes | None:
    stored = await store(node).get(key)
    return None if stored is None else stored.value


async def give(node: Node, value: bytes, key: bytes = KEY.encode()) -> None:
    """Have a node hold a value, as if somebody had put it there long ago."""
    await store(node).put(key, value)


def nearest_first(w: World, key: bytes = KEY.encode(), *, without: Node) -> list[Node]:
    others = [node for node in w.nodes if node is not without]
    return sorted(others, key=lambda node: key_of(node.id.to_bytes()) ^ key_of(key))
