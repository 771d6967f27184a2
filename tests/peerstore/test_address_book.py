"""The address book: lifetimes, bounds, and what makes room for what."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.peerstore import (
    CONNECTED_TTL,
    DISCOVERED_TTL,
    PERMANENT_TTL,
    RECENTLY_CONNECTED_TTL,
    TEMPORARY_TTL,
)
from py_p2pstack.peerstore.address_book import AddressBook
from py_p2pstack.peerstore.config import PeerstoreConfig
from tests.peer_ids import peer

ALICE, BOB, CAROL = peer(1), peer(2), peer(3)


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def at(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/192.0.2.1/tcp/{number}")


A, B, C = at(1), at(2), at(3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> AddressBook:
    return AddressBook(PeerstoreConfig(), clock)


def small(clock: Clock, **bounds: int) -> AddressBook:
    return AddressBook(PeerstoreConfig(**bounds), clock)


# --- lifetimes -------------------------------------------------------------------------------------


def test_an_address_lives_as_long_as_told(book: AddressBook, clock: Clock) -> None:
    book.add_addresses(ALICE, [A], 10.0)
    clock.now = 9.9
    assert book.addresses(ALICE) == [A]
    assert book.peers() == [ALICE]
    clock.now = 10.0
    assert book.addresses(ALICE) == []
    assert book.peers() == []


def test_the_best_lived_come_first(book: AddressBook) -> None:
    book.add_addresses(ALICE, [A], TEMPORARY_TTL)
    book.add_addresses(ALICE, [B], CONNECTED_TTL)
    book.add_addresses(ALICE, [C], DISCOVERED_TTL)
    assert book.addresses(ALICE) == [B, C, A]


def test_adding_never_shortens_a_life(book: AddressBook, clock: Clock) -> None:
    book.add_addresses(ALICE, [A], 100.0)
    book.add_addresses(ALICE, [A], 10.0)
    clock.now = 99.0
    assert book.addresses(ALICE) == [A]
    book.add_addresses(ALICE, [A], 100.0)
    clock.now = 198.0
    book.collect(clock.now)
    assert book.addresses(ALICE) == [A]
    clock.now = 199.0
    assert book.collect(clock.now) == 1


def test_setting_replaces_the_life_and_zero_removes(book: AddressBook, clock: Clock) -> None:
    book.add_addresses(ALICE, [A, B], 100.0)
    book.set_addresses(ALICE, [A, C], 10.0)
    book.set_addresses(ALICE, [B, at(9)], 0)
    clock.now = 5.0
    assert set(book.addresses(ALICE)) == {A, C}
    clock.now = 10.0
    assert book.addresses(ALICE) == []
    assert book.collect(clock.now) == 2
    assert len(book) == 0


@pytest.mark.parametrize("ttl", [0.0, -1.0])
def test_adding_without_a_life_adds_nothing(book: AddressBook, ttl: float) -> None:
    book.add_addresses(ALICE, [A], ttl)
    assert book.peers() == []


def test_the_disconnect_turns_connected_into_recently_connected(book: AddressBook, clock: Clock) -> None:
    book.add_addresses(ALICE, [A], CONNECTED_TTL)
    book.add_addresses(ALICE, [B], TEMPORARY_TTL)
    assert book.is_connected(ALICE)
    clock.now = 100.0
    book.update_ttl(ALICE, CONNECTED_TTL, RECENTLY_CONNECTED_TTL)
    book.update_ttl(BOB, CONNECTED_TTL, RECENTLY_CONNECTED_TTL)
    assert not book.is_connected(ALICE)
    clock.now = 100.0 + RECENTLY_CONNECTED_TTL - 1
    assert book.addresses(ALICE) == [A]
    clock.now += 1
    assert book.addresses(ALICE) == []


def test_updating_to_zero_removes(book: AddressBook) -> None:
    book.add_addresses(ALICE, [A], CONNECTED_TTL)
    book.add_addresses(ALICE, [B], TEMPORARY_TTL)
    book.update_ttl(ALICE, TEMPORARY_TTL, 0)
    assert book.addresses(ALICE) == [A]


def test_permanent_addresses_outlive_everything(book: AddressBook, clock: Clock) -> None:
    book.add_addresses(ALICE, [A], TEMPORARY_TTL)
    book.add_addresses(ALICE, [A], PERMANENT_TTL)
    clock.now = 1e14
    book.collect(clock.now)
    assert book.addresses(ALICE) == [A]
    book.set_addresses(ALICE, [A], 1.0)
    clock.now += 1
    assert book.collect(clock.now) == 1


def test_addresses_can_be_cleared(book: AddressBook) -> None:
    book.add_addresses(ALICE, [A, B], CONNECTED_TTL)
    book.add_addresses(ALICE, [C], TEMPORARY_TTL)
    book.clear_addresses(ALICE)
    book.clear_addresses(BOB)
    assert book.addresses(ALICE) == []
    assert len(book) == 0


# --- whose addresses -------------------------------------------------------------------------------


def test_the_peers_own_id_is_taken_off_and_a_foreign_one_refused(book: AddressBook) -> None:
    book.add_addresses(ALICE, [A.with_peer(ALICE), B.with_peer(BOB)], 10.0)
    book.set_addresses(ALICE, [C.with_peer(BOB)], 10.0)
    assert book.addresses(ALICE) == [A]


def test_an_address_that_is_only_an_id_is_none(book: AddressBook) -> None:
    book.add_addresses(ALICE, [Multiaddr.parse(f"/p2p/{ALICE}")], 10.0)
    assert book.peers() == []


def test_a_relay_keeps_its_own_id(book: AddressBook) -> None:
    through_bob = Multiaddr.parse(f"{A}/p2p/{BOB}/p2p-circuit")
    book.add_addresses(ALICE, [through_bob.with_peer(ALICE)], 10.0)
    assert book.addresses(ALICE) == [through_bob]


# --- bounds ----------------------------------------------------------------------------------------


def test_one_peer_has_so_many_addresses_and_the_soonest_to_expire_goes(clock: Clock) -> None:
    book = small(clock, max_addresses_per_peer=3)
    book.add_addresses(ALICE, [A], 20.0)
    book.add_addresses(ALICE, [B], 10.0)
    book.add_addresses(ALICE, [C], CONNECTED_TTL)
    book.add_addresses(ALICE, [at(4)], 15.0)
    assert book.addresses(ALICE) == [C, A, at(4)]
    book.add_addresses(ALICE, [at(5)], 5.0)  # it would be the first to go: it does not come in
    assert book.addresses(ALICE) == [C, A, at(4)]
    book.add_addresses(ALICE, [at(n) for n in range(10, 99)], CONNECTED_TTL)
    assert len(book.addresses(ALICE)) == 3
    assert C in book.addresses(ALICE)


def test_all_addresses_together_are_bounded_and_the_soonest_to_expire_goes(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=10)
    for number in range(100):
        book.add_addresses(peer(number), [A], 100.0 + number)
    assert len(book) == 10
    assert book.peers() == [peer(number) for number in range(90, 100)]


def test_hearsay_does_not_drive_out_what_lives_longer(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=5)
    for number in range(5):
        book.add_addresses(peer(number), [A], RECENTLY_CONNECTED_TTL)
    for number in range(100, 200):
        book.add_addresses(peer(number), [A], TEMPORARY_TTL)
        book.set_addresses(peer(number), [A], TEMPORARY_TTL)
    assert book.peers() == [peer(number) for number in range(5)]


def test_addresses_of_connected_peers_are_driven_out_last(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=3)
    book.add_addresses(ALICE, [A], CONNECTED_TTL)
    book.add_addresses(ALICE, [B], 1.0)
    book.add_addresses(BOB, [A, B], 2.0)
    book.add_addresses(CAROL, [A, B], 100.0)
    assert set(book.addresses(ALICE)) == {A, B}
    assert book.addresses(BOB) == []
    for number in range(10, 20):
        book.add_addresses(peer(number), [A], 1000.0)
    assert set(book.addresses(ALICE)) == {A, B}
    assert len(book) == 3


def test_when_only_connected_peers_could_make_room_the_newcomer_stays_out(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=20)
    for number in range(20):
        book.add_addresses(peer(number), [A], CONNECTED_TTL)
        book.add_addresses(peer(number), [B], 10.0)
    book.add_addresses(peer(99), [A], 100.0)
    assert book.addresses(peer(99)) == []
    assert len(book) == 20


def test_permanent_addresses_are_counted_and_never_driven_out(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=3)
    book.add_addresses(ALICE, [A, B, C], PERMANENT_TTL)
    book.add_addresses(BOB, [A], TEMPORARY_TTL)
    assert book.addresses(BOB) == []
    assert len(book.addresses(ALICE)) == 3


def test_a_life_that_was_lengthened_protects_from_being_driven_out(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=2)
    book.add_addresses(ALICE, [A], 10.0)
    book.add_addresses(BOB, [A], 20.0)
    book.add_addresses(ALICE, [A], 100.0)
    book.add_addresses(CAROL, [A], 50.0)
    assert book.peers() == [ALICE, CAROL]


def test_removed_addresses_are_not_driven_out_again(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=2)
    book.add_addresses(ALICE, [A], 10.0)
    book.set_addresses(ALICE, [A], 0)
    for who, ttl in ((ALICE, 20.0), (BOB, 30.0), (CAROL, 40.0)):
        book.add_addresses(who, [B], ttl)
    assert book.peers() == [BOB, CAROL]


def test_a_disconnect_into_a_full_book_makes_room_or_forgets(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=1)
    book.add_addresses(ALICE, [A], CONNECTED_TTL)
    book.add_addresses(BOB, [A], TEMPORARY_TTL)
    book.update_ttl(ALICE, CONNECTED_TTL, RECENTLY_CONNECTED_TTL)
    assert book.peers() == [ALICE]
    book.add_addresses(BOB, [B], CONNECTED_TTL)
    book.update_ttl(BOB, CONNECTED_TTL, TEMPORARY_TTL)
    assert book.peers() == [ALICE]
    assert len(book) == 1


def test_addresses_of_live_connections_are_not_counted(clock: Clock) -> None:
    book = small(clock, max_unconnected_addresses=1)
    for number in range(50):
        book.add_addresses(peer(number), [A], CONNECTED_TTL)
    assert len(book) == 0
    assert len(book.peers()) == 50


# --- clearing away ---------------------------------------------------------------------------------


def test_expired_addresses_are_cleared_away_by_the_way(clock: Clock) -> None:
    book = small(clock, collected_per_call=8)
    for number in range(100):
        book.add_addresses(peer(number), [A], 10.0)
    clock.now = 11.0
    for number in range(13):
        book.add_addresses(ALICE, [at(number + 1)], 10.0)
    assert len(book) == 13


def test_clearing_away_is_bounded_per_call(clock: Clock, book: AddressBook) -> None:
    for number in range(100):
        book.add_addresses(peer(number), [A], 10.0)
    clock.now = 11.0
    assert book.collect(clock.now, limit=30) == 30
    assert book.collect(clock.now) == 64
    assert book.collect(clock.now) == 6


def test_changing_lives_over_and_over_leaves_no_litter(clock: Clock, book: AddressBook) -> None:
    for turn in range(5000):
        book.set_addresses(ALICE, [A], 1000.0 - turn % 2)
        book.add_addresses(BOB, [B], CONNECTED_TTL)
        book.update_ttl(BOB, CONNECTED_TTL, TEMPORARY_TTL)
    assert len(book) == 2
    assert len(book._heap) < 100


class Lives(RuleBasedStateMachine):
    """Against a plain dict that is never full: what is given out is what should live, and counts are true."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.book = AddressBook(PeerstoreConfig(collected_per_call=2), self.clock)
        self.model: dict[tuple[int, int], tuple[float, float]] = {}

    who = st.integers(1, 3)
    what = st.integers(1, 4)
    ttl = st.sampled_from([1.0, 5.0, 20.0, CONNECTED_TTL, PERMANENT_TTL])

    @rule(who=who, what=what, ttl=ttl)
    def add(self, who: int, what: int, ttl: float) -> None:
        self.book.add_addresses(peer(who), [at(what)], ttl)
        old = self._live().get((who, what), (0.0, 0.0))
        self.model[who, what] = (max(old[0], ttl), max(old[1], self.clock.now + ttl))

    @rule(who=who, what=what, ttl=ttl | st.just(0.0))
    def set(self, who: int, what: int, ttl: float) -> None:
        self.book.set_addresses(peer(who), [at(what)], ttl)
        if ttl:
            self.model[who, what] = (ttl, self.clock.now + ttl)
        else:
            self.model.pop((who, what), None)

    @rule(who=who, old=ttl, new=ttl | st.just(0.0))
    def update(self, who: int, old: float, new: float) -> None:
        self.book.collect(self.clock.now, 1000)
        self.book.update_ttl(peer(who), old, new)
        for key, (ttl, _) in list(self._live().items()):
            if key[0] == who and ttl == old:
                if new:
                    self.model[key] = (new, self.clock.now + new)
                else:
                    del self.model[key]

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0, 30.0]))
    def time_passes(self, seconds: float) -> None:
        self.book.collect(self.clock.now, 1000)
        self.clock.now += seconds
        self.book.collect(self.clock.now, 1000)

    def _live(self) -> dict[tuple[int, int], tuple[float, float]]:
        self.model = {key: life for key, life in self.model.items() if life[1] > self.clock.now}
        return self.model

    @invariant()
    def the_living_are_given_out(self) -> None:
        live = self._live()
        for who in (1, 2, 3):
            expected = {at(what) for owner, what in live if owner == who}
            assert set(self.book.addresses(peer(who))) == expected
        assert set(self.book.peers()) == {peer(who) for who, _ in live}
        assert len(self.book) == sum(ttl != CONNECTED_TTL for ttl, _ in live.values())


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=60, stateful_step_count=30)
