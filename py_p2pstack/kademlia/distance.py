"""Keys and the XOR metric: a key is the SHA-256 of some bytes, read as a 256-bit big-endian integer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import TypeVar

P = TypeVar("P", bound=Hashable)

KEY_BITS = 256


def key_of(data: bytes) -> int:
    """The key of a record key or of a peer id's bytes."""
    return int.from_bytes(sha256(data).digest(), "big")


def cached_keys(encode: Callable[[P], bytes], size: int) -> Callable[[P], int]:
    """Return `key_of(encode(peer))` as a function that remembers the last `size` peers."""

    @lru_cache(maxsize=size)
    def key_of_peer(peer: P) -> int:
        return key_of(encode(peer))

    return key_of_peer


def common_prefix_length(a: int, b: int) -> int:
    """How many leading bits two keys share: 0..256. The distance itself is `a ^ b`."""
    return KEY_BITS - (a ^ b).bit_length()


def random_key(local: int, cpl: int, rng: Random) -> int:
    """A random key that shares exactly `cpl` (0..255) leading bits with `local`."""
    if not 0 <= cpl < KEY_BITS:
        raise ValueError(f"no key shares exactly {cpl} of {KEY_BITS} bits")
    below = KEY_BITS - cpl - 1  # bits behind the first that differs
    return ((local >> below) ^ 1) << below | rng.getrandbits(below)


def random_preimage(local: int, cpl: int, rng: Random, *, prefix: bytes = b"", attempts: int) -> bytes | None:
    """Search `prefix` + 32 random bytes whose *key* shares exactly `cpl` leading bits with `local`.

    A request names what is looked for by its bytes, not by its key, so refreshing a far bucket takes a search: about
    2^(cpl + 1) attempts of 0.7 µs. None after `attempts`: the caller yields to others and calls again. (go-libp2p
    keeps a table of 65,536 prepared ids instead, which makes the ids asked for predictable.)
    """
    start = rng.getrandbits(256)
    for count in range(attempts):
        candidate = prefix + (start + count & (1 << 256) - 1).to_bytes(32, "big")
        if common_prefix_length(key_of(candidate), local) == cpl:
            return candidate
    return None
