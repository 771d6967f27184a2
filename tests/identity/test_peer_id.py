"""Peer ids: the specification's examples, every text form, one id per text, and order."""

from __future__ import annotations

import copy
import pickle

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.errors import InvalidKey, InvalidPeerId
from py_p2pstack.identity import KeyType, PeerId, PrivateKey

SHA = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
SHA_CID = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"
INLINE = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"

IDS = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda digest: PeerId(b"\x12\x20" + digest)),
    st.binary(min_size=1, max_size=42).map(lambda key: PeerId(bytes((0, len(key))) + key)),
)


def base36(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits


def test_the_specifications_examples_are_read_and_written() -> None:
    peer = PeerId.parse(SHA)
    assert PeerId.parse(SHA_CID) == peer
    assert peer.to_cid() == SHA_CID
    assert str(peer) == SHA
    assert str(PeerId.parse(INLINE)) == INLINE


@given(IDS)
def test_every_form_of_an_id_is_read_back(peer: PeerId) -> None:
    cid = b"\x01\x72" + peer.to_bytes()
    for text in (
        str(peer),
        peer.to_cid(),
        "B" + peer.to_cid()[1:].upper(),
        "f" + cid.hex(),
        "F" + cid.hex().upper(),
        "z" + base58.b58encode(cid).decode(),
        "k" + base36(cid),
        "K" + base36(cid).upper(),
    ):
        assert PeerId.parse(text) == peer
    assert PeerId.from_bytes(peer.to_bytes()) == peer


@given(st.text(max_size=150))
def test_any_text_is_an_id_or_invalid(text: str) -> None:
    try:
        peer = PeerId.parse(text)
    except InvalidPeerId:
        return
    assert PeerId.parse(str(peer)) == peer


@given(st.sampled_from([SHA, SHA_CID, INLINE]), st.data())
def test_changed_text_is_an_id_or_invalid(text: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(text) - 1))
    changed = text[:position] + data.draw(st.characters()) + text[position + 1 :]
    try:
        PeerId.parse(changed)
    except InvalidPeerId:
        pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "Qm",
        SHA + " ",
        " " + SHA,
        SHA + "\n",
        SHA[:-1],
        SHA + "1",
        "0" + SHA,
        SHA_CID + "=",
        SHA_CID.replace("bafz", "bafy"),  # another codec
        "f0172 1220" + "00" * 32,
        "k0_1",
        "q" + SHA_CID[1:],
        "baﬀz" + SHA_CID[4:],
        "x" * 200,
    ],
)
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidPeerId, match="not a peer id"):
        PeerId.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x12",
        b"\x12\x20" + bytes(31),
        b"\x12\x20" + bytes(33),
        b"\x12\x1f" + bytes(31),
        b"\x13\x40" + bytes(64),  # sha-512
        b"\x00\x00",
        b"\x00\x02a",
        b"\x00\x2b" + bytes(43),
        bytes(1 << 16),
    ],
)
def test_bytes_that_are_no_id_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidPeerId, match="not a peer id"):
        PeerId(data)


@given(st.binary(max_size=50))
def test_any_bytes_are_an_id_or_invalid(data: bytes) -> None:
    try:
        peer = PeerId(data)
    except InvalidPeerId:
        return
    assert peer.to_bytes() == data


@pytest.mark.parametrize("key_type", [KeyType.ED25519, KeyType.SECP256K1])
def test_small_keys_are_inlined_and_come_out_again(key_type: KeyType) -> None:
    key = PrivateKey.generate(key_type).public_key
    assert key.peer_id().public_key() == key
    assert key.peer_id().to_bytes()[2:] == key.encode()


def test_large_keys_are_hashed_and_do_not_come_out() -> None:
    key = PrivateKey.generate(KeyType.ECDSA).public_key
    assert str(key.peer_id()).startswith("Qm")
    assert key.peer_id().public_key() is None


def test_an_inlined_key_that_is_none_is_an_invalid_key() -> None:
    peer = PeerId(b"\x00\x05hello")
    with pytest.raises(InvalidKey):
        peer.public_key()


def test_the_boundary_of_inlining_is_42_bytes() -> None:
    assert PeerId.from_public_key(bytes(42)).to_bytes()[:2] == b"\x00\x2a"
    assert PeerId.from_public_key(bytes(43)).to_bytes()[:2] == b"\x12\x20"


@given(IDS, IDS)
def test_ids_compare_as_their_bytes_do(one: PeerId, other: PeerId) -> None:
    assert (one == other) == (one.to_bytes() == other.to_bytes())
    assert (one < other) == (one.to_bytes() < other.to_bytes())
    assert (one >= other) == (one.to_bytes() >= other.to_bytes())
    assert hash(one) == hash(PeerId(one.to_bytes()))


def test_an_id_equals_no_other_kind_of_thing() -> None:
    peer = PeerId.parse(SHA)
    assert peer != peer.to_bytes()
    assert peer != str(peer)
    with pytest.raises(TypeError):
        assert peer < peer.to_bytes()


def test_an_id_survives_pickling_and_copying() -> None:
    peer = PeerId.parse(INLINE)
    assert pickle.loads(pickle.dumps(peer)) == peer
    assert copy.deepcopy(peer) == peer


def test_the_text_is_made_once_and_the_repr_is_short() -> None:
    peer = PeerId.parse(INLINE)
    assert str(peer) is str(peer)
    assert repr(peer) == "<PeerId AJU5SA>"
