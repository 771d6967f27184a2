"""IPNS records: the specification's and boxo's are judged as they should be, and ours are the same to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from py_p2pstack.errors import InvalidRecord
from py_p2pstack.identity import KeyType, PeerId, PrivateKey
from py_p2pstack.protocols.dht import rfc3339
from py_p2pstack.protocols.dht.records import dag_cbor
from py_p2pstack.protocols.dht.records.ipns import (
    MAX_INTEGER,
    MAX_SIZE,
    IpnsRecord,
    IpnsValidator,
    name_of,
    routing_key,
)
from py_p2pstack.wire.pb.ipns_pb2 import IpnsEntry

VECTORS = Path(__file__).parents[3] / "vectors" / "ipns"
PUBLISHED = json.loads((VECTORS / "published.json").read_text())
BOXO = json.loads((VECTORS / "boxo.json").read_text())
ALL = PUBLISHED["spec"] + PUBLISHED["published"] + BOXO["records"]
NOW = rfc3339.parse("2026-11-21T12:00:00Z") / rfc3339.SECOND
ALICE, BOB = PrivateKey.from_seed(b"alice" + bytes(27)), PrivateKey.from_seed(b"bob" + bytes(29))
ALICES = routing_key(ALICE.public_key.peer_id())
VALIDATOR = IpnsValidator()


def sealed(sequence: int = 1, *, lifetime: float = 60.0, value: str = "/ipfs/x", key: PrivateKey = ALICE) -> bytes:
    return IpnsRecord.create(key, value, sequence, now=NOW, lifetime=lifetime)[1]


def signed(data: dag_cbor.Value, *, key: PrivateKey = ALICE, **fields: Any) -> bytes:
    """A record whose signature is right, whatever the rest is."""
    encoded = data if isinstance(data, bytes) else dag_cbor.encode(data)
    entry = IpnsEntry(data=encoded, signatureV2=key.sign(b"ipns-signature:" + encoded), **fields)
    return entry.SerializeToString()


FIELDS: dict[str, dag_cbor.Value] = {
    "Sequence": 1,
    "TTL": 5,
    "Validity": b"2100-01-01T00:00:00Z",
    "ValidityType": 0,
    "Value": b"/ipfs/x",
}


# --- other implementations ------------------------------------------------------------------------


@pytest.mark.parametrize("vector", ALL, ids=[vector["name"] for vector in ALL])
def test_records_of_others_are_judged_and_read_as_boxo_does(vector: dict[str, Any]) -> None:
    key, record = bytes.fromhex(vector["key"]), bytes.fromhex(vector["record"])
    if "error" in vector:
        with pytest.raises(InvalidRecord):
            IpnsRecord.verify(key, record, NOW)
        return
    read = IpnsRecord.verify(key, record, NOW)
    assert read.value.decode() == vector["value"]
    assert (read.sequence, read.ttl) == (vector["sequence"], vector["ttl"])
    assert rfc3339.format(read.validity) == vector["validity"]
    assert str(name_of(key)) == vector["peer"]
    assert PeerId.parse(vector["cid"]) == name_of(key)


@pytest.mark.parametrize("vector", BOXO["records"], ids=[vector["name"] for vector in BOXO["records"]])
def test_a_record_we_make_is_boxos_to_the_byte_where_signatures_are_not_random(vector: dict[str, Any]) -> None:
    private_key = PrivateKey.decode(bytes.fromhex(vector["private"]))
    theirs = bytes.fromhex(vector["record"])
    entry = IpnsEntry.FromString(theirs)
    if "metadata" in vector["name"]:
        return  # fields of others are read over, not written
    record = IpnsRecord.parse(theirs)
    ours = record.seal(private_key, legacy=bool(entry.signatureV1))
    if private_key.key_type is KeyType.ECDSA:
        assert IpnsEntry.FromString(ours).data == entry.data
    else:
        assert ours == theirs
    assert routing_key(private_key.public_key.peer_id()).hex() == vector["key"]


# --- making and checking --------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", KeyType)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_record_of_any_kind_of_key_is_valid_under_its_name_only(key_type: KeyType, legacy: bool) -> None:
    key = PrivateKey.generate(key_type)
    record = IpnsRecord(value=b"/ipfs/x", sequence=3, validity=int((NOW + 60) * 1e9), ttl=10**9)
    value = record.seal(key, legacy=legacy)
    name = routing_key(key.public_key.peer_id())
    assert IpnsRecord.verify(name, value, NOW) == record
    VALIDATOR.validate(name, value, NOW)
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(ALICES, value, NOW)
    assert bool(IpnsEntry.FromString(value).pubKey) is (key.public_key.peer_id().public_key() is None)


@settings(max_examples=40)
@given(st.binary(max_size=200), st.integers(0, MAX_INTEGER), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_sealed_is_read(value: bytes, sequence: int, lifetime: int, ttl: int) -> None:
    key, sealed = IpnsRecord.create(ALICE, value, sequence, now=NOW, lifetime=lifetime, ttl=ttl)
    record = IpnsRecord.parse(sealed)
    assert key == ALICES
    assert (record.value, record.sequence, record.ttl) == (value, sequence, ttl * 10**9)
    assert record.validity == (int(NOW) + lifetime) * 10**9


@pytest.mark.parametrize(
    ("sequence", "ttl", "validity"),
    [(-1, 0, 0), (MAX_INTEGER + 1, 0, 0), (0, -1, 0), (0, MAX_INTEGER + 1, 0), (0, 0, 10**30)],
)
def test_a_record_out_of_bounds_is_not_sealed(sequence: int, ttl: int, validity: int) -> None:
    with pytest.raises(InvalidRecord):
        IpnsRecord(value=b"", sequence=sequence, ttl=ttl, validity=validity).seal(ALICE)


def test_ten_kibibytes_are_the_limit_to_make_and_to_read() -> None:
    record = IpnsRecord(value=bytes(MAX_SIZE), sequence=0, ttl=0, validity=int((NOW + 60) * 1e9))
    with pytest.raises(InvalidRecord, match="limit"):
        record.seal(ALICE)
    with pytest.raises(InvalidRecord, match="limit"):
        IpnsRecord.parse(bytes(MAX_SIZE + 1))
    room = MAX_SIZE - len(signed({**FIELDS, "Value": bytes(MAX_SIZE - 300)}))
    exact = signed({**FIELDS, "Value": bytes(MAX_SIZE - 300 + room)})
    assert len(exact) == MAX_SIZE
    VALIDATOR.validate(ALICES, exact, NOW)


def test_a_record_holds_until_its_end() -> None:
    value = sealed(lifetime=60)
    VALIDATOR.validate(ALICES, value, NOW + 59.9)
    with pytest.raises(InvalidRecord, match="held until 2026-11-21T12:01:00Z"):
        VALIDATOR.validate(ALICES, value, NOW + 60)


def test_any_changed_byte_of_what_is_signed_or_signs_is_noticed() -> None:
    entry = IpnsEntry.FromString(sealed())
    for field in ("data", "signatureV2"):
        original = getattr(entry, field)
        for index in range(0, len(original), 7):
            changed = IpnsEntry()
            changed.CopyFrom(entry)
            setattr(changed, field, original[:index] + bytes((original[index] ^ 1,)) + original[index + 1 :])
            with pytest.raises(InvalidRecord):
                VALIDATOR.validate(ALICES, changed.SerializeToString(), NOW)


def test_the_first_signature_counts_for_nothing() -> None:
    entry = IpnsEntry.FromString(sealed())
    entry.signatureV1 = b"junk"
    VALIDATOR.validate(ALICES, entry.SerializeToString(), NOW)
    entry.ClearField("signatureV2")
    with pytest.raises(InvalidRecord, match="version 2"):
        VALIDATOR.validate(ALICES, entry.SerializeToString(), NOW)


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", b"/ipfs/evil"), ("validity", b"2200-01-01T00:00:00Z"), ("validityType", 1), ("sequence", 9), ("ttl", 1)],
)
def test_legacy_fields_that_differ_from_those_signed_make_it_invalid(field: str, value: object) -> None:
    entry = IpnsEntry.FromString(sealed())
    setattr(entry, field, value)
    with pytest.raises(InvalidRecord, match="legacy"):
        VALIDATOR.validate(ALICES, entry.SerializeToString(), NOW)


def test_legacy_fields_without_a_value_and_a_signature_are_not_looked_at() -> None:
    VALIDATOR.validate(ALICES, signed(FIELDS, sequence=99), NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"Sequence": -1},
        {"Sequence": True},
        {"Sequence": b"1"},
        {"TTL": -1},
        {"TTL": 1.0},
        {"Validity": b"tomorrow"},
        {"Validity": b"\xff"},
        {"Validity": "2100-01-01T00:00:00Z"},
        {"ValidityType": 1},
        {"Value": "text"},
        {"Value": None},
    ],
)
def test_a_field_of_a_wrong_kind_or_range_is_refused_though_signed(changes: dict[str, dag_cbor.Value]) -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(ALICES, signed({**FIELDS, **changes}), NOW)


@pytest.mark.parametrize("missing", FIELDS)
def test_no_field_may_be_missing(missing: str) -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(ALICES, signed({name: value for name, value in FIELDS.items() if name != missing}), NOW)


def test_fields_of_others_are_read_over() -> None:
    VALIDATOR.validate(ALICES, signed({**FIELDS, "_mine": {"a": [1, 2.5, dag_cbor.Link(b"\1U")]}}), NOW)


@pytest.mark.parametrize("data", [b"\x80", b"\xa0", b"\x01", b"\xff", b"\xa1\x65Value"])
def test_data_that_is_no_record_is_refused_though_signed(data: bytes) -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(ALICES, signed(data), NOW)


def test_a_key_that_came_along_must_be_that_of_the_name() -> None:
    with pytest.raises(InvalidRecord, match="with the key of"):
        VALIDATOR.validate(ALICES, signed(FIELDS, key=BOB, pubKey=BOB.public_key.encode()), NOW)
    with pytest.raises(InvalidRecord, match="bad key"):
        VALIDATOR.validate(ALICES, signed(FIELDS, pubKey=b"junk"), NOW)
    VALIDATOR.validate(ALICES, signed(FIELDS, pubKey=ALICE.public_key.encode()), NOW)


def test_a_name_that_is_a_hash_needs_the_key_to_come_along() -> None:
    ecdsa = PrivateKey.generate(KeyType.ECDSA)
    with pytest.raises(InvalidRecord, match="without the key"):
        VALIDATOR.validate(routing_key(ecdsa.public_key.peer_id()), signed(FIELDS, key=ecdsa), NOW)


@pytest.mark.parametrize("key", [b"/ipns/", b"/ipns/x", b"/pk/" + ALICES[6:], ALICES + b"\0", ALICES[:-1], b""])
def test_a_key_that_is_no_name_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidRecord):
        VALIDATOR.validate(key, sealed(), NOW)


@given(st.binary(max_size=200))
def test_anything_else_is_refused_with_the_one_error(junk: bytes) -> None:
    with pytest.raises(InvalidRecord):
        IpnsRecord.parse(junk)


# --- choosing -------------------------------------------------------------------------------------


def test_the_higher_sequence_wins_then_the_later_end_wherever_in_the_list() -> None:
    old, new = sealed(1, lifetime=900), sealed(2, lifetime=60)
    later = sealed(2, lifetime=61)
    for values in ([old, new, later], [later, new, old], [new, later, old]):
        assert values[VALIDATOR.select(ALICES, values, NOW)] is later
    assert VALIDATOR.select(ALICES, [old, new], NOW) == 1
    assert VALIDATOR.select(ALICES, [new, old], NOW) == 0


def test_two_records_of_the_same_number_and_end_are_chosen_from_alike_by_everybody() -> None:
    one, other = sealed(value="/ipfs/a"), sealed(value="/ipfs/b")
    chosen = max(one, other)
    for values in ([one, other], [other, one]):
        assert values[VALIDATOR.select(ALICES, values, NOW)] == chosen


def test_equal_records_leave_the_first() -> None:
    value = sealed()
    assert VALIDATOR.select(ALICES, [value, bytes(value)], NOW) == 0


def test_what_cannot_be_read_is_passed_over_and_nothing_but_that_is_an_error() -> None:
    assert VALIDATOR.select(ALICES, [b"junk", sealed()], NOW) == 1
    with pytest.raises(InvalidRecord):
        VALIDATOR.select(ALICES, [b"junk"], NOW)
