"""ECDSA on the NIST curves: PKIX public keys, SEC 1 private keys, DER signatures over SHA-256."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature as _Invalid
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from py_p2pstack.errors import InvalidKey, InvalidSignature

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def generate() -> ec.EllipticCurvePrivateKey:
    """Make a fresh private key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def load_private(raw: bytes) -> ec.EllipticCurvePrivateKey:
    """Read SEC 1 DER."""
    try:
        private = serialization.load_der_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKey("an ECDSA private key that is no SEC 1") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, _CURVES):
        raise InvalidKey("an ECDSA private key on another curve than P-256, P-384 or P-521")
    return private


def load_public(raw: bytes) -> ec.EllipticCurvePublicKey:
    """Read PKIX DER."""
    try:
        public = serialization.load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey("an ECDSA public key that is no PKIX") from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, _CURVES):
        raise InvalidKey("an ECDSA public key on another curve than P-256, P-384 or P-521")
    if _encode_public(public) != raw:  # one key, one encoding, one peer id
        raise InvalidKey("an ECDSA public key in an unusual encoding")
    return public


def private_raw(private: ec.EllipticCurvePrivateKey) -> bytes:
    """SEC 1 DER."""
    return private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def public_raw(private: ec.EllipticCurvePrivateKey) -> bytes:
    """The public half as PKIX DER."""
    return _encode_public(private.public_key())


def _encode_public(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(private: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Sign SHA-256 of `data`; DER."""
    return private.sign(data, ec.ECDSA(SHA256()))


def verify(public: ec.EllipticCurvePublicKey, data: bytes, signature: bytes) -> None:
    """Check a DER signature."""
    try:
        public.verify(signature, data, ec.ECDSA(SHA256()))
    except (_Invalid, ValueError):
        raise InvalidSignature("the ECDSA signature does not verify") from None
