"""Keys: the vectors of the specification and of go-libp2p, one encoding each, and no crash on any bytes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import InvalidKey, InvalidSignature
from py_p2pstack.identity import KeyType, PrivateKey, PublicKey
from py_p2pstack.identity.keys import MAX_ENCODED_PRIVATE, MAX_ENCODED_PUBLIC

VECTORS = Path(__file__).parent.parent / "vectors" / "identity"
SPEC: dict[str, dict[str, str]] = json.loads((VECTORS / "spec_keys.json").read_text())["keys"]
GO: dict[str, Any] = json.loads((VECTORS / "go_keys.json").read_text())
EACH_TYPE = pytest.mark.parametrize("key_type", list(KeyType), ids=lambda key_type: key_type.name)


@cache
def key_of(key_type: KeyType) -> PrivateKey:
    """A key of the specification: making RSA keys takes long."""
    return PrivateKey.decode(bytes.fromhex(SPEC[key_type.name.lower()]["private"]))


def pkix(public: Any) -> bytes:
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(encoded, bytes)
    return encoded


def protobuf(key_type: int, raw: bytes) -> bytes:
    from py_p2pstack.wire import varint

    return bytes((8, key_type, 0x12)) + varint.encode(len(raw)) + raw


# --- vectors ---------------------------------------------------------------------------------------


@EACH_TYPE
def test_the_specifications_private_key_gives_its_public_key_and_encodes_as_it_was(key_type: KeyType) -> None:
    vector = SPEC[key_type.name.lower()]
    private = PrivateKey.decode(bytes.fromhex(vector["private"]))
    assert private.key_type is key_type
    assert private.encode().hex() == vector["private"]
    assert private.public_key.encode().hex() == vector["public"]
    assert PublicKey.decode(bytes.fromhex(vector["public"])) == private.public_key


@pytest.mark.parametrize("name", list(GO["keys"]))
def test_keys_and_signatures_of_go_libp2p_are_understood(name: str) -> None:
    vector = GO["keys"][name]
    message = GO["message"].encode()
    private = PrivateKey.decode(bytes.fromhex(vector["priv"]))
    public = PublicKey.decode(bytes.fromhex(vector["pub"]))
    assert private.public_key == public
    assert private.encode().hex() == vector["priv"]
    public.verify(message, bytes.fromhex(vector["sig"]))
    if name != "ecdsa":  # the other two sign deterministically
        assert private.sign(message).hex() == vector["sig"]


def test_a_seed_gives_the_key_of_rfc_8032() -> None:
    # RFC 8032 §7.1, test 2
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    key = PrivateKey.from_seed(seed)
    assert key.public_key.raw().hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert key.sign(b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540")
    assert PrivateKey.from_seed(seed).encode() == key.encode()


# --- signing ---------------------------------------------------------------------------------------


@EACH_TYPE
def test_a_signature_holds_for_its_data_its_key_and_its_bytes_only(key_type: KeyType) -> None:
    alice = key_of(key_type)
    signature = alice.sign(b"data")
    alice.public_key.verify(b"data", signature)
    with pytest.raises(InvalidSignature):
        alice.public_key.verify(b"other", signature)
    with pytest.raises(InvalidSignature):
        alice.public_key.verify(b"data", signature[:-1])
    with pytest.raises(InvalidSignature):
        alice.public_key.verify(b"data", signature + b"\x00")
    with pytest.raises(InvalidSignature):
        alice.public_key.verify(b"data", b"")
    with pytest.raises(InvalidSignature):
        PrivateKey.generate(KeyType.ED25519).public_key.verify(b"data", signature)


@pytest.mark.parametrize("key_type", [KeyType.ED25519, KeyType.SECP256K1, KeyType.ECDSA, KeyType.RSA])
def test_a_fresh_key_survives_its_encoding(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type)
    again = PrivateKey.decode(key.encode())
    again.public_key.verify(b"data", key.sign(b"data"))
    assert PublicKey.decode(key.public_key.encode()) == key.public_key
    assert key.public_key != PrivateKey.generate(KeyType.ED25519).public_key


@EACH_TYPE
@given(noise=st.binary(max_size=80))
def test_no_bytes_but_a_signature_verify(key_type: KeyType, noise: bytes) -> None:
    with pytest.raises(InvalidSignature):
        key_of(key_type).public_key.verify(b"data", noise)


def test_a_high_s_on_secp256k1_is_taken_as_go_takes_it() -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    alice = key_of(KeyType.SECP256K1)
    r, s = decode_dss_signature(alice.sign(b"data"))
    assert s <= order // 2
    alice.public_key.verify(b"data", encode_dss_signature(r, order - s))


def test_a_long_secp256k1_signature_is_not_even_parsed() -> None:
    with pytest.raises(InvalidSignature, match="73 bytes"):
        key_of(KeyType.SECP256K1).public_key.verify(b"data", bytes(73))


# --- the protobuf form -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda key: key + b"\x1a\x00", "an additional field"),
        (lambda key: key + key, "fields twice"),
        (lambda key: key[2:] + key[:2], "fields out of order"),
        (lambda key: b"\x08\x81\x00" + key[2:], "a type not minimally encoded"),
        (lambda key: key[:3] + b"\xa0\x00" + key[4:], "a length not minimally encoded"),
        (lambda key: key[:3] + b"\x80" * 12 + key[4:], "an endless length"),
        (lambda key: key[:2], "no data"),
        (lambda key: key[2:], "no type"),
        (lambda key: key[:-1], "cut data"),
        (lambda key: b"\x08\x04" + key[2:], "an unknown type"),
        (lambda key: b"", "nothing"),
        (lambda key: b"\x08\x01\x12\x80", "a cut length"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_with_anything_but_its_one_encoding_is_refused(change: Any, what: str) -> None:
    key = key_of(KeyType.ED25519)
    with pytest.raises(InvalidKey):
        PublicKey.decode(change(key.public_key.encode()))
    with pytest.raises(InvalidKey):
        PrivateKey.decode(change(key.encode()))


@EACH_TYPE
@given(data=st.data())
def test_mutated_keys_are_keys_or_invalid(key_type: KeyType, data: st.DataObject) -> None:
    good = bytearray(key_of(key_type).public_key.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    mutated = bytes(good[: data.draw(st.integers(0, len(good)))]) if data.draw(st.booleans()) else bytes(good)
    try:
        key = PublicKey.decode(mutated)
    except InvalidKey:
        return
    assert key.encode() == mutated
    assert PublicKey(key.key_type, key.raw()) == key


@EACH_TYPE
@given(data=st.data())
def test_mutated_private_keys_are_keys_or_invalid(key_type: KeyType, data: st.DataObject) -> None:
    if key_type is KeyType.RSA:  # a changed RSA key is checked for primes, which takes long: cut it instead
        good = key_of(key_type).encode()
        mutated = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        changed = bytearray(key_of(key_type).encode())
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        mutated = bytes(changed)
    try:
        key = PrivateKey.decode(mutated)
    except InvalidKey:
        return
    key.public_key.verify(b"data", key.sign(b"data"))


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_a_key_or_invalid(data: bytes) -> None:
    for decode in (PublicKey.decode, PrivateKey.decode):
        try:
            decode(data)
        except InvalidKey:
            pass


def test_oversized_keys_never_reach_a_parser() -> None:
    with pytest.raises(InvalidKey, match="the limit is 1200"):
        PublicKey.decode(protobuf(0, bytes(MAX_ENCODED_PUBLIC)))
    with pytest.raises(InvalidKey, match="the limit is 1200"):
        PublicKey(KeyType.RSA, bytes(MAX_ENCODED_PUBLIC + 1))
    with pytest.raises(InvalidKey, match="the limit is 6000"):
        PrivateKey.decode(protobuf(0, bytes(MAX_ENCODED_PRIVATE)))


# --- what each kind refuses ------------------------------------------------------------------------


def rsa_public(bits: int, exponent: int = 65537) -> bytes:
    """The PKIX of a made-up modulus: nobody needs its factors to present it."""
    modulus = (1 << (bits - 1)) | 0x10001
    return pkix(rsa.RSAPublicNumbers(exponent, modulus).public_key())


@pytest.mark.parametrize("bits", [1024, 2047, 8193, 9000])
def test_rsa_keys_out_of_bounds_are_refused_before_any_verification(bits: int) -> None:
    with pytest.raises(InvalidKey, match=f"{bits} bits"):
        PublicKey(KeyType.RSA, rsa_public(bits))


@pytest.mark.parametrize("bits", [2048, 4096, 8192])
def test_rsa_keys_within_bounds_are_read(bits: int) -> None:
    encoded = protobuf(0, rsa_public(bits))
    assert len(encoded) <= MAX_ENCODED_PUBLIC
    assert PublicKey.decode(encoded).encode() == encoded


def test_an_rsa_key_without_its_null_parameters_is_refused_as_a_second_encoding() -> None:
    raw = rsa_public(2048)
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    assert raw.startswith(b"\x30\x82\x01\x22" + algorithm)
    shorter = b"\x30\x82\x01\x20\x30\x0b" + algorithm[2:-2] + raw[4 + len(algorithm) :]
    with pytest.raises(InvalidKey, match="unusual"):
        PublicKey(KeyType.RSA, shorter)


def test_an_rsa_private_key_that_is_too_small_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024)
    raw = small.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    with pytest.raises(InvalidKey, match="1024 bits"):
        PrivateKey.decode(protobuf(0, raw))


def test_an_rsa_key_with_a_huge_exponent_is_refused() -> None:
    with pytest.raises(InvalidKey, match="exponent"):
        PublicKey(KeyType.RSA, rsa_public(2048, (1 << 31) + 11))


def test_a_der_key_of_another_kind_is_refused() -> None:
    p256 = pkix(ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(InvalidKey, match="another kind"):
        PublicKey(KeyType.RSA, p256)
    with pytest.raises(InvalidKey, match="another curve"):
        PublicKey(KeyType.ECDSA, rsa_public(2048))
    with pytest.raises(InvalidKey, match="another curve"):
        PublicKey(KeyType.ECDSA, pkix(ec.generate_private_key(ec.SECP256K1()).public_key()))
    with pytest.raises(InvalidKey):
        PublicKey(KeyType.RSA, pkix(dsa.generate_private_key(1024).public_key()))
    with pytest.raises(InvalidKey, match="another kind"):
        PrivateKey.decode(protobuf(0, PrivateKey.generate(KeyType.ECDSA).encode()[4:]))
    with pytest.raises(InvalidKey, match="another curve"):
        PrivateKey.decode(protobuf(3, key_of(KeyType.RSA).encode()[5:]))


def test_an_ecdsa_key_with_a_compressed_point_is_refused_as_a_second_encoding() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    header = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    with pytest.raises(InvalidKey, match="unusual"):
        PublicKey(KeyType.ECDSA, header + point)


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_the_three_nist_curves_are_read(curve: type[ec.EllipticCurve]) -> None:
    raw = pkix(ec.generate_private_key(curve()).public_key())
    assert PublicKey(KeyType.ECDSA, raw).raw() == raw


def test_an_old_ed25519_private_key_of_96_bytes_is_read_if_both_public_halves_agree() -> None:
    key = key_of(KeyType.ED25519)
    raw = key.encode()[4:]
    assert PrivateKey.decode(protobuf(1, raw + raw[32:])).encode() == key.encode()
    for wrong in (raw + bytes(32), raw[:32] + bytes(32), raw[:32] + bytes(32) + raw[32:]):
        with pytest.raises(InvalidKey, match="public half"):
            PrivateKey.decode(protobuf(1, wrong))


@pytest.mark.parametrize("size", [0, 31, 32, 33, 63, 65, 128])
def test_an_ed25519_private_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidKey, match="64 bytes"):
        PrivateKey.decode(protobuf(1, bytes(size)))


@pytest.mark.parametrize(("key_type", "size"), [(KeyType.ED25519, 31), (KeyType.ED25519, 33), (KeyType.SECP256K1, 32)])
def test_a_raw_public_key_of_another_size_is_refused(key_type: KeyType, size: int) -> None:
    with pytest.raises(InvalidKey, match="bytes, not"):
        PublicKey(key_type, bytes(size))


@pytest.mark.parametrize("raw", ["00" * 32, "ff" * 32, "00", "01" * 33])
def test_a_secp256k1_private_key_out_of_range_is_refused(raw: str) -> None:
    with pytest.raises(InvalidKey, match="secp256k1"):
        PrivateKey.decode(protobuf(2, bytes.fromhex(raw)))


@pytest.mark.parametrize("raw", ["02" + "ff" * 32, "05" + "11" * 32, "00" * 33, "04" + "11" * 64])
def test_a_secp256k1_public_key_off_the_curve_or_uncompressed_is_refused(raw: str) -> None:
    with pytest.raises(InvalidKey, match="secp256k1"):
        PublicKey(KeyType.SECP256K1, bytes.fromhex(raw))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(InvalidKey, match="32 bytes"):
        PrivateKey.from_seed(bytes(size))


# --- values ----------------------------------------------------------------------------------------


def test_equal_keys_are_equal_and_hash_equal() -> None:
    alice = key_of(KeyType.ED25519).public_key
    again = PublicKey.decode(alice.encode())
    assert alice == again
    assert hash(alice) == hash(again)
    assert alice != PrivateKey.from_seed(bytes(32)).public_key
    assert alice != alice.encode()


@EACH_TYPE
def test_the_repr_of_a_private_key_does_not_show_it(key_type: KeyType) -> None:
    key = key_of(key_type)
    assert repr(key) == f"<PrivateKey {key_type.name} of {key.public_key.peer_id()!r}>"
    assert repr(key.public_key) == f"<PublicKey {key_type.name} of {key.public_key.peer_id()!r}>"


def test_encoding_and_peer_id_are_made_once() -> None:
    public = key_of(KeyType.ED25519).public_key
    assert public.encode() is public.encode()
    assert public.peer_id() is public.peer_id()
