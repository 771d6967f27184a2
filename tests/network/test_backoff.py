"""Backoff: how long failed addresses rest, and that the memory of it is bounded."""

from __future__ import annotations

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.network.backoff import AddressBackoff, BackoffConfig
from tests.peer_ids import peer

ADDRESS = Multiaddr.parse("/ip4/1.2.3.4/tcp/1")
OTHER = Multiaddr.parse("/ip4/1.2.3.4/tcp/2")
ALICE, BOB = peer(1), peer(2)


def test_an_unknown_address_may_be_dialled_now() -> None:
    assert AddressBackoff().retry_after(ALICE, ADDRESS, 0.0) == 0


def test_the_rest_grows_with_the_square_of_failures_up_to_five_minutes() -> None:
    backoff = AddressBackoff()
    now, rests = 0.0, []
    for _ in range(20):
        rests.append(backoff.add(ALICE, ADDRESS, now))
        now += rests[-1]
    assert rests[:5] == [5, 6, 9, 14, 21]
    assert rests[-1] == 300


def test_an_address_rests_until_its_time_has_come() -> None:
    backoff = AddressBackoff()
    backoff.add(ALICE, ADDRESS, 100.0)
    assert backoff.retry_after(ALICE, ADDRESS, 101.0) == 4
    assert backoff.retry_after(ALICE, ADDRESS, 105.0) == 0
    assert backoff.retry_after(ALICE, OTHER, 101.0) == 0
    assert backoff.retry_after(BOB, ADDRESS, 101.0) == 0


def test_a_success_clears_the_address_alone() -> None:
    backoff = AddressBackoff()
    backoff.add(ALICE, ADDRESS, 0.0)
    backoff.add(ALICE, OTHER, 0.0)
    backoff.clear(ALICE, ADDRESS)
    backoff.clear(ALICE, ADDRESS)
    assert backoff.retry_after(ALICE, ADDRESS, 0.0) == 0
    assert backoff.retry_after(ALICE, OTHER, 0.0) > 0


def test_all_addresses_of_a_peer_can_be_cleared() -> None:
    backoff = AddressBackoff()
    for who in (ALICE, BOB):
        backoff.add(who, ADDRESS, 0.0)
        backoff.add(who, OTHER, 0.0)
    backoff.clear(ALICE)
    assert len(backoff) == 2
    assert backoff.retry_after(BOB, OTHER, 0.0) > 0


def test_a_failure_is_forgotten_after_twice_its_rest() -> None:
    backoff = AddressBackoff()
    backoff.add(ALICE, ADDRESS, 0.0)
    assert backoff.add(ALICE, ADDRESS, 10.0) == 5  # as if it were the first


def test_the_memory_is_bounded_and_the_longest_untouched_goes_first() -> None:
    backoff = AddressBackoff(BackoffConfig(max_entries=10))
    for number in range(50):
        backoff.add(peer(number), ADDRESS, 0.0)
        backoff.add(ALICE, OTHER, 0.0)
    assert len(backoff) == 10
    assert backoff.retry_after(ALICE, OTHER, 0.0) > 0
    assert backoff.retry_after(peer(0), ADDRESS, 0.0) == 0


def test_old_failures_are_collected_by_the_way() -> None:
    backoff = AddressBackoff()
    for number in range(100):
        backoff.add(peer(number), ADDRESS, 0.0)
    for number in range(100, 140):
        backoff.add(peer(number), ADDRESS, 60.0)
    assert len(backoff) == 40


def test_collecting_is_bounded_per_call() -> None:
    backoff = AddressBackoff()
    for number in range(10):
        backoff.add(peer(number), ADDRESS, 0.0)
    assert backoff.collect(9.0) == 0
    assert backoff.collect(60.0, limit=4) == 4
    assert len(backoff) == 6
