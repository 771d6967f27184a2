"""The whole peerstore: each book does its part, none can be filled without bound."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr, PeerInfo
from py_p2pstack.core.peerstore import CONNECTED_TTL, TEMPORARY_TTL, Peerstore
from py_p2pstack.errors import InvalidKey, ResourceLimitExceeded
from py_p2pstack.identity import KeyType, PeerRecord, PrivateKey
from py_p2pstack.peerstore import MemoryPeerstore, PeerstoreConfig
from tests.peer_ids import peer

KEY = PrivateKey.from_seed(bytes(32))
ALICE = KEY.public_key.peer_id()
BOB = peer(2)
A = Multiaddr.parse("/ip4/192.0.2.1/tcp/1")


@pytest.fixture
def store() -> Peerstore:
    return MemoryPeerstore(clock=lambda: 0.0)


def test_a_new_store_knows_nobody(store: Peerstore) -> None:
    assert store.peers() == []
    assert store.peer_info(BOB) == PeerInfo(BOB)
    assert store.addresses(BOB) == []
    assert store.public_key(BOB) is None
    assert store.protocols(BOB) == frozenset()
    assert store.first_supported(BOB, ["/a"]) is None
    assert store.get(BOB, "agent") is None
    assert store.latency(BOB) is None
    assert store.peer_record(BOB) is None
    store.remove_peer(BOB)
    assert repr(store) == "<MemoryPeerstore 0 peers>"


def test_peers_are_those_of_any_book(store: Peerstore) -> None:
    store.add_addresses(peer(1), [A], 10.0)
    store.add_public_key(ALICE, KEY.public_key)
    store.set_protocols(peer(3), ["/a"])
    store.put(peer(4), "agent", "x")
    store.record_latency(peer(5), 0.1)
    store.put(peer(1), "agent", "x")
    assert store.peers() == [peer(1), ALICE, peer(3), peer(4), peer(5)]


def test_removing_a_peer_leaves_its_addresses_to_their_own_life(store: Peerstore) -> None:
    store.add_addresses(ALICE, [A], 10.0)
    store.add_public_key(ALICE, KEY.public_key)
    store.set_protocols(ALICE, ["/a"])
    store.put(ALICE, "agent", "x")
    store.record_latency(ALICE, 0.1)
    store.remove_peer(ALICE)
    assert store.peer_info(ALICE) == PeerInfo(ALICE, (A,))
    assert store.protocols(ALICE) == frozenset()
    assert store.get(ALICE, "agent") is None
    assert store.latency(ALICE) is None
    store.clear_addresses(ALICE)
    assert store.peers() == []


def test_addresses_and_records_go_through() -> None:
    now = 0.0
    store = MemoryPeerstore(clock=lambda: now)
    envelope = PeerRecord(ALICE, 1, (A.to_bytes(),)).seal(KEY)
    assert store.consume_peer_record(envelope, 10.0)
    assert store.peer_record(ALICE) is envelope
    store.set_addresses(ALICE, [A], CONNECTED_TTL)
    store.update_ttl(ALICE, CONNECTED_TTL, TEMPORARY_TTL)
    now = TEMPORARY_TTL
    assert store.collect(now) == 1
    assert store.peers() == []


def test_the_default_clock_runs() -> None:
    store = MemoryPeerstore()
    store.add_addresses(BOB, [A], 60.0)
    assert store.addresses(BOB) == [A]


# --- keys ------------------------------------------------------------------------------------------


def test_a_key_inlined_in_the_peer_id_needs_no_adding(store: Peerstore) -> None:
    assert store.public_key(ALICE) == KEY.public_key


def test_a_hashed_key_is_known_once_added(store: Peerstore) -> None:
    key = PrivateKey.generate(KeyType.ECDSA).public_key
    assert store.public_key(key.peer_id()) is None
    store.add_public_key(key.peer_id(), key)
    store.add_public_key(key.peer_id(), key)
    assert store.public_key(key.peer_id()) == key


def test_a_foreign_key_is_refused(store: Peerstore) -> None:
    with pytest.raises(InvalidKey, match="not the key of"):
        store.add_public_key(BOB, KEY.public_key)
    assert store.peers() == []


def test_keys_are_bounded() -> None:
    store = MemoryPeerstore(clock=lambda: 0.0, config=PeerstoreConfig(max_keys=5))
    keys = [PrivateKey.from_seed(bytes([number] * 32)).public_key for number in range(20)]
    for key in keys:
        store.add_public_key(key.peer_id(), key)
    assert store.peers() == [key.peer_id() for key in keys[-5:]]


# --- protocols -------------------------------------------------------------------------------------


def test_protocols_are_set_added_and_removed(store: Peerstore) -> None:
    store.set_protocols(BOB, ["/a", "/b"])
    store.set_protocols(BOB, ["/b", "/c"])
    store.add_protocols(BOB, ["/c", "/d"])
    store.add_protocols(BOB, ["/d"])
    store.remove_protocols(BOB, ["/b", "/z"])
    store.remove_protocols(BOB, ["/z"])
    assert store.protocols(BOB) == {"/c", "/d"}
    store.set_protocols(BOB, [])
    assert store.peers() == []


def test_the_first_supported_follows_our_preference(store: Peerstore) -> None:
    store.set_protocols(BOB, ["/a", "/b"])
    assert store.first_supported(BOB, ["/c", "/b", "/a"]) == "/b"
    assert store.first_supported(BOB, ("/c",)) is None
    assert store.first_supported(BOB, ()) is None


def test_one_peer_has_so_many_protocols_of_such_a_length(store: Peerstore) -> None:
    store.set_protocols(BOB, ["/" * 257, *(f"/{number}" for number in range(1000))])
    assert store.protocols(BOB) == {f"/{number}" for number in range(128)}
    store.add_protocols(BOB, ["/one more"])
    assert len(store.protocols(BOB)) == 128


@pytest.mark.parametrize(
    "config",
    [PeerstoreConfig(max_protocol_peers=10), PeerstoreConfig(max_protocol_characters=100)],
    ids=["peers", "characters"],
)
def test_all_protocols_together_are_bounded_and_connected_peers_keep_theirs(config: PeerstoreConfig) -> None:
    store = MemoryPeerstore(clock=lambda: 0.0, config=config)
    store.add_addresses(BOB, [A], CONNECTED_TTL)
    for number in range(2, 100):
        store.set_protocols(peer(number), ["/12345678/"])
    assert len(store.peers()) == 10
    assert store.protocols(BOB)


# --- metadata --------------------------------------------------------------------------------------


def test_values_of_any_kind_are_kept(store: Peerstore) -> None:
    store.put(BOB, "agent", "x")
    store.put(BOB, "score", 4.5)
    store.put(BOB, "score", 5)
    assert store.get(BOB, "agent") == "x"
    assert store.get(BOB, "score") == 5
    assert store.get(BOB, "nothing") is None


@pytest.mark.parametrize(("key", "value"), [("agent", "x" * 4097), ("agent", bytes(4097)), ("x" * 4097, 1)])
def test_a_huge_value_or_key_is_refused(store: Peerstore, key: str, value: object) -> None:
    with pytest.raises(ResourceLimitExceeded, match="value size: limit 4096"):
        store.put(BOB, key, value)
    assert store.peers() == []


def test_values_of_one_peer_are_bounded(store: Peerstore) -> None:
    for number in range(64):
        store.put(BOB, str(number), number)
    store.put(BOB, "5", "changed")
    with pytest.raises(ResourceLimitExceeded, match="values: limit 64"):
        store.put(BOB, "64", 64)


@pytest.mark.parametrize(
    "config", [PeerstoreConfig(max_metadata_peers=10), PeerstoreConfig(max_metadata_size=1000)], ids=["peers", "size"]
)
def test_all_values_together_are_bounded(config: PeerstoreConfig) -> None:
    store = MemoryPeerstore(clock=lambda: 0.0, config=config)
    for number in range(100):
        store.put(peer(number), "agent", "x" * 95)
    assert len(store.peers()) == 10


# --- metrics ---------------------------------------------------------------------------------------


def test_latency_is_a_moving_average(store: Peerstore) -> None:
    store.record_latency(BOB, 1.0)
    assert store.latency(BOB) == 1.0
    store.record_latency(BOB, 2.0)
    assert store.latency(BOB) == pytest.approx(1.1)


def test_latencies_are_bounded() -> None:
    store = MemoryPeerstore(clock=lambda: 0.0, config=PeerstoreConfig(max_latencies=10))
    for number in range(100):
        store.record_latency(peer(number), 0.1)
    assert len(store.peers()) == 10
