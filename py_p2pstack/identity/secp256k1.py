"""secp256k1: 33-byte compressed public keys, 32-byte private keys, DER signatures over SHA-256.

An uncompressed public key (65 bytes) is refused: it would be a second encoding of the same identity.
"""

from __future__ import annotations

import hashlib

import coincurve
from coincurve.ecdsa import cdata_to_der, der_to_cdata, signature_normalize

from py_p2pstack.errors import InvalidKey, InvalidSignature

_MAX_SIGNATURE = 72


def generate() -> coincurve.PrivateKey:
    """Make a fresh private key."""
    return coincurve.PrivateKey()


def load_private(raw: bytes) -> coincurve.PrivateKey:
    """Read 32 bytes, in the range of the group."""
    if len(raw) != 32:
        raise InvalidKey(f"a secp256k1 private key has 32 bytes, not {len(raw)}")
    try:
        return coincurve.PrivateKey(raw)
    except ValueError:
        raise InvalidKey("a secp256k1 private key out of range") from None


def load_public(raw: bytes) -> coincurve.PublicKey:
    """Read 33 bytes, a compressed point on the curve."""
    if len(raw) != 33:
        raise InvalidKey(f"a secp256k1 public key has 33 bytes, not {len(raw)}")
    try:
        return coincurve.PublicKey(raw)
    except ValueError:
        raise InvalidKey("a secp256k1 public key that is no point on the curve") from None


def private_raw(private: coincurve.PrivateKey) -> bytes:
    """The 32 bytes."""
    return private.secret


def public_raw(private: coincurve.PrivateKey) -> bytes:
    """The compressed public half."""
    return private.public_key.format(compressed=True)


def sign(private: coincurve.PrivateKey, data: bytes) -> bytes:
    """Sign SHA-256 of `data`; DER, low S."""
    return private.sign(data)


def verify(public: coincurve.PublicKey, data: bytes, signature: bytes) -> None:
    """Check a DER signature. A high S is taken too, as go-libp2p takes it; libsecp256k1 itself would not."""
    if len(signature) > _MAX_SIGNATURE:
        raise InvalidSignature(f"a secp256k1 signature of {len(signature)} bytes")
    try:
        _, normalized = signature_normalize(der_to_cdata(signature))
        valid = public.verify(cdata_to_der(normalized), hashlib.sha256(data).digest(), None)
    except ValueError:
        valid = False
    if not valid:
        raise InvalidSignature("the secp256k1 signature does not verify")
