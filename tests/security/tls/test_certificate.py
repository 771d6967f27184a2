"""Certificates: the specification's vectors, our own for all key types, and every way to be refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from py_p2pstack.errors import HandshakeError, PeerIdMismatch
from py_p2pstack.identity import KeyType, PrivateKey
from py_p2pstack.security.tls import certificate
from py_p2pstack.security.tls.certificate import EXTENSION, MAX_CERTIFICATE, SIGNATURE_PREFIX
from tests.security.tls.certificates import HOUR, NOW, Key, forge, octets, sequence, signed_key, spki

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/tls/spec_certificates.json").read_text())
ALICE = PrivateKey.from_seed(bytes(32))
MALLORY = PrivateKey.from_seed(b"m" * 32)
KEY = ec.generate_private_key(ec.SECP256R1())


def refusal(der: bytes, now: float = NOW) -> str:
    with pytest.raises(HandshakeError) as caught:
        certificate.verify(der, now=now)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "secp256k1"])
def test_valid_vectors_of_the_specification_prove_their_peer_id(kind: str) -> None:
    vector = VECTORS[kind]
    key = certificate.verify(bytes.fromhex(vector["certificate"]), now=NOW)
    assert str(key.peer_id()) == vector["peer_id"]


def test_the_invalid_vector_is_refused() -> None:
    assert "proves no identity" in refusal(bytes.fromhex(VECTORS["invalid"]["certificate"]))


@pytest.mark.parametrize("kind", list(KeyType))
def test_our_certificates_prove_identities_of_every_kind(kind: KeyType) -> None:
    identity = PrivateKey.generate(kind)
    made = certificate.make(identity, now=NOW)
    expected = identity.public_key.peer_id()
    assert certificate.verify_chain([made.der], now=NOW, expected=expected) == identity.public_key
    assert len(made.der) < MAX_CERTIFICATE


def test_our_certificate_key_is_not_the_identity_and_differs_each_time() -> None:
    first, second = certificate.make(ALICE, now=NOW), certificate.make(ALICE, now=NOW)
    assert first.key_der != second.key_der
    assert first.key_der.hex() not in repr(first)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_any_number_of_certificates_but_one_is_refused(count: int) -> None:
    made = certificate.make(ALICE, now=NOW)
    with pytest.raises(HandshakeError, match=f"{count} certificates"):
        certificate.verify_chain([made.der] * count, now=NOW)


def test_another_peer_than_the_one_dialled_is_refused() -> None:
    made = certificate.make(MALLORY, now=NOW)
    with pytest.raises(PeerIdMismatch) as caught:
        certificate.verify_chain([made.der], now=NOW, expected=ALICE.public_key.peer_id())
    assert caught.value.actual == MALLORY.public_key.peer_id()


def test_a_certificate_without_the_extension_is_refused() -> None:
    assert "without the libp2p extension" in refusal(forge(KEY, None))


def test_a_foreign_identity_needs_its_own_signature() -> None:
    stolen = sequence(octets(ALICE.public_key.encode()), octets(MALLORY.sign(SIGNATURE_PREFIX + spki(KEY))))
    assert "proves no identity" in refusal(forge(KEY, stolen))


def test_an_extension_copied_from_another_certificate_is_refused() -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    assert "proves no identity" in refusal(forge(own, signed_key(ALICE, KEY)))


def test_the_signature_must_carry_the_prefix() -> None:
    bare = sequence(octets(ALICE.public_key.encode()), octets(ALICE.sign(spki(KEY))))
    assert "proves no identity" in refusal(forge(KEY, bare))


def test_a_certificate_signed_by_another_key_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert "self-signature" in refusal(forge(KEY, signed_key(ALICE, KEY), signer=other))


def test_certificates_count_only_while_they_are_valid() -> None:
    der = forge(KEY, signed_key(ALICE, KEY), begin=NOW, end=NOW + HOUR)
    assert certificate.verify(der, now=NOW) == ALICE.public_key
    assert certificate.verify(der, now=NOW + HOUR) == ALICE.public_key
    assert "not valid before" in refusal(der, NOW - 1)
    assert "expired" in refusal(der, NOW + HOUR + 1)


def test_the_extension_may_be_critical() -> None:
    assert certificate.verify(forge(KEY, signed_key(ALICE, KEY), critical=True), now=NOW) == ALICE.public_key


def test_unknown_extensions_are_ignored_unless_critical() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.53594.9"), b"\x05\x00")
    value = signed_key(ALICE, KEY)
    assert certificate.verify(forge(KEY, value, extras=((unknown, False),)), now=NOW) == ALICE.public_key
    assert "unknown critical extension" in refusal(forge(KEY, value, extras=((unknown, True),)))


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(digital_signature, False, not digital_signature, False, False, False, False, False, False)


def test_critical_extensions_of_ordinary_leaves_are_understood() -> None:
    extras = ((x509.BasicConstraints(ca=False, path_length=None), True), (_usage(digital_signature=True), True))
    assert certificate.verify(forge(KEY, signed_key(ALICE, KEY), extras=extras), now=NOW) == ALICE.public_key
    wrong = ((_usage(digital_signature=False), True),)
    assert "critical" in refusal(forge(KEY, signed_key(ALICE, KEY), extras=wrong))


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "ed25519", "rsa2048"],
)
def test_certificate_keys_of_other_kinds_are_taken(key: Key) -> None:
    assert certificate.verify(forge(key, signed_key(ALICE, key)), now=NOW) == ALICE.public_key


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256K1()), rsa.generate_private_key(65537, 1024)],
    ids=["secp256k1", "rsa1024"],
)
def test_weak_and_unusual_certificate_keys_are_refused(key: Key) -> None:
    assert "kind or size" in refusal(forge(key, signed_key(ALICE, key)))


def test_a_weak_hash_is_refused() -> None:
    good = forge(KEY, signed_key(ALICE, KEY))
    weak = good.replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040301"))  # SHA-224
    assert "another hash" in refusal(weak)
    strong = forge(KEY, signed_key(ALICE, KEY), algorithm=hashes.SHA384())
    assert certificate.verify(strong, now=NOW) == ALICE.public_key


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        sequence(octets(ALICE.public_key.encode())),
        signed_key(ALICE, KEY) + b"\0",
        sequence(octets(ALICE.public_key.encode()), octets(b"s"), octets(b"")),
        b"\x30\x80" + octets(ALICE.public_key.encode()) + octets(b"s") + b"\0\0",  # indefinite length
        b"\x30\x81\x05" + octets(b"k"),  # a length longer than what is there, and longer than need be
        b"\x31" + signed_key(ALICE, KEY)[1:],
        b"\x30\x83\x00\x00\x00",
    ],
    ids=[
        "nothing",
        "half a head",
        "an empty sequence",
        "no signature",
        "a byte too many",
        "a third member",
        "an indefinite length",
        "a long length too long",
        "a set",
        "a length of three bytes",
    ],
)
def test_malformed_extensions_are_refused(value: bytes) -> None:
    assert "libp2p extension" in refusal(forge(KEY, value))


def test_garbage_for_a_public_key_is_refused() -> None:
    assert "proves no identity" in refusal(forge(KEY, sequence(octets(b"\x08\x09\x12\x01a"), octets(b"s"))))


def test_two_libp2p_extensions_are_refused() -> None:
    unknown = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.2")
    der = forge(KEY, signed_key(ALICE, KEY), extras=((x509.UnrecognizedExtension(unknown, b"\x05\x00"), False),))
    twin = der.replace(unknown_der(unknown), unknown_der(EXTENSION))
    assert twin != der
    assert "malformed" in refusal(twin)


def unknown_der(oid: x509.ObjectIdentifier) -> bytes:
    """The tail of an object identifier below 1.3.6.1.4.1.53594."""
    return bytes.fromhex("2b0601040183a25a01") + bytes([int(oid.dotted_string.rsplit(".", 1)[1])])


def test_a_certificate_above_the_limit_is_not_even_parsed() -> None:
    assert "the limit is" in refusal(bytes(MAX_CERTIFICATE + 1))


@given(data=st.binary(max_size=300))
def test_no_bytes_pass_for_a_certificate(data: bytes) -> None:
    refusal(data)


_GOOD = forge(KEY, signed_key(ALICE, KEY))
_UNUSED_BITS = _GOOD.index(bytes.fromhex("06082a8648ce3d040302"), 100) + 12


@settings(max_examples=400)
@given(position=st.integers(0, len(_GOOD) - 1), bit=st.integers(0, 7))
def test_no_flipped_bit_is_overlooked(position: int, bit: int) -> None:
    assume(position != _UNUSED_BITS)  # how many of the signature's last bits do not count: nothing signs that
    changed = bytearray(_GOOD)
    changed[position] ^= 1 << bit
    refusal(bytes(changed))


@settings(max_examples=100)
@given(end=st.integers(0, len(_GOOD) - 1))
def test_no_cut_certificate_is_taken(end: int) -> None:
    refusal(_GOOD[:end])
