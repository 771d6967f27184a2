"""Multibase text → bytes, for the bases in which CIDs are written. Source: multiformats/multibase."""

from __future__ import annotations

import base64

import base58


def decode(text: str) -> bytes:
    """Read base32 (`b…`), base36 (`k…`), base58 (`z…`) or base16 (`f…`) text. Raises ValueError for anything else."""
    if not (text.isascii() and text.isalnum()):  # the decoders below forgive white space, padding, underscores
        raise ValueError(f"not multibase: {text[:80]!r}")
    base, digits = text[0], text[1:]
    if base in "bB":
        return base64.b32decode(digits.upper() + "=" * (-len(digits) % 8))
    if base in "kK":
        zeros = len(digits) - len(digits.lstrip("0"))  # each is a byte, as in base58
        number = int(digits, 36) if digits else 0
        return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if base == "z":
        return base58.b58decode(digits)
    if base in "fF":
        return bytes.fromhex(digits)
    raise ValueError(f"no multibase prefix: {base!r}")
