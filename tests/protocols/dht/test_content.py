"""The keys of content: multihashes, and CIDs in all their forms."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.protocols.dht.content import MAX_MULTIHASH, content_key, is_multihash

V0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"  # no bytes at all
V1 = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"  # the same in another codec
MULTIHASH = bytes.fromhex("1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


def test_a_cid_of_either_version_gives_the_same_key() -> None:
    assert content_key(V0) == content_key(V1) == content_key("/ipfs/" + V1) == MULTIHASH


@given(st.integers(0, 2**40), st.binary(min_size=1, max_size=64))
def test_every_form_of_a_cid_is_read(codec: int, digest: bytes) -> None:
    from py_p2pstack.wire import varint

    multihash = b"\x12" + bytes([len(digest)]) + digest
    cid = b"\x01" + varint.encode(codec) + multihash
    base32 = "b" + base64.b32encode(cid).decode().rstrip("=").lower()
    for text in ("f" + cid.hex(), base32, base32.upper()):
        assert content_key(text) == multihash
    assert content_key(multihash) == multihash


@pytest.mark.parametrize(
    "content",
    [
        "", "Qm", "Qm" + "0" * 44, "f01", "f0170", "f0270" + MULTIHASH.hex(), "f0170" + MULTIHASH.hex()[:-2], "b" * 300,
        "hello", b"", b"\x12", b"\x12\x20", MULTIHASH + b"x", MULTIHASH[:-1], b"\x00\x00", b"\xff" * 20,
        b"\x92\x00\x01a", bytes([0, 79]) + bytes(79),
    ],
)  # fmt: skip
def test_what_is_no_multihash_is_refused(content: bytes | str) -> None:
    with pytest.raises(ValueError, match="not a"):
        content_key(content)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_multihash_or_not(data: bytes) -> None:
    if is_multihash(data):
        assert 2 < len(data) <= MAX_MULTIHASH
        assert content_key(data) == data
