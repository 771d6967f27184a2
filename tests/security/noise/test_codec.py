"""The handshake payload."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from py_p2pstack.errors import HandshakeError
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.security.noise import codec
from py_p2pstack.wire.pb.noise_pb2 import NoiseHandshakePayload

ALICE = PrivateKey.from_seed(b"alice".ljust(32))
MALLORY = PrivateKey.from_seed(b"mallory".ljust(32))
STATIC = bytes(range(32))
SIGNATURE = codec.sign_static(ALICE, STATIC)
PAYLOAD = codec.encode(ALICE.public_key, SIGNATURE, ["/yamux/1.0.0"])


@pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: str(key_type.name))
def test_every_kind_of_identity_round_trips(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    data = codec.encode(key.public_key, codec.sign_static(key, STATIC), ["/yamux/1.0.0", "/mplex/6.7.0"])
    payload = codec.decode(data, STATIC)
    assert payload.public_key.peer_id() == key.public_key.peer_id()
    assert payload.muxers == ("/yamux/1.0.0", "/mplex/6.7.0")


def test_the_wire_form_is_that_of_the_specification() -> None:
    key = ALICE.public_key.encode()
    extensions = b"\x12\x0c/yamux/1.0.0"
    assert b"\x0a\x24" + key + b"\x12\x40" + SIGNATURE + b"\x22" + bytes((len(extensions),)) + extensions == PAYLOAD


def test_without_muxers_there_are_no_extensions() -> None:
    assert codec.encode(ALICE.public_key, SIGNATURE, []) == PAYLOAD[: -len(b"\x22\x0e\x12\x0c/yamux/1.0.0")]


def test_unknown_fields_are_ignored() -> None:
    assert codec.decode(PAYLOAD + b"\x1a\x02hi" + b"\xfa\x7f\x01x", STATIC).muxers == ("/yamux/1.0.0",)


def test_a_signature_over_another_static_key_is_refused() -> None:
    with pytest.raises(HandshakeError, match="no identity"):
        codec.decode(PAYLOAD, bytes(32))


def test_a_signature_of_somebody_else_is_refused() -> None:
    data = codec.encode(ALICE.public_key, codec.sign_static(MALLORY, STATIC), [])
    with pytest.raises(HandshakeError, match="no identity"):
        codec.decode(data, STATIC)


def test_a_signature_without_the_domain_prefix_is_refused() -> None:
    with pytest.raises(HandshakeError, match="no identity"):
        codec.decode(codec.encode(ALICE.public_key, ALICE.sign(STATIC), []), STATIC)


@pytest.mark.parametrize("field", ["identity_key", "identity_sig"])
def test_a_missing_field_is_refused(field: str) -> None:
    message = NoiseHandshakePayload.FromString(PAYLOAD)
    message.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(HandshakeError, match="no identity"):
        codec.decode(message.SerializeToString(), STATIC)


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(HandshakeError):
        codec.decode(b"", STATIC)


def test_an_oversize_payload_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(HandshakeError, match="limit"):
        codec.decode(PAYLOAD + b"\x1a\xff\x1f" + bytes(4095), STATIC)


def test_no_more_than_a_bounded_number_of_muxers_is_looked_at() -> None:
    data = codec.encode(ALICE.public_key, SIGNATURE, [f"/m/{n}" for n in range(200)])
    assert codec.decode(data, STATIC).muxers == tuple(f"/m/{n}" for n in range(codec.MAX_MUXERS))


def test_a_muxer_that_is_no_utf8_is_passed_over() -> None:
    extensions = b"\x12\x02\xff\xfe\x12\x0c/yamux/1.0.0"
    data = codec.encode(ALICE.public_key, SIGNATURE, []) + b"\x22" + bytes((len(extensions),)) + extensions
    assert codec.decode(data, STATIC).muxers == ("/yamux/1.0.0",)


@given(st.binary(max_size=300))
@example(b"\x0a\x00\x12\x00")
@example(b"\x0a\x24\x08\x01\x12\x20" + bytes(32))
def test_garbage_is_a_handshake_error(garbage: bytes) -> None:
    with pytest.raises(HandshakeError):
        codec.decode(garbage, STATIC)


@given(st.integers(0, len(PAYLOAD) - 1), st.integers(1, 255))
def test_a_changed_byte_never_proves_another_identity(position: int, change: int) -> None:
    data = bytearray(PAYLOAD)
    data[position] ^= change
    try:
        payload = codec.decode(bytes(data), STATIC)
    except HandshakeError:
        return
    assert payload.public_key.peer_id() == ALICE.public_key.peer_id()  # the change hit the extensions
