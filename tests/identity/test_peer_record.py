"""Peer records: the signer is the peer, the caps hold, go-libp2p's are read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import RecordError
from py_p2pstack.identity import Envelope, PeerRecord, PrivateKey
from py_p2pstack.identity.peer_record import DOMAIN, MAX_ADDRESSES, PAYLOAD_TYPE
from py_p2pstack.wire.pb import peer_record_pb2

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "identity" / "go_peer_record.json").read_text())
ALICE = PrivateKey.from_seed(hashlib.sha256(VECTOR["seed_text"].encode()).digest())
BOB = PrivateKey.from_seed(b"bob" + bytes(29))
ALICE_ID = ALICE.public_key.peer_id()


def test_go_libp2ps_record_is_opened_and_ours_is_the_same_to_the_byte() -> None:
    envelope = Envelope.decode(bytes.fromhex(VECTOR["envelope"]))
    record = PeerRecord.open(envelope)
    assert str(record.peer_id) == VECTOR["peer_id"]
    assert record.peer_id.to_cid() == VECTOR["cid"]
    assert record.seq == int(VECTOR["seq"])
    assert len(record.addresses) == len(VECTOR["addresses"])
    assert record.seal(ALICE).encode().hex() == VECTOR["envelope"]


@given(st.integers(0, (1 << 64) - 1), st.lists(st.binary(max_size=40), max_size=6))
def test_a_sealed_record_is_opened(seq: int, addresses: list[bytes]) -> None:
    record = PeerRecord(ALICE_ID, seq, tuple(addresses))
    assert PeerRecord.open(Envelope.decode(record.seal(ALICE).encode())) == record


def test_a_record_is_sealed_by_its_own_peer_only() -> None:
    with pytest.raises(RecordError, match="the peer itself"):
        PeerRecord(ALICE_ID, 1, ()).seal(BOB)


def test_a_record_of_alice_signed_by_bob_is_refused() -> None:
    # RUSTSEC-2022-0009: the signature is good, the signer is not the subject
    payload = peer_record_pb2.PeerRecord(peer_id=ALICE_ID.to_bytes(), seq=1).SerializeToString()
    with pytest.raises(RecordError, match="signed by"):
        PeerRecord.open(Envelope.seal(BOB, DOMAIN, PAYLOAD_TYPE, payload))


def test_a_record_with_a_bad_signature_is_refused_before_it_is_parsed() -> None:
    good = PeerRecord(ALICE_ID, 1, ()).seal(ALICE)
    with pytest.raises(RecordError, match="does not verify"):
        PeerRecord.open(Envelope(good.public_key, good.payload_type, b"\xff", good.signature))


def test_an_envelope_of_another_type_or_domain_is_no_peer_record() -> None:
    payload = PeerRecord(ALICE_ID, 1, ()).seal(ALICE).payload
    with pytest.raises(RecordError, match="no peer record"):
        PeerRecord.open(Envelope.seal(ALICE, DOMAIN, b"\x03\x02", payload))
    with pytest.raises(RecordError, match="does not verify"):
        PeerRecord.open(Envelope.seal(ALICE, "libp2p-relay-rsvp", PAYLOAD_TYPE, payload))


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x0a\x02ab", b"\x10\x01"])
def test_a_malformed_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordError, match="malformed peer record"):
        PeerRecord.open(Envelope.seal(ALICE, DOMAIN, PAYLOAD_TYPE, payload))


def test_addresses_are_capped_by_count_also_when_empty() -> None:
    head = peer_record_pb2.PeerRecord(peer_id=ALICE_ID.to_bytes(), seq=1).SerializeToString()
    empty = b"\x1a\x00"
    full = PeerRecord.open(Envelope.seal(ALICE, DOMAIN, PAYLOAD_TYPE, head + empty * MAX_ADDRESSES))
    assert len(full.addresses) == MAX_ADDRESSES
    with pytest.raises(RecordError, match="the limit is 500"):
        PeerRecord.open(Envelope.seal(ALICE, DOMAIN, PAYLOAD_TYPE, head + empty * (MAX_ADDRESSES + 1)))


@pytest.mark.parametrize(("seq", "count"), [(-1, 0), (1 << 64, 0), (0, MAX_ADDRESSES + 1)])
def test_a_record_out_of_bounds_is_not_sealed(seq: int, count: int) -> None:
    with pytest.raises(RecordError, match="numbered"):
        PeerRecord(ALICE_ID, seq, (b"a",) * count).seal(ALICE)


def test_unknown_fields_are_skipped() -> None:
    payload = peer_record_pb2.PeerRecord(peer_id=ALICE_ID.to_bytes(), seq=7).SerializeToString() + b"\x7a\x01x"
    assert PeerRecord.open(Envelope.seal(ALICE, DOMAIN, PAYLOAD_TYPE, payload)).seq == 7
