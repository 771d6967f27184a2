"""RSA: PKIX public keys, PKCS #1 private keys, PKCS #1 v1.5 signatures over SHA-256.

Sizes are checked when a key is read, before anything is computed with it: a huge modulus costs seconds a
verification (CVE-2023-39533).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature as _Invalid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from py_p2pstack.errors import InvalidKey, InvalidSignature

MIN_BITS = 2048
MAX_BITS = 8192
_MAX_EXPONENT = (1 << 31) - 1  # as Go's crypto/rsa: a large one is another way to make a verification slow


def generate() -> rsa.RSAPrivateKey:
    """Make a fresh private key of 2048 bits."""
    return rsa.generate_private_key(65537, MIN_BITS)


def load_private(raw: bytes) -> rsa.RSAPrivateKey:
    """Read PKCS #1 DER."""
    try:
        private = serialization.load_der_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey("an RSA private key that is no PKCS #1") from None
    if not isinstance(private, rsa.RSAPrivateKey):
        raise InvalidKey("a private key of another kind in the place of an RSA key")
    _check_size(private.key_size)
    return private


def load_public(raw: bytes) -> rsa.RSAPublicKey:
    """Read PKIX DER."""
    try:
        public = serialization.load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey("an RSA public key that is no PKIX") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise InvalidKey("a public key of another kind in the place of an RSA key")
    _check_size(public.key_size)
    if public.public_numbers().e > _MAX_EXPONENT:
        raise InvalidKey("an RSA public key with a huge exponent")
    if _encode_public(public) != raw:  # one key, one encoding, one peer id
        raise InvalidKey("an RSA public key in an unusual encoding")
    return public


def _check_size(bits: int) -> None:
    if not MIN_BITS <= bits <= MAX_BITS:
        raise InvalidKey(f"an RSA key of {bits} bits; {MIN_BITS} to {MAX_BITS} are allowed")


def private_raw(private: rsa.RSAPrivateKey) -> bytes:
    """PKCS #1 DER."""
    return private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def public_raw(private: rsa.RSAPrivateKey) -> bytes:
    """The public half as PKIX DER."""
    return _encode_public(private.public_key())


def _encode_public(public: rsa.RSAPublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(private: rsa.RSAPrivateKey, data: bytes) -> bytes:
    """Sign SHA-256 of `data`."""
    return private.sign(data, padding.PKCS1v15(), SHA256())


def verify(public: rsa.RSAPublicKey, data: bytes, signature: bytes) -> None:
    """Check a signature."""
    try:
        public.verify(signature, data, padding.PKCS1v15(), SHA256())
    except (_Invalid, ValueError):
        raise InvalidSignature("the RSA signature does not verify") from None
