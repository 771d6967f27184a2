"""Signed peer records: only genuine ones, only newer ones, and never more than fit (CVE-2023-40583)."""

from __future__ import annotations

import pytest

from py_p2pstack.addresses import Multiaddr
from py_p2pstack.core.peerstore import CONNECTED_TTL
from py_p2pstack.errors import RecordError
from py_p2pstack.identity import Envelope, PeerId, PeerRecord, PrivateKey
from py_p2pstack.peerstore.address_book import AddressBook
from py_p2pstack.peerstore.config import PeerstoreConfig
from tests.peerstore.test_address_book import Clock, at

KEYS = [PrivateKey.from_seed(bytes([number] * 32)) for number in range(40)]
KEY = KEYS[0]


def id_of(key: PrivateKey) -> PeerId:
    return key.public_key.peer_id()


ALICE = id_of(KEY)


def record(seq: int, *addresses: Multiaddr, key: PrivateKey = KEY) -> Envelope:
    return PeerRecord(id_of(key), seq, tuple(address.to_bytes() for address in addresses)).seal(key)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> AddressBook:
    return AddressBook(PeerstoreConfig(), clock)


def test_a_genuine_record_is_taken_with_its_addresses(book: AddressBook) -> None:
    envelope = record(1, at(1), at(2))
    assert book.consume_peer_record(envelope, 100.0)
    assert set(book.addresses(ALICE)) == {at(1), at(2)}
    assert book.peer_record(ALICE) is envelope
    assert book.signed_records == 1


def test_a_newer_record_replaces_the_older_and_what_it_no_longer_names(book: AddressBook) -> None:
    book.consume_peer_record(record(1, at(1), at(2), at(3)), 100.0)
    book.add_addresses(ALICE, [at(2)], CONNECTED_TTL)
    book.add_addresses(ALICE, [at(9)], 100.0)
    newer = record(2, at(3), at(4))
    assert book.consume_peer_record(newer, 100.0)
    assert book.peer_record(ALICE) is newer
    # 1 is gone; 2 is in use; 9 was told by somebody else
    assert set(book.addresses(ALICE)) == {at(2), at(3), at(4), at(9)}


def test_an_older_record_is_not_taken(book: AddressBook) -> None:
    newer = record(2, at(1))
    book.consume_peer_record(newer, 100.0)
    assert not book.consume_peer_record(record(1, at(2)), 100.0)
    assert book.addresses(ALICE) == [at(1)]
    assert book.peer_record(ALICE) is newer


def test_the_same_record_again_lengthens_lives(book: AddressBook, clock: Clock) -> None:
    book.consume_peer_record(record(1, at(1)), 100.0)
    clock.now = 90.0
    assert book.consume_peer_record(record(1, at(1)), 100.0)
    clock.now = 150.0
    assert book.addresses(ALICE) == [at(1)]


def test_a_forged_record_is_refused_even_beside_a_genuine_one(book: AddressBook) -> None:
    genuine = record(1, at(1))
    book.consume_peer_record(genuine, 100.0)
    for forged in (
        Envelope(genuine.public_key, genuine.payload_type, record(2, at(6)).payload, genuine.signature),
        Envelope(genuine.public_key, genuine.payload_type, genuine.payload, bytes(64)),
        Envelope(KEYS[1].public_key, genuine.payload_type, genuine.payload, genuine.signature),
        Envelope.seal(KEYS[1], "libp2p-peer-record", genuine.payload_type, genuine.payload),
    ):
        with pytest.raises(RecordError):
            book.consume_peer_record(forged, 100.0)
    assert book.addresses(ALICE) == [at(1)]
    assert book.peers() == [ALICE]


def test_addresses_that_make_no_sense_are_left_out(book: AddressBook) -> None:
    envelope = PeerRecord(
        ALICE, 1, (at(1).to_bytes(), b"", b"\xff\xff\x7f", at(2).with_peer(id_of(KEYS[1])).to_bytes())
    ).seal(KEY)
    assert book.consume_peer_record(envelope, 100.0)
    assert book.addresses(ALICE) == [at(1)]


def test_a_record_without_usable_addresses_or_life_is_not_kept(book: AddressBook) -> None:
    assert not book.consume_peer_record(record(1), 100.0)
    assert not book.consume_peer_record(record(1, at(1)), 0.0)
    assert book.signed_records == 0
    assert book.peers() == []


def test_a_record_goes_with_the_last_address(book: AddressBook, clock: Clock) -> None:
    book.consume_peer_record(record(1, at(1)), 100.0)
    clock.now = 100.0
    assert book.peer_record(ALICE) is None
    book.collect(clock.now)
    assert book.signed_records == 0
    book.consume_peer_record(record(1, at(1)), 100.0)
    book.clear_addresses(ALICE)
    assert book.signed_records == 0


def test_a_record_names_no_more_addresses_than_a_peer_may_have(clock: Clock) -> None:
    book = AddressBook(PeerstoreConfig(max_addresses_per_peer=4), clock)
    assert book.consume_peer_record(record(1, *(at(number) for number in range(1, 50))), 100.0)
    assert len(book.addresses(ALICE)) == 4


def test_a_record_that_is_too_large_is_refused_before_it_is_verified(book: AddressBook) -> None:
    envelope = Envelope(KEY.public_key, b"\x03\x01", bytes(8192), bytes(64))
    with pytest.raises(RecordError, match="8256 bytes; the limit is 8192"):
        book.consume_peer_record(envelope, 100.0)


@pytest.mark.parametrize(
    "config",
    [PeerstoreConfig(max_signed_records=10), PeerstoreConfig(max_signed_record_bytes=4500)],
    ids=["number", "bytes"],
)
def test_records_do_not_pile_up_and_those_of_connected_peers_stay(clock: Clock, config: PeerstoreConfig) -> None:
    book = AddressBook(config, clock)
    book.consume_peer_record(record(1, at(1)), 100.0)
    book.add_addresses(ALICE, [at(1)], CONNECTED_TTL)
    for key in KEYS[1:]:
        assert book.consume_peer_record(record(1, at(1), key=key), 100.0)
    assert 8 <= book.signed_records <= 12
    assert book.peer_record(ALICE) is not None
    assert book.peer_record(id_of(KEYS[1])) is None
    assert book.addresses(id_of(KEYS[1])) == [at(1)]
