"""Envelopes: sealed and opened in one domain only, go-libp2p's read, and no crash on any bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import RecordError
from py_p2pstack.identity import Envelope, KeyType, PrivateKey
from py_p2pstack.identity.envelope import MAX_SIZE
from py_p2pstack.wire.pb import envelope_pb2

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "identity" / "go_peer_record.json").read_text())


@cache
def alice() -> PrivateKey:
    return PrivateKey.from_seed(b"alice" + bytes(27))


def sealed() -> Envelope:
    return Envelope.seal(alice(), "test", b"\x03\x01", b"payload")


def test_go_libp2ps_envelope_is_read_verified_and_written_as_it_was() -> None:
    data = bytes.fromhex(VECTOR["envelope"])
    envelope = Envelope.decode(data)
    envelope.verify("libp2p-peer-record")
    assert envelope.encode() == data
    assert str(envelope.public_key.peer_id()) == VECTOR["peer_id"]


@pytest.mark.parametrize("key_type", [KeyType.ED25519, KeyType.SECP256K1, KeyType.ECDSA, KeyType.RSA])
def test_a_sealed_envelope_comes_out_and_verifies(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    envelope = Envelope.decode(Envelope.seal(key, "test", b"type", b"payload").encode())
    envelope.verify("test")
    assert (envelope.public_key, envelope.payload_type, envelope.payload) == (key.public_key, b"type", b"payload")


@given(st.binary(max_size=50), st.binary(max_size=200), st.text(min_size=1, max_size=20))
def test_any_payload_survives(payload_type: bytes, payload: bytes, domain: str) -> None:
    envelope = Envelope.seal(alice(), domain, payload_type, payload)
    again = Envelope.decode(envelope.encode())
    again.verify(domain)
    assert again == envelope


def test_an_envelope_of_another_domain_does_not_verify() -> None:
    with pytest.raises(RecordError, match="domain 'other'"):
        sealed().verify("other")


def test_lengths_keep_the_signed_fields_apart() -> None:
    envelope = sealed()
    shifted = Envelope(envelope.public_key, b"\x03\x01p", b"ayload", envelope.signature)
    with pytest.raises(RecordError):
        shifted.verify("test")


@pytest.mark.parametrize("field", ["payload_type", "payload", "signature", "public_key"])
def test_a_changed_envelope_does_not_verify(field: str) -> None:
    message = envelope_pb2.Envelope.FromString(sealed().encode())
    if field == "public_key":
        message.public_key.Data = PrivateKey.from_seed(bytes(32)).public_key.raw()
    else:
        value = getattr(message, field)
        setattr(message, field, bytes((value[0] ^ 1,)) + value[1:])
    envelope = Envelope.decode(message.SerializeToString())
    with pytest.raises(RecordError, match="does not verify"):
        envelope.verify("test")


def test_an_envelope_without_a_domain_is_not_sealed() -> None:
    with pytest.raises(RecordError, match="domain"):
        Envelope.seal(alice(), "", b"type", b"payload")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x0a\x00",  # an empty key
        b"\x0a\x02\x08\x01",  # a key without data
        b"\x0a\x02\x12\x00",  # a key without a type
        b"\x0a\x04\x08\x07\x12\x00",  # a key of an unknown type
        b"\x0a\x04\x08\x01\x12\x00",  # an empty key
        b"\x12\x01a",  # no key
        b"\x0a\xff\xff\xff\xff\x7f",
    ],
)
def test_a_malformed_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match="malformed envelope"):
        Envelope.decode(data)


def test_an_oversized_envelope_is_refused_unread() -> None:
    with pytest.raises(RecordError, match="the limit is 65536"):
        Envelope.decode(bytes(MAX_SIZE + 1))


def test_a_huge_key_in_an_envelope_is_refused() -> None:
    message = envelope_pb2.Envelope.FromString(sealed().encode())
    message.public_key.Data = bytes(5000)
    with pytest.raises(RecordError, match="5000 bytes"):
        Envelope.decode(message.SerializeToString())


@given(st.data())
def test_mutated_envelopes_are_refused_or_read_but_never_crash(data: st.DataObject) -> None:
    good = bytearray(sealed().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        envelope = Envelope.decode(bytes(good[: data.draw(st.integers(0, len(good)))]))
        envelope.verify("test")
    except RecordError:
        return
    assert envelope == sealed()


def test_envelopes_are_values() -> None:
    assert sealed() == sealed()
    assert hash(sealed()) == hash(sealed())
    assert sealed() != Envelope.seal(alice(), "test", b"\x03\x01", b"other")
    assert sealed() != sealed().encode()
    assert repr(sealed()) == f"<Envelope 0301 by {alice().public_key.peer_id()!r}>"
