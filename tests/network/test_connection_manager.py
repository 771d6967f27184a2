"""The connection manager: whom it closes above the high watermark, and whom it never closes."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.muxer import ConnectionInfo
from py_p2pstack.core.types import Direction
from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.identity import PeerId, PrivateKey
from py_p2pstack.network.connection_manager import (
    ConnectionManager,
    ConnectionManagerConfig,
    ManagedConnection,
    decay_fixed,
    decay_linear,
)
from tests.peer_ids import peer

ADDRESS = Multiaddr.parse("/memory/1")
KEY = PrivateKey.from_seed(bytes(32)).public_key
SMALL = ConnectionManagerConfig(low_water=4, high_water=6)
OLD = 1000.0  # long after everybody's grace


class Connection:
    """A connection with a number for a peer."""

    def __init__(self, who: int, *, streams: int = 0, direction: Direction = Direction.INBOUND) -> None:
        self.remote_peer: PeerId = peer(who)
        self.streams = range(streams)
        self.closed = False
        self.info = ConnectionInfo(
            direction=direction,
            local_peer=peer(0),
            remote_peer=self.remote_peer,
            remote_public_key=KEY,
            local_address=ADDRESS,
            remote_address=ADDRESS,
            transport="memory",
            security="/noise",
            muxer="/yamux/1.0.0",
        )

    def close(self, code: int = 0) -> None:
        self.closed = True


def crowd(manager: ConnectionManager, numbers: range, *, now: float = 0.0) -> list[Connection]:
    connections = [Connection(number) for number in numbers]
    for connection in connections:
        manager.connected(connection, now)
    return connections


def numbers(connections: list[ManagedConnection]) -> list[int]:
    return [int.from_bytes(connection.remote_peer.to_bytes()[2:], "big") for connection in connections]


def test_nobody_is_closed_below_the_high_watermark() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 6))
    assert manager.connections_to_trim(OLD) == []


def test_trimming_goes_down_to_the_low_watermark() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 11))
    assert len(manager.connections_to_trim(OLD)) == 6


def test_the_default_watermarks_are_those_of_go_libp2p() -> None:
    manager = ConnectionManager()
    crowd(manager, range(1, 193))
    assert len(manager.connections_to_trim(OLD)) == 32


@pytest.mark.parametrize("config", [{"low_water": 0}, {"high_water": 0}])
def test_a_watermark_of_zero_turns_trimming_off(config: dict[str, int]) -> None:
    manager = ConnectionManager(ConnectionManagerConfig(**config))
    crowd(manager, range(1, 300))
    assert manager.connections_to_trim(OLD) == []


def test_the_least_valued_go_first() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 7))
    for number in (1, 2, 3, 4):
        manager.tag_peer(peer(number), "useful", 10)
    manager.tag_peer(peer(1), "rude", -20)
    manager.tag_peer(peer(6), "useful", 1)
    assert numbers(manager.connections_to_trim(OLD)) == [1, 5]


def test_among_equals_the_idle_then_theirs_then_the_less_busy_go_first() -> None:
    manager = ConnectionManager(ConnectionManagerConfig(low_water=1, high_water=2))
    for connection in (
        Connection(1, streams=2),
        Connection(2, streams=1),
        Connection(3, streams=5, direction=Direction.OUTBOUND),
        Connection(4, direction=Direction.OUTBOUND),
        Connection(5),
        Connection(6, streams=9, direction=Direction.OUTBOUND),
    ):
        manager.connected(connection, 0.0)
    assert numbers(manager.connections_to_trim(OLD)) == [5, 4, 2, 1, 3]


def test_all_connections_of_a_peer_go_together() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 6))
    twins = [Connection(9), Connection(9)]
    for twin in twins:
        manager.connected(twin, 0.0)
    for number in range(1, 6):
        manager.tag_peer(peer(number), "useful", 1)
    assert numbers(manager.connections_to_trim(OLD))[:2] == [9, 9]


def test_newcomers_have_a_minute_of_grace() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 7), now=100.0)
    assert manager.connections_to_trim(159.9) == []
    assert len(manager.connections_to_trim(160.0)) == 2


def test_a_flood_of_newcomers_drives_out_no_old_friend() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 5))  # as many as the low watermark lets stay
    crowd(manager, range(100, 200), now=OLD)
    assert manager.connections_to_trim(OLD + 1) == []


def test_protected_peers_stay_but_take_up_room() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 9))
    for number in range(1, 5):
        manager.protect(peer(number), "relay")
    assert sorted(numbers(manager.connections_to_trim(OLD))) == [5, 6, 7, 8]


def test_protection_holds_until_every_tag_is_taken_back() -> None:
    manager = ConnectionManager()
    manager.protect(peer(1), "a")
    manager.protect(peer(1), "b")
    manager.protect(peer(1), "b")
    assert manager.is_protected(peer(1))
    assert manager.is_protected(peer(1), "a")
    assert not manager.is_protected(peer(1), "c")
    assert manager.unprotect(peer(1), "a")
    assert manager.unprotect(peer(1), "never given")
    assert not manager.unprotect(peer(1), "b")
    assert not manager.unprotect(peer(1), "b")
    assert not manager.is_protected(peer(1))


def test_there_is_silence_between_two_trims() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 11))
    assert manager.connections_to_trim(OLD)
    assert manager.connections_to_trim(OLD + 9.9) == []
    assert manager.connections_to_trim(OLD + 10)


def test_closed_connections_are_not_closed_again() -> None:
    manager = ConnectionManager(SMALL)
    for connection in crowd(manager, range(1, 11))[:6]:
        connection.close()
    assert manager.connections_to_trim(OLD) == []


def test_connections_are_counted_once() -> None:
    manager = ConnectionManager()
    connection = Connection(1)
    manager.connected(connection, 0.0)
    manager.connected(connection, 0.0)
    manager.connected(Connection(1), 0.0)
    assert manager.connection_count == 2
    for _ in range(2):
        manager.disconnected(connection, 1.0)
    manager.disconnected(Connection(7), 1.0)
    assert manager.connection_count == 1
    assert repr(manager) == "<ConnectionManager 1 connections, 1 peers>"


def test_tags_go_with_the_last_connection_and_protection_stays() -> None:
    manager = ConnectionManager()
    first, second = Connection(1), Connection(1)
    manager.connected(first, 0.0)
    manager.connected(second, 0.0)
    manager.tag_peer(peer(1), "useful", 5)
    manager.protect(peer(1), "useful")
    manager.disconnected(first, 1.0)
    assert manager.tags(peer(1)) == {"useful": 5}
    manager.disconnected(second, 1.0)
    assert manager.tags(peer(1)) == {}
    assert manager.is_protected(peer(1))


def test_tags_put_on_before_the_connection_count() -> None:
    manager = ConnectionManager(SMALL)
    for number in range(1, 5):
        manager.tag_peer(peer(number), "expected", 1)
    crowd(manager, range(1, 9))
    assert sorted(numbers(manager.connections_to_trim(OLD))) == [5, 6, 7, 8]


def test_tags_are_set_changed_and_taken_off() -> None:
    manager = ConnectionManager()
    manager.tag_peer(peer(1), "a", 1)
    manager.tag_peer(peer(1), "a", 2)
    manager.upsert_tag(peer(1), "a", lambda value: value + 40)
    manager.upsert_tag(peer(1), "b", lambda value: value + 1)
    manager.upsert_tag(peer(2), "b", lambda value: value + 1)
    assert manager.tags(peer(1)) == {"a": 42, "b": 1}
    manager.untag_peer(peer(1), "a")
    manager.untag_peer(peer(3), "a")
    assert manager.tags(peer(1)) == manager.tags(peer(2)) == {"b": 1}


def test_decaying_tags_lose_value_by_the_minute_and_come_off_at_zero() -> None:
    manager = ConnectionManager()
    manager.connected(Connection(1), 0.0)
    tag = manager.register_decaying_tag("recent", 60.0, decay_fixed(2), 0.0)
    tag.bump(peer(1), 3)
    tag.bump(peer(1), 2)
    seen = []
    for now in (59.0, 60.0, 61.0, 120.0, 180.0):
        manager.connections_to_trim(now)
        seen.append(manager.tags(peer(1)))
    assert seen == [{"recent": 5}, {"recent": 3}, {"recent": 3}, {"recent": 1}, {}]


def test_decaying_tags_count_in_the_value() -> None:
    manager = ConnectionManager(SMALL)
    crowd(manager, range(1, 7))
    tag = manager.register_decaying_tag("recent", 6000.0, decay_linear(0.5), 0.0)
    for number in range(1, 5):
        tag.bump(peer(number), 100)
    assert sorted(numbers(manager.connections_to_trim(OLD))) == [5, 6]
    manager.connections_to_trim(6000.0)
    assert manager.tags(peer(1)) == {"recent": 50}


def test_a_decaying_tag_can_be_taken_off_and_closed() -> None:
    manager = ConnectionManager()
    tag = manager.register_decaying_tag("recent", 1.0, decay_fixed(1), 0.0)
    assert tag.interval == 60.0  # never quicker than the resolution
    for number in (1, 2):
        tag.bump(peer(number), 5)
    tag.remove(peer(1))
    tag.remove(peer(3))
    assert (manager.tags(peer(1)), manager.tags(peer(2))) == ({}, {"recent": 5})
    with pytest.raises(ValueError, match="already"):
        manager.register_decaying_tag("recent", 60.0, decay_fixed(1), 0.0)
    tag.close()
    tag.close()
    assert manager.tags(peer(2)) == {}
    manager.register_decaying_tag("recent", 60.0, decay_fixed(1), 0.0)


def test_tags_of_one_peer_are_bounded() -> None:
    manager = ConnectionManager(ConnectionManagerConfig(max_tags_per_peer=3))
    tag = manager.register_decaying_tag("recent", 60.0, decay_fixed(1), 0.0)
    for name in "abc":
        manager.tag_peer(peer(1), name, 1)
        manager.protect(peer(1), name)
    manager.tag_peer(peer(1), "a", 2)
    with pytest.raises(ResourceLimitExceeded, match="tags of a peer"):
        manager.tag_peer(peer(1), "d", 1)
    with pytest.raises(ResourceLimitExceeded, match="tags of a peer"):
        tag.bump(peer(1), 1)
    with pytest.raises(ResourceLimitExceeded, match="protecting tags"):
        manager.protect(peer(1), "d")


def test_peers_tagged_before_a_connection_are_bounded() -> None:
    manager = ConnectionManager(ConnectionManagerConfig(max_unconnected=10))
    for number in range(1, 100):
        manager.tag_peer(peer(number), "expected", 1)
        manager.tag_peer(peer(1), "expected", 1)  # touched again and again: it stays
    assert sum(bool(manager.tags(peer(number))) for number in range(1, 100)) == 10
    assert manager.tags(peer(1))


def test_protected_peers_are_bounded() -> None:
    manager = ConnectionManager(ConnectionManagerConfig(max_protected=2))
    manager.protect(peer(1), "a")
    manager.protect(peer(2), "a")
    with pytest.raises(ResourceLimitExceeded, match="protected peers"):
        manager.protect(peer(3), "a")
    manager.unprotect(peer(1), "a")
    manager.protect(peer(3), "a")
