"""Connections per IP: counted by subnet, slowed by a token bucket, and the memory of it bounded."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from py_p2pstack.errors import ResourceLimitExceeded
from py_p2pstack.network.ip_limits import IpLimiter, IpLimits, SubnetLimit

ALICE = ip_address("192.0.2.1")
STEADY = IpLimits(ipv4=(SubnetLimit(prefix_length=32, connections=1000, rate=0.2, burst=16),))


def test_one_ipv4_address_has_eight_connections() -> None:
    limiter = IpLimiter(IpLimits())
    places = [limiter.reserve(ALICE, 0.0, inbound=True) for _ in range(8)]
    with pytest.raises(ResourceLimitExceeded, match=r"ip 192\.0\.2\.1/32: limit 8 reached \(9 asked for\)"):
        limiter.reserve(ALICE, 0.0, inbound=True)
    limiter.reserve(ip_address("192.0.2.2"), 0.0, inbound=True)
    limiter.release(places.pop())
    limiter.reserve(ALICE, 0.0, inbound=True)


def test_outbound_connections_take_places_but_no_tokens() -> None:
    limiter = IpLimiter(IpLimits())
    for _ in range(100):
        limiter.release(limiter.reserve(ALICE, 0.0, inbound=False))
    places = [limiter.reserve(ALICE, 0.0, inbound=False) for _ in range(8)]
    with pytest.raises(ResourceLimitExceeded):
        limiter.reserve(ALICE, 0.0, inbound=True)
    assert len(places) == 8
    assert limiter.tracked == 0


def test_an_ipv6_customer_is_a_56_and_an_organisation_a_48() -> None:
    limiter = IpLimiter(IpLimits())
    for host in range(8):
        limiter.reserve(ip_address(f"2001:db8:0:ff:{host}::1"), 0.0, inbound=True)
    with pytest.raises(ResourceLimitExceeded, match="/56"):
        limiter.reserve(ip_address("2001:db8:0:1::1"), 0.0, inbound=True)
    for customer in range(1, 8):
        for _ in range(8):
            limiter.reserve(ip_address(f"2001:db8:0:{customer:x}00::1"), 0.0, inbound=True)
    with pytest.raises(ResourceLimitExceeded, match="/48: limit 64"):
        limiter.reserve(ip_address("2001:db8:0:a00::1"), 0.0, inbound=True)
    limiter.reserve(ip_address("2001:db8:1::1"), 0.0, inbound=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_exempt(address: str) -> None:
    limiter = IpLimiter(IpLimits())
    for _ in range(200):
        assert limiter.reserve(ip_address(address), 0.0, inbound=True) == ()
    assert len(limiter) == limiter.tracked == 0


def test_ipv4_in_ipv6_clothes_is_the_same_address() -> None:
    limiter = IpLimiter(IpLimits())
    for _ in range(4):
        limiter.reserve(ALICE, 0.0, inbound=True)
        limiter.reserve(ip_address(f"::ffff:{ALICE}"), 0.0, inbound=True)
    with pytest.raises(ResourceLimitExceeded):
        limiter.reserve(ALICE, 0.0, inbound=True)


def test_a_burst_of_sixteen_then_one_connection_each_five_seconds() -> None:
    limiter = IpLimiter(STEADY)
    for _ in range(16):
        limiter.release(limiter.reserve(ALICE, 0.0, inbound=True))
    with pytest.raises(ResourceLimitExceeded, match="ip rate"):
        limiter.reserve(ALICE, 4.9, inbound=True)
    limiter.reserve(ALICE, 5.1, inbound=True)
    with pytest.raises(ResourceLimitExceeded):
        limiter.reserve(ALICE, 5.2, inbound=True)


def test_a_quiet_address_saves_up_no_more_than_the_burst() -> None:
    limiter = IpLimiter(STEADY)
    limiter.reserve(ALICE, 0.0, inbound=True)
    for _ in range(16):
        limiter.reserve(ALICE, 10_000.0, inbound=True)
    with pytest.raises(ResourceLimitExceeded):
        limiter.reserve(ALICE, 10_000.0, inbound=True)


def test_a_refusal_takes_neither_place_nor_token() -> None:
    limits = IpLimits(
        ipv6=(
            SubnetLimit(prefix_length=64, connections=9, rate=0.2, burst=9),
            SubnetLimit(prefix_length=48, connections=9, rate=0.2, burst=1),
        )
    )
    limiter = IpLimiter(limits)
    limiter.release(limiter.reserve(ip_address("2001:db8::1"), 0.0, inbound=True))
    with pytest.raises(ResourceLimitExceeded, match="/48"):
        limiter.reserve(ip_address("2001:db8:0:1::1"), 0.0, inbound=True)
    assert len(limiter) == 0
    assert limiter.tracked == 2  # the /64 and the /48 of the first; the second's /64 is not remembered


def test_released_subnets_are_forgotten() -> None:
    limiter = IpLimiter(IpLimits())
    for number in range(50):
        limiter.release(limiter.reserve(ip_address(f"2001:db8:{number:x}::1"), 0.0, inbound=True))
    assert len(limiter) == 0


def test_the_memory_of_rates_is_bounded() -> None:
    limiter = IpLimiter(IpLimits(max_tracked=10))
    for number in range(100):
        limiter.reserve(ip_address(f"192.0.2.{number}"), 0.0, inbound=True)
    assert limiter.tracked == 10


def test_full_buckets_are_forgotten_by_the_way() -> None:
    limiter = IpLimiter(IpLimits())
    for number in range(100):
        limiter.reserve(ip_address(f"192.0.2.{number}"), 0.0, inbound=True)
    for number in range(30):
        limiter.reserve(ip_address(f"198.51.100.{number}"), 100.0, inbound=True)
    assert limiter.tracked == 30


def test_subnets_can_be_exempt_or_without_a_rate() -> None:
    limits = IpLimits(
        ipv4=(SubnetLimit(prefix_length=24, connections=50, rate=0, burst=0),),
        exempt=(ip_network("10.0.0.0/8"),),
    )
    limiter = IpLimiter(limits)
    for _ in range(50):
        limiter.reserve(ALICE, 0.0, inbound=True)
        limiter.reserve(ip_address("10.1.2.3"), 0.0, inbound=True)
    with pytest.raises(ResourceLimitExceeded):
        limiter.reserve(ip_address("192.0.2.99"), 0.0, inbound=True)
