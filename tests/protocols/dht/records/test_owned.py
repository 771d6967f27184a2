"""Owned records: only the owner makes them, they never go back, and they fit their key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.errors import InvalidRecord
from py_p2pstack.identity import Envelope, KeyType, PeerId, PrivateKey
from py_p2pstack.protocols.dht.records.owned import (
    MAX_NAME,
    MAX_SEQUENCE,
    MAX_SIZE,
    OwnedRecord,
    OwnedValidator,
    key_of,
    split_key,
)
from py_p2pstack.protocols.dht.validators import default_validators, public_validators
from py_p2pstack.wire.pb.owned_pb2 import OwnedRecord as Message

NOW = 1_800_000_000.0
ALICE, BOB = PrivateKey.from_seed(b"alice" + bytes(27)), PrivateKey.from_seed(b"bob" + bytes(29))
ALICES, BOBS = ALICE.public_key.peer_id(), BOB.public_key.peer_id()
VALIDATOR = OwnedValidator()
DOMAIN, PAYLOAD_TYPE = "p2pstack-owned-record", b"/p2pstack/owned-record"


def made(sequence: int = 1, value: bytes = b"hello", *, expires: float | None = None) -> bytes:
    return OwnedRecord.create(ALICE, "profile", value, sequence, expires=expires)[1]


def signed(payload: bytes, *, by: PrivateKey = ALICE, domain: str = DOMAIN, kind: bytes = PAYLOAD_TYPE) -> bytes:
    return Envelope.seal(by, domain, kind, payload).encode()


def message(**fields: Any) -> bytes:
    return Message(**{"key": key_of(ALICES, "profile"), "sequence": 1, "value": b"x", **fields}).SerializeToString()


PROFILE = key_of(ALICES, "profile")

# --- making and checking --------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", KeyType)
@pytest.mark.parametrize("name", ["", "profile", "a/b/c", "é" * (MAX_NAME // 2)])
def test_whoever_holds_the_key_owns_the_names_under_it(key_type: KeyType, name: str) -> None:
    private_key = PrivateKey.generate(key_type)
    key, value = OwnedRecord.create(private_key, name, b"hello", 7, expires=NOW + 60)
    default_validators().validate(key, value, NOW)
    owner = private_key.public_key.peer_id()
    record = OwnedRecord(owner=owner, name=name, value=b"hello", sequence=7, expires=int(NOW) + 60)
    assert OwnedRecord.verify(key, value, NOW) == OwnedRecord.parse(value) == record
    assert record.key == key


@settings(max_examples=50)
@given(st.text(max_size=MAX_NAME // 4), st.binary(max_size=500), st.integers(0, MAX_SEQUENCE), st.integers(1, 1 << 60))
def test_what_is_sealed_is_read(name: str, value: bytes, sequence: int, expires: int) -> None:
    try:
        key = key_of(ALICES, name)
    except InvalidRecord:  # lone surrogates
        return
    record = OwnedRecord(owner=ALICES, name=name, value=value, sequence=sequence, expires=expires)
    assert OwnedRecord.verify(key, record.seal(ALICE), 0.0) == record


def test_a_record_is_sealed_by_its_owner_only() -> None:
    with pytest.raises(InvalidRecord, match="by its owner"):
        OwnedRecord(owner=ALICES, value=b"", sequence=0).seal(BOB)


def test_a_foreign_signer_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="signed by"):
        VALIDATOR.validate(PROFILE, signed(message(), by=BOB), NOW)


def test_a_record_under_another_key_is_refused() -> None:
    value = made()
    VALIDATOR.validate(PROFILE, value, NOW)
    for key in (key_of(ALICES), key_of(ALICES, "other"), key_of(BOBS, "profile")):
        with pytest.raises(InvalidRecord, match="under the key of"):
            VALIDATOR.validate(key, value, NOW)


def test_a_record_expires_only_if_it_says_so() -> None:
    value = made(expires=NOW + 60)
    VALIDATOR.validate(PROFILE, value, NOW + 59)
    with pytest.raises(InvalidRecord, match="expired 40 s ago"):
        VALIDATOR.validate(PROFILE, value, NOW + 100)
    VALIDATOR.validate(PROFILE, made(), NOW * 100)


def test_any_changed_byte_is_noticed() -> None:
    value = made(expires=NOW + 60)
    for index in range(len(value)):
        changed = value[:index] + bytes((value[index] ^ 1,)) + value[index + 1 :]
        with pytest.raises(InvalidRecord):
            VALIDATOR.validate(PROFILE, changed, NOW)


def test_a_signature_from_elsewhere_means_nothing_here() -> None:
    with pytest.raises(InvalidRecord, match="domain"):
        VALIDATOR.validate(PROFILE, signed(message(), domain="libp2p-peer-record"), NOW)
    with pytest.raises(InvalidRecord, match="payload type"):
        VALIDATOR.validate(PROFILE, signed(message(), kind=b"\x03\x01"), NOW)


def test_whoever_passes_a_record_on_cannot_pad_it() -> None:
    with pytest.raises(InvalidRecord, match="unusual encoding"):
        VALIDATOR.validate(PROFILE, made() + b"\x7a\x01x", NOW)


def test_a_payload_that_is_no_record_is_refused_though_signed() -> None:
    for payload in (b"\xff", b"", message(key=b"/v/x")):
        with pytest.raises(InvalidRecord):
            VALIDATOR.validate(PROFILE, signed(payload), NOW)


@given(st.binary(max_size=200))
def test_anything_else_is_refused_with_the_one_error(junk: bytes) -> None:
    with pytest.raises(InvalidRecord):
        OwnedRecord.parse(junk)


@pytest.mark.parametrize(("sequence", "expires"), [(-1, None), (MAX_SEQUENCE + 1, None), (0, 0), (0, -1), (0, 1 << 63)])
def test_numbers_out_of_range_are_not_sealed(sequence: int, expires: int | None) -> None:
    with pytest.raises(InvalidRecord):
        OwnedRecord(owner=ALICES, value=b"", sequence=sequence, expires=expires).seal(ALICE)


def test_ten_kibibytes_are_the_limit_to_make_and_to_read() -> None:
    room = MAX_SIZE - 300
    overhead = len(made(value=bytes(room))) - room
    VALIDATOR.validate(PROFILE, made(value=bytes(MAX_SIZE - overhead)), NOW)
    with pytest.raises(InvalidRecord, match="limit"):
        made(value=bytes(MAX_SIZE - overhead + 1))
    with pytest.raises(InvalidRecord, match="limit"):
        OwnedRecord.parse(bytes(MAX_SIZE + 1))


# --- keys -----------------------------------------------------------------------------------------


def test_a_key_is_split_where_the_peer_id_ends_whatever_its_bytes() -> None:
    slashes = PeerId(b"\x12\x20" + b"/" * 32)
    for owner in (ALICES, slashes):
        for name in ("", "x", "/", "//x/"):
            assert split_key(key_of(owner, name)) == (owner, name)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"/owned/",
        b"/owned/\x12",
        b"/owned/\x12\x20short",
        b"/other/" + ALICES.to_bytes(),
        key_of(ALICES) + b"/",
        key_of(ALICES) + b"x",
        key_of(ALICES) + b"/\xff",
        key_of(ALICES) + b"/" + b"x" * (MAX_NAME + 1),
    ],
)
def test_a_key_of_another_form_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidRecord):
        split_key(key)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(key, made(), NOW)


@pytest.mark.parametrize("name", ["x" * (MAX_NAME + 1), "\ud800"])
def test_a_name_that_is_too_long_or_no_text_has_no_key(name: str) -> None:
    with pytest.raises(InvalidRecord):
        key_of(ALICES, name)


# --- choosing -------------------------------------------------------------------------------------


@given(st.permutations([made(n, v) for n, v in ((1, b"zzz"), (2, b"b"), (3, b"a"), (3, b"b"), (10, b""))]))
def test_choosing_never_goes_back_to_an_older_sequence(values: list[bytes]) -> None:
    best = values[VALIDATOR.select(PROFILE, values, NOW)]
    assert OwnedRecord.parse(best).sequence == 10


def test_with_one_number_the_later_expiry_wins_then_the_larger_bytes_for_everybody() -> None:
    soon, late, never = made(expires=NOW + 60), made(expires=NOW + 600), made()
    for values in ([soon, late], [late, soon]):
        assert values[VALIDATOR.select(PROFILE, values, NOW)] is late
    assert VALIDATOR.select(PROFILE, [late, never], NOW) == 1
    one, other = made(value=b"a"), made(value=b"b")
    for values in ([one, other], [other, one]):
        assert values[VALIDATOR.select(PROFILE, values, NOW)] is other


def test_the_same_record_signed_twice_is_one_record_and_the_first_stays() -> None:
    key = PrivateKey.generate(KeyType.ECDSA)
    (name, one), (_, other) = (OwnedRecord.create(key, "x", b"v", 1) for _ in range(2))
    assert one != other
    assert VALIDATOR.select(name, [one, other], NOW) == VALIDATOR.select(name, [other, one], NOW) == 0


def test_what_cannot_be_read_is_passed_over_and_nothing_but_that_is_an_error() -> None:
    assert VALIDATOR.select(PROFILE, [b"junk", signed(b"\xff"), made()], NOW) == 2
    with pytest.raises(InvalidRecord):
        VALIDATOR.select(PROFILE, [b"junk"], NOW)


def test_the_public_network_does_not_know_owned_records() -> None:
    with pytest.raises(InvalidRecord):
        public_validators().validate(PROFILE, made(), NOW)
