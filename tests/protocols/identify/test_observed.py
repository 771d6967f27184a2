"""Claims about observed addresses: believed only when enough strangers agree, for as long as they are there."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.protocols.identify.observed import MAX_PER_LOCAL_ADDRESS, ObservedAddresses

LOCAL = Multiaddr.parse("/ip4/192.168.1.2/tcp/4001")
PUBLIC = Multiaddr.parse("/ip4/8.8.4.4/tcp/4001")


def remote(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/9.9.{number}.1/tcp/1234")


def test_four_observers_make_an_address_believed() -> None:
    observed = ObservedAddresses()
    for number in range(4):
        assert observed.believed() == []
        observed.record(number, LOCAL, remote(number), PUBLIC)
    assert observed.believed() == [PUBLIC]


def test_one_observer_with_many_connections_is_one_voice() -> None:
    observed = ObservedAddresses()
    for connection in range(100):
        observed.record(connection, LOCAL, remote(1), PUBLIC)
    assert observed.believed() == []


def test_an_ipv6_neighbourhood_is_one_voice() -> None:
    observed = ObservedAddresses()
    for number in range(100):
        observed.record(number, LOCAL, Multiaddr.parse(f"/ip6/2001:db9::{number:x}/tcp/1"), PUBLIC)
    assert observed.believed() == []


def test_an_observation_ends_with_its_connection() -> None:
    observed = ObservedAddresses()
    for number in range(4):
        observed.record(number, LOCAL, remote(number), PUBLIC)
    observed.forget(2)
    observed.forget("unknown")
    assert observed.believed() == []


def test_no_more_than_three_are_believed_for_one_local_address_the_best_seen_first() -> None:
    observed = ObservedAddresses()
    connection = 0
    for port in range(5):
        for number in range(4 + port):
            connection += 1
            observed.record(connection, LOCAL, remote(number), Multiaddr.parse(f"/ip4/8.8.4.4/tcp/{port + 1}"))
    believed = [str(address) for address in observed.believed()]
    assert believed == [f"/ip4/8.8.4.4/tcp/{port}" for port in (5, 4, 3)]
    assert len(believed) == MAX_PER_LOCAL_ADDRESS


def test_what_says_nothing_is_not_counted() -> None:
    observed = ObservedAddresses(threshold=1)
    loopback = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
    private = Multiaddr.parse("/ip4/10.0.0.9/tcp/1")
    observed.record(1, LOCAL, loopback, PUBLIC)  # a neighbour on this machine
    observed.record(2, LOCAL, remote(1), loopback)  # a remote that sees us as itself
    observed.record(3, LOCAL, remote(1), private)  # a public peer that sees a private address
    observed.record(4, LOCAL, remote(1), Multiaddr.parse("/ip4/8.8.4.4/udp/1/quic-v1"))  # another transport
    observed.record(5, LOCAL, Multiaddr.parse("/memory/1"), PUBLIC)
    assert observed.believed() == []
    assert len(observed) == 0


def test_the_oldest_observation_makes_room_for_the_newest() -> None:
    observed = ObservedAddresses(threshold=1, max_observations=3)
    for number in range(5):
        observed.record(number, LOCAL, remote(number), Multiaddr.parse(f"/ip4/8.8.4.4/tcp/{number + 1}"))
    assert len(observed) == 3
    assert Multiaddr.parse("/ip4/8.8.4.4/tcp/1") not in observed.believed()
