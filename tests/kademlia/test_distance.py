"""Keys, distance, and keys made to share a prefix."""

from __future__ import annotations

from hashlib import sha256
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from py_p2pstack.kademlia import cached_keys, common_prefix_length, key_of, random_key, random_preimage

KEYS = st.integers(0, 2**256 - 1)


def test_a_key_is_the_sha256_of_the_bytes() -> None:
    assert key_of(b"hello") == int(sha256(b"hello").hexdigest(), 16)


def test_common_prefix_length_counts_leading_bits() -> None:
    assert common_prefix_length(0, 0) == 256
    assert common_prefix_length(0, 1) == 255
    assert common_prefix_length(0, 1 << 255) == 0
    assert common_prefix_length(0b101 << 253, 0b100 << 253) == 2


@given(KEYS, KEYS, KEYS)
def test_of_two_keys_the_nearer_never_shares_fewer_bits(target: int, a: int, b: int) -> None:
    nearer, farther = sorted((a, b), key=lambda key: key ^ target)
    assert common_prefix_length(nearer, target) >= common_prefix_length(farther, target)


@given(KEYS, st.integers(0, 255), st.integers())
def test_a_random_key_shares_exactly_the_bits_asked_for(local: int, cpl: int, seed: int) -> None:
    key = random_key(local, cpl, Random(seed))
    assert 0 <= key < 2**256
    assert common_prefix_length(key, local) == cpl


def test_no_random_key_shares_all_bits() -> None:
    with pytest.raises(ValueError, match="256"):
        random_key(0, 256, Random(0))


@pytest.mark.parametrize("cpl", [0, 1, 7, 9])
def test_a_random_preimage_hashes_to_a_key_of_the_bucket(cpl: int) -> None:
    local = key_of(b"us")
    preimage = random_preimage(local, cpl, Random(1), prefix=b"\x12\x20", attempts=20_000)
    assert preimage is not None
    assert preimage[:2] == b"\x12\x20"
    assert len(preimage) == 34
    assert common_prefix_length(key_of(preimage), local) == cpl


def test_the_search_for_a_preimage_gives_up_after_the_attempts_allowed() -> None:
    assert random_preimage(key_of(b"us"), 200, Random(1), attempts=10) is None


def test_the_same_seed_finds_the_same_preimage() -> None:
    found = {random_preimage(7, 5, Random(3), attempts=10_000) for _ in range(2)}
    assert len(found) == 1


def test_cached_keys_are_hashed_once_and_bounded() -> None:
    asked: list[str] = []

    def encode(peer: str) -> bytes:
        asked.append(peer)
        return peer.encode()

    keys = cached_keys(encode, 2)
    assert keys("a") == key_of(b"a") == keys("a")
    assert asked == ["a"]
    for peer in "bcb":
        keys(peer)
    keys("a")  # was pushed out by b and c
    assert asked == ["a", "b", "c", "a"]
