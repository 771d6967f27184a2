"""XSalsa20: HSalsa20, once a connection, makes the key for Salsa20, whose bulk is pycryptodome's C.

Source: D. J. Bernstein, "Extending the Salsa20 nonce".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from py_p2pstack.errors import SecurityError

NONCE_SIZE = 24
_SIGMA = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
_MASK = 0xFFFFFFFF
# which words a double round mixes: four columns, then four rows
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip


def require() -> Callable[..., Any]:
    """pycryptodome's Salsa20. Raises SecurityError that says what to install."""
    try:
        from Crypto.Cipher import Salsa20
    except ImportError:
        raise SecurityError('private networks need an extra: pip install "py-p2pstack[pnet]"') from None
    make: Callable[..., Any] = Salsa20.new
    return make


def xsalsa20(key: bytes, nonce: bytes) -> Callable[..., bytes]:
    """A function that XORs the next bytes it is given with the key stream, into `output` if told so."""
    cipher = require()(hsalsa20(key, nonce[:16]), nonce[16:])
    scramble: Callable[..., bytes] = cipher.encrypt
    return scramble


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Derive a 32-byte key from a 32-byte key and the first 16 bytes of a nonce."""
    k, n = struct.unpack("<8I", key), struct.unpack("<4I", nonce)
    x = [_SIGMA[0], *k[:4], _SIGMA[1], *n, _SIGMA[2], *k[4:], _SIGMA[3]]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _rotate(x[a] + x[d], 7)
            x[c] ^= _rotate(x[b] + x[a], 9)
            x[d] ^= _rotate(x[c] + x[b], 13)
            x[a] ^= _rotate(x[d] + x[c], 18)
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _rotate(word: int, by: int) -> int:
    word &= _MASK
    return ((word << by) | (word >> (32 - by))) & _MASK
